"""What other programs are told of a run survives kills, too: each point once, none missing."""

import collections
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import wandb_server
from helpers.environment import environment
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.config.writer_names import mirrors_of
from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.events import SummaryWriter
from inr_gan_jax.storage.mirror import Mirror
from inr_gan_jax.storage.writers import IDS, writer_of
from inr_gan_jax.train.monitor import Monitor

STEP, DRAW = 8, 16  # images


def play(folder, start: int, end: int, mirrors=()) -> Monitor:
    """A run from `start` on, up to a report at `end`."""
    monitor = Monitor(folder, 10_000, mirrors)
    monitor.going_on_from(start)
    monitor.hparams({"config.seed": 0, "config.train.g_lr": 0.5})
    for images in range(start + STEP, end + STEP, STEP):
        monitor.add([{"loss/g": np.float32(images / 3)}])
        monitor.report(images)
        if images % DRAW == 0:
            monitor.picture(images, "generated", np.full((2, 3, 1), images, np.uint8))
    return monitor


class Memory:
    """A program that holds what it was told, of which a kill costs it the last `loses`."""

    name = "memory"

    def __init__(self):
        self.told, self.away, self.closed = [], False, 0

    def known(self):
        return {(tag, t.images) for t in self.told for tag in (*t.scalars, *t.pictures)}

    def write(self, told):
        if self.away:
            raise ConnectionError("no route\nto host")
        self.told.append(told)

    def configure(self, values):
        self.values = values

    def close(self):
        self.closed += 1

    def points(self, tag):
        return [(t.images, t.scalars[tag]) for t in self.told if tag in t.scalars]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9), st.booleans()), max_size=4))
@settings(max_examples=25, deadline=None)
def test_each_point_once_and_none_missing(tmp_path_factory, kills):
    """Each is (steps until the kill, how many the program loses by it, whether it was away)."""
    folder, program, saved = tmp_path_factory.mktemp("run"), Memory(), 0
    for steps, loses, program.away in [*kills, (20, 0, False)]:
        writer = SummaryWriter(folder, [Mirror(program)])
        writer.going_on_from(saved)
        for step in range(saved + 1, saved + steps + 1):
            writer.write_scalars(step, {"a": step / 3, "b": -step})
        writer.write_images(saved + steps, {"x": np.full((1, 2, 2, 3), steps, np.uint8)})
        writer.close()
        program.told = program.told[: len(program.told) - loses]
        saved += steps // 2
    there = sorted(step for step, _ in program.points("a"))
    assert there == sorted(set(there)) and set(there) >= set(range(1, saved + 1))
    assert dict(program.points("a")) == {s: np.float32(s / 3) for s in there}
    assert sorted(dict(program.points("b"))) == there


def test_a_program_that_is_away_is_told_later(tmp_path, caplog):
    program = Memory()
    program.away = True
    mirror = Mirror(program)
    writer = SummaryWriter(tmp_path, [mirror])
    writer.going_on_from(0)
    for step in range(3):
        writer.write_scalars(step, {"a": step})
        mirror._sending.result()
    assert caplog.text.count("memory cannot be told now, but later: no route to host") == 1
    program.away = False
    writer.write_scalars(3, {"a": 3})
    mirror._sending.result()
    assert program.points("a") == [(n, n) for n in range(4)]
    program.away = True
    writer.write_scalars(4, {"a": 4})
    writer.close()
    assert "not told of 1 times: the next start of this run tells it" in caplog.text
    program.away = False
    writer = SummaryWriter(tmp_path, [Mirror(program)])
    writer.going_on_from(4)
    writer.close()
    assert program.points("a") == [(n, n) for n in range(5)] and program.closed == 2


@pytest.mark.parametrize(
    "text, says",
    [("tensorbord", 'did you mean "tensorboard"'), ("", "must be one of"),
     ("wandb", "needs tensorboard, too"), ("tensorboard,wandb,wandb", "twice")],
)  # fmt: skip
def test_names_that_are_refused(text, says):
    with pytest.raises(UserError, match=says) as error:
        mirrors_of(text)
    assert "config.log.writers" in str(error.value) and "\n" not in str(error.value)
    assert mirrors_of("tensorboard") == () and mirrors_of("tensorboard, mlflow") == ("mlflow",)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_program_that_is_not_installed(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"inr_gan_jax.storage.{name}_run", raising=False)
    with pytest.raises(UserError, match=f"{name} is not installed.*pip install") as error:
        Monitor(tmp_path, 1000, [name])
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


# The programs themselves, offline.


