"""TPUs that are not here: their compiler, libtpu, needs none to compile for them."""

import importlib.util
import os
import re

import jax
from jax.experimental import topologies

from inr_gan_jax.errors import UserError, nearest

# How libtpu is to see each kind: a v4 chip's two cores as one device, as they are used.
KINDS = {"v4": {"chip_config_name": "megacore"}, "v5e": {}, "v5p": {}, "v6e": {}}

# Without these libtpu looks for the chips of this machine, and lets one process in at a time.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def tpu_devices(topology: str) -> list[jax.Device]:
    """Devices to compile for, of a slice such as `v5e:4x4` or `v5p:2x2x2`; this process computes
    on the CPU from then on. UserError without libtpu, and for a slice that cannot be."""
    kind, _, shape = topology.partition(":")
    example = "a kind and its chips, like v5e:4x4 or v5p:2x2x2"
    if kind not in KINDS:
        close = nearest(kind, KINDS)
        raise UserError(f"--topology={topology} must be {example}, of {', '.join(KINDS)}{close}")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        raise UserError(f"--topology={topology} must be {example}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={topology} needs libtpu, the compiler for TPUs: "
            "pip install -c constraints.txt -e .[tpu] (no TPU is needed)"
        )
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # of no use without the devices
    options = dict(KINDS[kind])
    if set(shape) <= set("1x"):  # by default hosts have 2x2 chips
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        why = str(error).splitlines()[0].split(": ", 1)[-1]
        raise UserError(f"--topology={topology}: {why}; it must be {example}") from error
    return found.devices
