"""Runs in Google Cloud Storage, on an emulator of it: what is left, stops, kills, faults."""

import collections
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.environment import ROOT, environment
from helpers.processes import Processes
from helpers.runs import DIGITS, TINY, assert_same_run, overrides
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

gcs_emulator = pytest.importorskip("gcs_emulator")  # which `make test-cloud` can import

pytestmark = pytest.mark.cloud

BUCKET, PRIVATE = gcs_emulator.BUCKET, gcs_emulator.PRIVATE
DATA = f"gs://{BUCKET}/data/x.zip"
KEYS = overrides(*TINY, "log.metrics_kimg=0.008", "log.grid_kimg=0.16", "log.checkpoint_kimg=0.04",
                 "evaluate.metrics=fd_pixel100_full", "evaluate.kimg=0.16", "train.kimg=0.32",
                 f"data.source={DATA}")  # fmt: skip


@pytest.fixture(scope="module")
def cloud():
    with gcs_emulator.emulated() as made:
        made.write("data/x.zip", images())
        yield made


def images() -> bytes:
    """A zip of 128 images of 10 classes."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(128):
            png = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(png, "png")
            archive.writestr(f"{i:03d}.png", png.getvalue())
        labels = [[f"{i:03d}.png", i % 10] for i in range(128)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return file.getvalue()


@pytest.fixture(scope="module")
def env(cloud, tmp_path_factory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("cache")) | cloud.environment


@pytest.fixture(scope="module")
def whole(env, tmp_path_factory) -> Path:
    """The local workdir of an uninterrupted run."""
    here = tmp_path_factory.mktemp("local") / "run"
    train(env, here)
    return here


def start(env: dict, *arguments: str, module: str = "main") -> subprocess.Popen:
    command = [sys.executable, "-m", f"inr_gan_jax.{module}", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run(env: dict, *arguments: str, module: str = "main") -> tuple[int, str]:
    """The exit status, and what was said."""
    process = start(env, *arguments, module=module)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def train(env: dict, workdir) -> str:
    status, said = run(env, DIGITS, *KEYS, f"--workdir={workdir}")
    assert status == 0, said
    assert "Traceback" not in said
    return said


def until(condition, process: subprocess.Popen):
    """What `condition` returns as soon as it is true, while the process runs."""
    limit = time.monotonic() + 300
    while not (found := condition()):
        assert time.monotonic() < limit
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    return found


def fetched(cloud, workdir: str, to: Path) -> Path:
    """A local copy of what lies in gs://bucket/`workdir`."""
    for name in cloud.names(f"{workdir}/"):
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cloud.read(name))
    return to / workdir


def saves(cloud, workdir: str) -> tuple[set[int], set[int]]:
    """The iterations of checkpoints that are finished, and of those that are not."""
    found = collections.defaultdict(set)
    for name in cloud.names(f"{workdir}/checkpoints/"):
        step, _, rest = name.removeprefix(f"{workdir}/checkpoints/").partition("/")
        found[int(step)].add(rest)
    finished = {step for step, names in found.items() if "manifest.json" in names}
    return finished, found.keys() - finished