@pytest.fixture(params=["wandb offline", "wandb", "mlflow"])
def program(request, monkeypatch, tmp_path_factory):
    """(its name, what a run of it has: {tag: [(image count, value or None), ...]})."""
    name = request.param.split()[0]
    module = "wandb" if name == "wandb" else "mlflow.tracking"
    pytest.importorskip(module, reason=f"the extra `{name}` is not installed")
    store = tmp_path_factory.mktemp("store")
    settings_of = {
        "wandb": {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DATA_DIR": store},
        "mlflow": {"MLFLOW_TRACKING_URI": f"file://{store}", "MLFLOW_ALLOW_FILE_STORE": "true",
                   "MLFLOW_DISABLE_TELEMETRY": "true"},
    }  # fmt: skip
    for key, value in settings_of[name].items():
        monkeypatch.setenv(key, str(value))
    for key in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_NAME", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(key, raising=False)
    if request.param != "wandb":
        yield name, {"wandb": in_wandb_files, "mlflow": in_mlflow}[name]
        return
    with wandb_server.serving() as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        yield name, lambda folder: in_wandb(server, folder)


def in_wandb(server, folder) -> dict[str, list]:
    """What a server has of the run."""
    rows = server.rows[json.loads((folder / IDS).read_text())["wandb"]]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    numbers = ({k: None if isinstance(v, dict) else v for k, v in row.items()} for row in rows)
    return by_tag((row["images"], row) for row in numbers)


def in_wandb_files(folder) -> dict[str, list]:
    """What all transaction logs of the run hold, sorted by step, each of which is its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    from inr_gan_jax.storage.wandb_run import _records

    run = json.loads((folder / IDS).read_text())["wandb"]
    rows = {}
    for path in folder.glob(f"wandb/*run-*-{run}/*.wandb"):
        for record in map(Record.FromString, _records(path.read_bytes())):
            if record.HasField("history"):
                assert record.history.step.num not in rows
                row = rows[record.history.step.num] = {}
                for item in record.history.item:
                    name, *inner = [item.key] if item.key else item.nested_key
                    row[name] = None if inner else json.loads(item.value_json)
    assert sorted(rows) == list(range(len(rows)))
    return by_tag((row["images"], row) for _, row in sorted(rows.items()))


def in_mlflow(folder) -> dict[str, list]:
    from mlflow.tracking import MlflowClient

    client, run = MlflowClient(), json.loads((folder / IDS).read_text())["mlflow"]
    data = client.get_run(run).data
    assert data.params == {"config.seed": "0", "config.train.g_lr": "0.5"}
    assert client.get_run(run).info.run_name == folder.name
    points = [
        (point.step, {tag: point.value})
        for tag in data.metrics
        for point in client.get_metric_history(run, tag)
    ]
    pictures = [
        (int(file.path[-13:-4]), {"generated": None})
        for file in client.list_artifacts(run, "generated")
    ]
    return by_tag(points + pictures)


def by_tag(rows) -> dict[str, list]:
    found = collections.defaultdict(list)
    for images, row in rows:
        for tag, value in row.items():
            found[tag].append((images, value))
    return found


def test_a_real_kill(program, tmp_path):
    """A run that is killed goes on from before what it told, and from the record that stayed."""
    name, told = program
    folder = tmp_path / "digits"
    script = (
        "import os, signal, sys, test_mirrors\n"
        "monitor = test_mirrors.play(sys.argv[1], 0, 80, [sys.argv[2]])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = environment(PYTHONPATH=os.pathsep.join([*sys.path, os.path.dirname(__file__)]))
    done = subprocess.run([sys.executable, "-c", script, folder, name], env=env)
    assert done.returncode == -9
    play(folder, 64, 96, [name]).close()
    for tag, every in (("loss/g", STEP), ("generated", DRAW), ("process_peak_gib", STEP)):
        assert [n for n, _ in sorted(told(folder)[tag])] == list(range(every, 97, every)), tag
    assert sorted(told(folder)["loss/g"]) == [(n, np.float32(n / 3)) for n in range(8, 97, 8)]


def test_a_program_that_is_added_later_gets_all_of_it(program, tmp_path, caplog):
    name, told = program
    folder = tmp_path / "digits"
    play(folder, 0, 40).close()
    play(folder, 24, 48, [name]).close()
    assert [n for n, _ in sorted(told(folder)["loss/g"])] == [8, 16, 24, 32, 40, 48]
    assert [n for n, _ in sorted(told(folder)["generated"])] == [16, 32, 48]
    before = told(folder)
    time.sleep(1)  # W&B names a start's folder after the second
    play(folder, 48, 48, [name]).close()
    assert told(folder) == before
    time.sleep(1)
    writer = writer_of([name], folder)  # a checkpoint is measured: that is told, whatever was
    writer.write_scalars(48, {"metrics/fid": 3})
    writer.close()
    assert told(folder)["metrics/fid"] == [(48, 3)]
    assert "told" not in caplog.text  # no warning, no error


def test_a_run_that_mlflow_does_not_know(program, tmp_path):
    name, _ = program
    if name == "mlflow":  # W&B makes a run of any name
        (tmp_path / IDS).write_text(json.dumps({"mlflow": "0" * 32}))
        with pytest.raises(
            UserError, match="mlflow cannot be used: .*without .*trackers.json another run"
        ):
            Monitor(tmp_path, 1000, [name])
