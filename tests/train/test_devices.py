"""Training on many devices equals training on one, and devices exchange only what they must."""

import dataclasses
import functools
import itertools
import json
import math
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.environment import ROOT, environment
from helpers.topologies import config_of

from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.loop import train
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import Trainer

HERE = ROOT / "tests" / "helpers"
FLOAT = 4  # bytes


def command(*arguments, devices: int = 8, **variables) -> subprocess.Popen:
    """A Python program that starts on so many devices of the host."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment(devices=devices, **variables), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def output(*processes: subprocess.Popen) -> str:
    """What the first of them prints, when all have ended well."""
    try:
        said = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), said
    return said[0][0]


# What devices exchange: (fsdp, microbatches, phase). Eight devices, nothing runs.
WORKING = [phase.name for phase in Phase if phase != Phase.FINISH]
QUICK = ((1, 1, "G_MAIN"), (1, 1, "G_PATH"), (1, 1, "D_MAIN"), (1, 1, "D_R1"),
         (1, 2, "D_R1"), (2, 2, "D_MAIN"))  # fmt: skip
ALL = tuple(itertools.product((1, 2), (1, 2), WORKING))
SLOW = tuple(case for case in ALL if case not in QUICK)
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
# Means over the batch of what a phase reports or adjusts by: losses, logits, path lengths.
MEANS = {"G_MAIN": 2, "G_PATH": 3, "D_MAIN": 4, "D_R1": 1}
CLASSES, W_DIM = 10, 64
# Networks whose parameters a phase needs; the first one learns.
USED = {"G_MAIN": "gd", "G_PATH": "g", "D_MAIN": "dg", "D_R1": "d"}


@functools.cache
def exchanges(cases: tuple) -> dict[tuple, dict]:
    found = json.loads(output(command(HERE / "exchanges.py", json.dumps(cases))))
    return dict(zip(cases, found, strict=True))


def of_case(*case) -> dict:
    return exchanges(QUICK if case in QUICK else SLOW)[case]


def size(parameters: list[dict]) -> int:
    return sum(FLOAT * math.prod(one["shape"]) for one in parameters)


def named(phase: str) -> int:
    """Bytes that are neither parameters nor gradients: means, and sums of w for each class."""
    sums = CLASSES * (W_DIM + 1) if phase != "D_R1" else 0
    return FLOAT * (MEANS[phase] + sums)


def assert_all_but_a_hundredth(got: int, of: int) -> None:
    """Gradients that are 0 by the formula (of a last bias, say) need no exchange."""
    assert 0.99 * of <= got <= of, (got, of)


def taken(exchanged: list[dict], kind: str, group: int) -> list[dict]:
    """The exchanges of a kind among so many devices, which are removed from the list."""
    these = [one for one in exchanged if (one["kind"], one["group"]) == (kind, group)]
    exchanged[:] = [one for one in exchanged if one not in these]
    return these


def shapes_of(exchanged: list[dict]) -> Counter:
    return Counter(tuple(shape) for one in exchanged for _, shape in one["shapes"])


def total(exchanged: list[dict]) -> int:
    return sum(one["bytes"] for one in exchanged)


@pytest.mark.parametrize("fsdp, microbatches, phase", CASES)
def test_devices_exchange_gradients_and_a_few_numbers(fsdp, microbatches, phase):
    case = of_case(fsdp, microbatches, phase)
    learns = case[USED[phase][0]]
    used = [one for network in USED[phase] for one in case[network]]
    exchanged = list(case["exchanged"])
    assert {one["times"] for one in exchanged} == {1}  # once, not for each microbatch
    whole = [one for one in learns if not one["cut"]]
    reduced = taken(exchanged, "all-reduce", 8)
    if fsdp == 1:
        assert len(whole) == len(learns)
        assert_all_but_a_hundredth(total(reduced) - named(phase), size(learns))
    else:
        cut = [one for one in learns if one["cut"]]
        assert len(cut) > len(whole)
        gathered = taken(exchanged, "all-gather", fsdp)
        parameters = Counter(tuple(one["shape"]) for one in used if one["cut"])
        assert shapes_of(gathered) <= parameters  # each parameter once, and nothing else
        assert_all_but_a_hundredth(total(gathered), size([one for one in used if one["cut"]]))
        scattered = taken(exchanged, "reduce-scatter", fsdp)
        assert shapes_of(scattered) <= Counter(tuple(one["part"]) for one in cut)
        assert_all_but_a_hundredth(total(scattered), size(cut))
        over_data = taken(exchanged, "all-reduce", 8 // fsdp)
        assert total(over_data) == total(scattered) / fsdp
        assert 0 <= total(reduced) - named(phase) <= size(whole)
        assert total(taken(exchanged, "all-reduce", fsdp)) == FLOAT  # how many were not finite
    assert exchanged == []


def test_accumulation_exchanges_nothing_more():
    once, twice = of_case(1, 1, "D_R1"), of_case(1, 2, "D_R1")
    assert total(once["exchanged"]) == total(twice["exchanged"]) > 0


# The same numbers: (processes, devices of each, fsdp, microbatches), against one device.
TOPOLOGIES = {
    "data=8": (1, 8, 1, 1),
    "data=4 fsdp=2": (1, 8, 2, 1),
    "data=8 microbatches=2": (1, 8, 1, 2),
    "data=4 fsdp=2 microbatches=2": (1, 8, 2, 2),
    "2 processes data=8": (2, 4, 1, 1),
    "2 processes data=4 fsdp=2": (2, 4, 2, 1),
}


def run(out: Path, processes: int, devices: int, fsdp: int, microbatches: int, *more) -> dict:
    """The arrays that training on these devices leaves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    told = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    settings = (f"--fsdp={fsdp}", f"--microbatches={microbatches}", f"--out={out}", *more)
    started = [
        command(HERE / "topologies.py", *settings, devices=devices,
                **(told | {"JAX_PROCESS_ID": str(index)} if processes > 1 else {}))
        for index in range(processes)
    ]  # fmt: skip
    print(output(*started))
    with np.load(out) as file:
        return dict(file)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    return functools.cache(
        lambda *more: run(tmp_path_factory.mktemp("one") / "one.npz", 1, 1, 1, 1, *more)
    )


