"""The processes of one run: how they find each other, and how they agree.

A process is one of several where it is told so (`JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
`JAX_PROCESS_ID`, as launch/local.sh sets them), as a task of a Slurm step, and on a host of a TPU
slice. One that dies takes the others down: they notice within `HEARTBEAT` seconds, and jax aborts
them. Whoever started them starts all of them again.
"""

import collections
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from orbax.checkpoint.multihost import get_barrier_sync_fn

from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import replicated, to_devices

HEARTBEAT = 20  # seconds; all are down 45 seconds after one was killed
PATIENCE = 1800  # seconds; compiling takes one process longer than another
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join() -> None:
    """Joins the other processes of this run, if it has any; call it before any other use of jax.

    Raises UserError for variables that say it half or wrongly. Where the others do not come it ends
    this process with exit code 1: that may be worth another try, a user's error is not.
    """
    if jax.distributed.is_initialized():
        return
    told = _told()
    if told is None and not _in_slurm_step() and not _on_tpu_host():
        return
    # Its handler of SIGTERM would take the place of ours (stopping.py).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **(told or {}),
            cluster_detection_method="deactivate" if told else None,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        raise UserError(f"the processes of this run cannot be told apart: {error}") from error
    except RuntimeError as error:
        sys.exit(f"error: the processes of this run do not find each other: {error}")
    if jax.process_index() > 0:  # only the first one speaks
        logging.set_verbosity(logging.ERROR)


def _told() -> dict | None:
    values = [os.environ.get(name) for name in _VARIABLES]
    if not any(values[1:]):  # the address alone is jax's own affair
        return None
    address, count, index = values
    if not address or ":" not in address:
        raise UserError(f"{_VARIABLES[0]} = {address!r} must be HOST:PORT of process 0")
    for name, value in zip(_VARIABLES[1:], values[1:], strict=True):
        if not (value or "").isdecimal():
            raise UserError(f"{name} = {value!r} must be a number: set all of {_VARIABLES}")
    if not int(index) < int(count):
        raise UserError(f"{_VARIABLES[2]} = {index} must be below {_VARIABLES[1]} = {count}")
    told = {"coordinator_address": address, "num_processes": int(count), "process_id": int(index)}
    return told if int(count) > 1 else None


def _in_slurm_step() -> bool:
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def _on_tpu_host() -> bool:
    """On a TPU virtual machine, jax asks it how many hosts the slice has (one is no trouble)."""
    devices = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    return bool(
        "tpu" in wanted
        and devices
        and importlib.util.find_spec("libtpu")
        and "TPU_SKIP_MDS_QUERY" not in os.environ
    )


def by_first(decide: Callable[[], object]):
    """What `decide` returns in process 0 (plain JSON values), in all processes.

    A UserError of `decide` is raised in all of them. All processes make this call.
    """
    if jax.process_count() == 1:
        return decide()
    answer = b""
    if jax.process_index() == 0:
        try:
            answer = json.dumps({"value": decide()}).encode()
        except UserError as error:
            answer = json.dumps({"error": str(error)}).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(answer))))
    padded = np.frombuffer(answer.ljust(size, b"\0"), np.uint8)
    heard = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())
    if "error" in heard:
        raise UserError(heard["error"])
    return heard["value"]


def any_fails(error: UserError | None) -> None:
    """Raises UserError in all processes if one of them gives one. All make this call."""
    failed = np.asarray(error is not None)
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(failed)
    if error is not None:
        raise error
    if failed.any():
        raise UserError(f"process {int(np.argmax(failed))} has an error: see what it says")


def meet(name: str) -> None:
    """Waits for all processes, without the devices: those give up on one that comes late.

    Each `name` is used once.
    """
    if jax.process_count() > 1:
        get_barrier_sync_fn()(key=name, timeout_ms=PATIENCE * 1000)


class Wish(IntEnum):
    """What a process wants all of them to do before the next iteration; the greatest wins."""

    GO_ON = 0
    STOP = 1  # save and end: someone wants the machine back
    FAULT = 2  # save and end: this process has no data to go on with
    LOST = 3  # end without saving: the workdir is another run's


class Agreement:
    """What all processes do, decided before each iteration without waiting for the devices.

    A wish is heard `delay` calls after it was made, by all processes in the same call: the answer
    of a call is what was asked in an earlier one, which the devices have long computed. In a run of
    one process the delay is 0.
    """

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self.delay = 2 if jax.process_count() > 1 else 0
        self._asked = collections.deque()
        self._max = jax.jit(jnp.max, out_shardings=replicated(mesh))

    def __call__(self, wish: Wish) -> Wish:
        """Makes a wish; all processes call it equally often."""
        if not self.delay:
            return wish
        self._asked.append(self._ask(wish))
        return self._hear(self._asked.popleft()) if len(self._asked) > self.delay else Wish.GO_ON

    def now(self, wish: Wish) -> Wish:
        """The same, but waits for all the others."""
        return self._hear(self._ask(wish)) if self.delay else wish

    def _ask(self, wish: Wish) -> jax.Array:
        own = np.full(len(self._mesh.local_devices), wish, np.int32)
        return self._max(to_devices(self._mesh, {"wish": own})["wish"])

    @staticmethod
    def _hear(answer: jax.Array) -> Wish:
        return Wish(int(jax.device_get(answer)))