def assert_complete(cloud, workdir: str, whole: Path, to: Path) -> None:
    """That a run in the bucket left all that a local one leaves, and nothing twice."""
    here = fetched(cloud, workdir, to)
    assert_same_run(here, whole)
    assert saves(cloud, workdir) == ({30, 35, 40}, set())

    def left(folder: Path) -> set[str]:
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
        return {name for name in names if not name.startswith(("checkpoints/", "events."))}

    more = left(here) - left(whole)  # a start from a checkpoint draws what is there
    assert left(whole) <= left(here) and all(name.startswith("samples/0") for name in more)
    for name in ("samples/000000320.png", "samples/real.png"):
        assert (here / name).read_bytes() == (whole / name).read_bytes()
    measured = [[json.loads(line)["value"] for line in (run / "metrics.jsonl").open()]
                for run in (here, whole)]  # fmt: skip
    assert measured[0] == measured[1] and len(measured[0]) == 2
    assert (here / "log.txt").read_text().count("  kimg 0.") == 40
    events = EventAccumulator(str(here), {"scalars": 0, "images": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("loss/g")] == list(range(8, 321, 8))
    drawn = [event.step for event in events.Images("generated")]
    assert drawn == sorted(set(drawn)) and {0, 160, 320} <= set(drawn)


def test_a_run_leaves_all_in_the_bucket(cloud, env, whole, tmp_path):
    said = train(env, f"gs://{BUCKET}/straight")
    assert "done: 0.32 kimg" in said
    assert_complete(cloud, "straight", whole, tmp_path)
    assert len(list(Path(env["INR_GAN_JAX_CACHE"]).glob("data/x.zip-*/x.zip"))) == 1
    for checkpoint, out in ((f"gs://{BUCKET}/straight", f"gs://{BUCKET}/out"), (whole, tmp_path)):
        arguments = (f"--checkpoint={checkpoint}", "--seeds=0-3", "--class_index=1")
        status, said = run(env, *arguments, f"--outdir={out}", module="generate")
        assert status == 0, said
    drawn = [cloud.read(name) for name in cloud.names("out/") if name.endswith(".png")]
    assert drawn == [path.read_bytes() for path in sorted(tmp_path.glob("*.png"))] != []
    evaluated = (DIGITS, *KEYS, "--mode=evaluate", f"--workdir=gs://{BUCKET}/straight")
    status, said = run(env, *evaluated)
    assert status == 0, said
    assert len(cloud.read("straight/metrics.jsonl").splitlines()) == 3


def test_a_save_that_is_killed_is_no_checkpoint(cloud, env, whole, tmp_path):
    """Twice; each time some of its objects are there."""
    workdir = "killed"
    for _ in range(2):
        process = start(env, DIGITS, *KEYS, f"--workdir=gs://{BUCKET}/{workdir}")
        before = max(saves(cloud, workdir)[0], default=0)

        def half(before=before):
            finished, begun = saves(cloud, workdir)
            return max(finished, default=0) > before and begun

        until(half, process)
        process.kill()
        process.communicate()
        finished, begun = saves(cloud, workdir)
        assert finished and begun, "the save was finished before the kill"
        status, said = run(
            env, f"--checkpoint=gs://{BUCKET}/{workdir}/checkpoints/{max(begun)}", "--seeds=0",
            f"--outdir={tmp_path}", module="generate",
        )  # fmt: skip
        assert status == 2 and "no finished checkpoint here" in said
    said = train(env, f"gs://{BUCKET}/{workdir}")
    assert f"going on from {max(finished) * 8 / 1000:g} kimg" in said
    assert_complete(cloud, workdir, whole, tmp_path)


def test_one_run_at_a_time_and_a_signal_saves(cloud, env):
    workdir = f"--workdir=gs://{BUCKET}/stopped"
    endless = [DIGITS, *KEYS, workdir, *overrides("train.kimg=1000", "evaluate.kimg=0")]
    process = start(env, *endless)
    until(lambda: saves(cloud, "stopped")[0], process)
    status, said = run(env, *endless)
    assert status == 2 and f"another run is at work in gs://{BUCKET}/stopped" in said
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "stopped and saved at" in said
    finished, begun = saves(cloud, "stopped")
    assert not begun and "stopped/lock.json" not in cloud.names()
    kimg = (max(finished) + 3) * 8 / 1000
    status, said = run(env, *endless, *overrides(f"train.kimg={kimg}"))
    assert status == 0 and f"going on from {max(finished) * 8 / 1000:g} kimg" in said
    assert max(saves(cloud, "stopped")[0]) == max(finished) + 3


def test_two_processes(cloud, env, tmp_path):
    """Process 1 is killed in a save, process 0 goes down; started again, they end as others did."""
    local = Processes(2, env, tmp_path / "a", DIGITS, f"--workdir={tmp_path / 'local'}", *KEYS)
    assert local.wait() == [0, 0], local.said(0) + local.said(1)
    arguments = (DIGITS, f"--workdir=gs://{BUCKET}/pair", *KEYS)
    first = Processes(2, env, tmp_path / "b", *arguments)
    until(lambda: all(saves(cloud, "pair")), first.running[1])
    first.running[1].kill()
    assert first.wait(90)[0] not in (0, 2)
    again = Processes(2, env, tmp_path / "c", *arguments)
    assert again.wait() == [0, 0], again.said(0) + again.said(1)
    assert "going on from" in again.said(0)
    assert_complete(cloud, "pair", tmp_path / "local", tmp_path)


@pytest.mark.parametrize("size", [0, 100, 6_000_000])
def test_half_a_file_is_not_seen(cloud, env, size):
    """6 MB are more than is sent at once."""
    code = """if True:
        import sys
        from inr_gan_jax.storage.atomic import replaced
        path, size = sys.argv[1], int(sys.argv[2])
        with replaced(path) as file:
            file.write(b"a" * size)
        with replaced(path) as file:
            file.write(b"b" * size)
            raise KeyboardInterrupt
    """
    command = [sys.executable, "-c", code, f"gs://{BUCKET}/file", str(size)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert cloud.read("file") == b"a" * size


@pytest.mark.parametrize(
    "bucket, flag, words",
    [
        (PRIVATE, "--workdir={}/run", "Anonymous caller does not have"),
        (PRIVATE, "--config.data.source={}/x.zip", "Anonymous caller does not have"),
        ("nowhere", "--workdir={}/run", "there is no bucket for"),
        ("nowhere", "--config.data.source={}/x.zip", "does not exist: check the path"),
        ("uninstalled", "--workdir={}/run", "needs a package for cloud paths: Please install"),
        ("uninstalled", "--config.data.source={}/x.zip", "needs a package for cloud paths"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(env, tmp_path, bucket, flag, words):
    if bucket == "uninstalled":
        (tmp_path / "gcsfs.py").write_text("raise ImportError('No module named gcsfs')")
        env = env | {"PYTHONPATH": os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])}
    flags = [f"--workdir={tmp_path / 'run'}", flag.format(f"gs://{bucket}")]
    assert_one_line(run(env, DIGITS, *KEYS, *flags), words)
    if "workdir" in flag:
        words = "no such folder" if bucket == "nowhere" else words
        flags = [f"--checkpoint=gs://{bucket}/run", "--seeds=0", f"--outdir={tmp_path}"]
        assert_one_line(run(env, *flags, module="generate"), words)


def assert_one_line(outcome: tuple[int, str], words: str) -> None:
    status, said = outcome
    assert status == 2 and said.startswith("error: ") and words in said, said
    assert len(said.splitlines()) == 1, said