def errors(got: dict, want: dict, least_scale: float) -> dict[str, float]:
    """Largest error of each array, against its largest magnitude or `least_scale`."""
    assert got.keys() == want.keys()
    found = {}
    for name, array in want.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        error = np.abs(got[name].astype(np.float64) - array).max(initial=0)
        found[name] = error / max(np.abs(array).max(initial=0), least_scale)
    print("largest error:", max((value, name) for name, value in found.items()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_ten_iterations_leave_the_state_of_one_device(topology, on_one, tmp_path):
    want = on_one()
    moved = ("ada_p", "ada_signs", "path_mean", "w_avg")
    assert all(want[f"['{name}']"].any() for name in moved) and want["['iteration']"] == 10
    found = errors(run(tmp_path / "many.npz", *TOPOLOGIES[topology]), want, least_scale=1)
    assert max(found.values()) < 1e-8


@pytest.mark.slow
def test_noise_inputs_do_not_depend_on_the_devices(on_one, tmp_path):
    family = "--family=stylegan2"
    many = run(tmp_path / "many.npz", 1, 8, 1, 1, family)
    assert max(errors(many, on_one(family), least_scale=1).values()) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_float32_gradients_are_those_of_one_device(topology, on_one, tmp_path):
    settings = ("--gradients", "--dtype=float32")
    found = errors(
        run(tmp_path / "many.npz", *TOPOLOGIES[topology], *settings), on_one(*settings), 1e-30
    )
    assert {name.split("'")[1] for name in found} == set(WORKING)
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize("phase", [Phase.G_PATH, Phase.D_MAIN])
def test_float64_is_computed_in_float64(phase):
    """No operation gives float32, but for constants that are rounded to it."""
    with jax.enable_x64(True):
        mesh = make_mesh(jax.devices()[:1])
        trainer = Trainer(config_of("inr_gan", 1, 1), [9] * 10, dtype="float64", mesh=mesh)
        arrays = trainer.abstract_state(), trainer.abstract_batch()
        program = str(jax.jit(trainer.steps.function(phase)).trace(*arrays).jaxpr)
    assert ":f64[" in program
    assert re.findall(r":f32\[[^=\n]*= (\w+)", program) == []


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    """All devices count, however they are arranged: here two that hold one copy together."""
    config = config_of("inr_gan", fsdp=2, microbatches=2)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=24))
    source = open_source("digits", height=8, width=8, channels=1, labels=True)
    with pytest.raises(UserError, match=r"= 24 must be a multiple of 16 \(2 .* 16 or 32$"):
        train(config, source, tmp_path / "run")
    assert not (tmp_path / "run").exists()
