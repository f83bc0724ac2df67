"""Real processes through jax.distributed: the same run, the same stops, the same faults."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.environment import ROOT, environment
from helpers.processes import Processes
from helpers.runs import DIGITS, TINY, assert_same_run, overrides

from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime import processes
from inr_gan_jax.storage.checkpoint import Checkpoints

KEYS = overrides(*TINY, "log.metrics_kimg=0.008", "log.grid_kimg=0.4",
                 "log.checkpoint_kimg=0.08", "evaluate.metrics=fd_pixel100_full",
                 "evaluate.kimg=0.4", "train.kimg=0.8")  # fmt: skip


@pytest.fixture(scope="module")
def env(tmp_path_factory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whole(env, tmp_path_factory) -> Path:
    """The workdir of an uninterrupted run of two processes."""
    here = tmp_path_factory.mktemp("whole")
    run = Processes(2, env, here / "logs", DIGITS, f"--workdir={here / 'run'}", *KEYS)
    assert run.wait() == [0, 0], run.said(0) + run.said(1)
    return here / "run"


@pytest.mark.slow
def test_two_processes_leave_one_run_and_one_speaks(whole):
    """That they train as one does: train/test_devices.py."""
    logs = whole.parent / "logs"
    said = (logs / "0.log").read_text()
    assert "2 x cpu (cpu) in 2 processes" in said and "done: 0.8 kimg" in said
    spoken = [line for line in (logs / "1.log").read_text().splitlines() if "Gloo" not in line]
    assert spoken == []
    assert sorted(path.name for path in whole.glob("samples/*")) == [
        "000000000.png", "000000400.png", "000000800.png", "real.png"
    ]  # fmt: skip
    found = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [result["kimg"] for result in found] == [0.4, 0.8]
    assert len(list(whole.glob("events*"))) == 1


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_same_iteration_in_all(whole, env, tmp_path):
    work = f"--workdir={tmp_path / 'run'}"
    run = Processes(2, env, tmp_path / "logs", DIGITS, work, *KEYS)
    run.until_said("kimg 0.2/0.8")
    run.running[1].send_signal(signal.SIGTERM)
    assert run.wait() == [0, 0], run.said(0) + run.said(1)
    assert "stopped and saved at" in run.said(0)
    again = Processes(2, env, tmp_path / "logs", DIGITS, work, *KEYS)
    assert again.wait() == [0, 0], again.said(0) + again.said(1)
    assert "going on from" in again.said(0)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_takes_the_others_down_and_they_resume(whole, env, tmp_path, victim):
    work = f"--workdir={tmp_path / 'run'}"
    run = Processes(2, env, tmp_path / "logs", DIGITS, work, *KEYS)
    run.until_said("kimg 0.3/0.8")
    run.running[victim].kill()
    killed = time.monotonic()
    statuses = run.wait(60)
    assert time.monotonic() - killed < 45
    assert statuses[victim] == -signal.SIGKILL and statuses[1 - victim] not in (0, 2)
    again = Processes(2, env, tmp_path / "logs", DIGITS, work, *KEYS)
    assert again.wait() == [0, 0], again.said(0) + again.said(1)
    assert "going on from" in again.said(0)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_processes_without_a_shared_workdir_are_told(env, tmp_path):
    workdirs = [tmp_path / "a", tmp_path / "b"]
    run = Processes(2, env, tmp_path / "logs", DIGITS, *KEYS, workdirs=workdirs)
    assert run.wait(120) == [2, 2]
    assert "give a --workdir that all processes share" in run.said(1)
    assert "process 1 has an error" in run.said(0)
    assert not list(tmp_path.glob("?/checkpoints/*"))


@pytest.mark.slow
def test_data_that_one_process_cannot_read_end_all(env, tmp_path):
    """The process that reads it names the file; all save the same iteration and end."""
    digits = open_source("digits", height=16, width=16, channels=1, labels=True)
    from PIL import Image

    for i in range(64):
        image, label = digits[i]
        folder = tmp_path / "photos" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    data = overrides(f"data.source={tmp_path / 'photos'}", "data.labels=False")
    work = f"--workdir={tmp_path / 'run'}"
    run = Processes(2, env, tmp_path / "logs", DIGITS, work, *KEYS, *data)
    run.until_said("kimg 0.2/0.8")
    shutil.rmtree(tmp_path / "photos")
    assert run.wait(120) == [2, 2], run.said(0) + run.said(1)
    assert ".png" in run.said(0) + run.said(1)
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() and checkpoints.metadata()["images"] >= 200


@pytest.mark.slow
def test_a_run_killed_thirty_times_ends_with_the_same_bits(env, tmp_path):
    """kill -9 at random moments, during saves too (every second iteration saves)."""
    keys = [*KEYS, *overrides("log.checkpoint_kimg=0.016", "train.kimg=2")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "inr_gan_jax.main", DIGITS, *keys]
    straight = subprocess.run([*command, f"--workdir={whole}"], cwd=ROOT, env=env)
    assert straight.returncode == 0
    rng, kills, log = random.Random(0), 0, tmp_path / "log"
    while True:
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*command, f"--workdir={killed}"], cwd=ROOT, env=env,
                stdout=file, stderr=file, process_group=0,
            )  # fmt: skip
        before = newest(killed)
        while kills < 30 and newest(killed) < before + 2 and process.poll() is None:
            time.sleep(0.01)
        if kills < 30:
            time.sleep(rng.random() * 0.3)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if status == 0:
            break
        assert status == -signal.SIGKILL, log.read_text()
        kills += 1
    assert kills == 30, log.read_text()
    assert "damaged" not in log.read_text()
    assert_same_run(killed, whole)


def newest(workdir: Path) -> int:
    """The iteration of the newest finished checkpoint, 0 where there is none."""
    found = (workdir / "checkpoints").glob("*/manifest.json")
    return max((int(path.parent.name) for path in found), default=0)


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "must be HOST:PORT"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2"}, "JAX_PROCESS_ID = None"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "JAX_PROCESS_ID = 2 must be below JAX_NUM_PROCESSES = 2",
        ),
    ],
)
def test_half_of_an_introduction_is_an_error(monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        processes.join()


def test_one_process_decides_alone():
    assert processes.by_first(lambda: [1, "a"]) == [1, "a"]
    with pytest.raises(UserError, match="mine"):
        processes.any_fails(UserError("mine"))
    processes.any_fails(None)
