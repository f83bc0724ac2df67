"""What a run tells survives kills: each point once, none missing, wherever the workdir is."""

import collections
import itertools
import logging
import re
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import jax
import numpy as np
from absl import logging as absl_logging
from helpers.bucket import make_bucket
from helpers.environment import environment
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from inr_gan_jax.storage import growing
from inr_gan_jax.storage.events import SummaryWriter
from inr_gan_jax.storage.growing import EVENTS, forget_events
from inr_gan_jax.train.monitor import LOG, Monitor

BATCH, REPORT, DRAW, SAVE = 8, 24, 48, 64  # images


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard shows, all of them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def written(folder) -> dict[str, list[int]]:
    """The steps of each tag in the files themselves, in their order: for any reader."""
    steps = collections.defaultdict(list)
    for path in sorted(folder.glob(f"{EVENTS}*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                steps[value.tag].append(event.step)
    return dict(steps)


def told(folder) -> list[tuple[int, str]]:
    """The log's lines: (image count, text)."""
    lines = (folder / LOG).read_text().splitlines()
    found = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\d+)  (.*)", line) for line in lines]
    return [(int(match[1]), match[2]) for match in found]


def play(folder, start: int, end: int) -> int:
    """A run from a checkpoint at `start` that is killed at `end`: its newest checkpoint."""
    monitor, saved = Monitor(folder, 10_000), start
    monitor.say("hello")
    monitor.going_on_from(start)
    monitor.hparams({"seed": 0})
    for images in range(start + BATCH, end + BATCH, BATCH):
        monitor.add([{"loss/g": np.float32(images)}])
        monitor.images = images
        if images % 40 == 0:
            monitor.say(f"seen {images}")
        if images % REPORT == 0 or images % SAVE == 0:
            monitor.report(images)
        if images % DRAW == 0:
            monitor.picture(images, "generated", np.zeros((2, 2, 1), np.uint8))
        if images % SAVE == 0:
            saved = images
    logging.getLogger().removeHandler(monitor._warnings)  # as the kill does
    return saved


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40)), min_size=1, max_size=4))
@settings(max_examples=12, deadline=None)
def test_kills_leave_no_duplicates_and_no_gaps(tmp_path_factory, kills):
    """Each is (iterations until the kill, bytes of a write that the kill cut off)."""
    whole, broken = (tmp_path_factory.mktemp(name) for name in ("whole", "broken"))
    play(whole, 0, 200)
    saved = 0
    for iterations, torn in kills:
        saved = play(broken, saved, min(saved + BATCH * iterations, 200))
        with max(broken.glob(f"{EVENTS}*")).open("ab") as file:
            file.write(bytes(range(65, 65 + torn)))
        with (broken / LOG).open("ab") as file:
            file.write("2026-01-01 00:00:00  7  é".encode()[:torn])
    play(broken, saved, 200)
    assert curves(broken)["loss/g"] == curves(whole)["loss/g"]
    steps = written(broken)
    assert steps["loss/g"] == steps["images_per_second"] == written(whole)["loss/g"]
    assert steps["loss/g"] == [i for i in range(1, 201) if i % REPORT == 0 or i % SAVE == 0]
    assert steps["generated"] == [48, 96, 144, 192]
    # One configuration for each checkpoint that the run went on from, and for its beginning.
    assert len(steps["config"]) == len(set(steps["config"])) and steps["config"][0] == 0
    counts = [n for n, text in told(broken) if text.startswith("kimg")]
    assert counts == steps["loss/g"]
    assert [t for _, t in told(broken) if "seen" in t] == [f"seen {n}" for n in range(40, 201, 40)]
    assert sum(text == "hello" for _, text in told(broken)) >= 1


def test_a_process_that_is_really_killed(tmp_path):
    script = textwrap.dedent(
        """
        import itertools, sys
        import numpy as np
        from inr_gan_jax.train.monitor import Monitor
        monitor = Monitor(sys.argv[1], 10**9)
        monitor.going_on_from(0)
        for images in itertools.count(1):
            monitor.add([{"loss/g": np.float32(images)}])
            monitor.report(images)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    for _ in range(300):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    monitor = Monitor(tmp_path, 10**9)
    monitor.going_on_from(250)
    monitor.close()
    assert curves(tmp_path)["loss/g"] == [(n, n) for n in range(1, 251)]
    assert [n for n, _ in told(tmp_path)] == list(range(1, 251))


def test_an_event_file_cut_anywhere_keeps_what_is_whole(tmp_path):
    writer = SummaryWriter(tmp_path)
    ends = []
    for step in range(5):
        writer.write_scalars(step, {"a": step})
        (path,) = tmp_path.iterdir()
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for size in range(len(whole), ends[0] - 1, -1):
        for tail in (b"", b"\0" * 40, b"\xff" * 40):  # zeros: what a crash of the machine leaves
            path.write_bytes(whole[:size] + tail)
            forget_events(tmp_path, 100)
            # what the tail brings back by chance (a sum that ends in zeros) is whole again
            count = sum((whole[:size] + tail).startswith(whole[:end]) for end in ends)
            assert written(tmp_path) == {"a": list(range(count))}
            assert path.read_bytes() == whole[: ends[count - 1]]
    path.write_bytes(whole)
    before = path.stat()
    forget_events(tmp_path, 4)  # nothing to forget: not touched
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime_ns == before.st_mtime_ns
    forget_events(tmp_path, 2)
    assert written(tmp_path) == {"a": [0, 1, 2]}
    (tmp_path / f"{path.name}.123.tmp").write_bytes(whole)  # of a start that was killed just there
    forget_events(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    forget_events(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_later_files_have_later_names_whatever_the_clock_says(tmp_path, monkeypatch):
    for now in (2000.0, 1000.0, 1000.0, 3000.0):
        monkeypatch.setattr("inr_gan_jax.storage.events.time.time", lambda now=now: now)
        writer = SummaryWriter(tmp_path)
        step = len(list(tmp_path.iterdir()))
        writer.write_scalars(step, {"a": step})
        writer.close()
    assert written(tmp_path) == {"a": [0, 1, 2, 3]}


def test_the_log_holds_what_was_said_and_warned(tmp_path, capsys):
    before = "2026-01-01 00:00:00  96  kept\n2026-01-01 00:00:00  97  dropped\nby hand 98\nhalf"
    (tmp_path / LOG).write_text(before)
    monitor = Monitor(tmp_path, 1000)
    monitor.say("two\nlines")
    assert (tmp_path / LOG).read_text() == before  # which of it stays is not known yet
    monitor.going_on_from(96)
    monitor.say("then")
    logging.getLogger("any").warning("of %s", "logging")
    absl_logging.error("of absl")
    logging.getLogger("any").info("not this")
    monitor.close()
    logging.warning("too late")
    text = (tmp_path / LOG).read_text()
    assert text.startswith("2026-01-01 00:00:00  96  kept\nby hand 98\n")
    (tmp_path / LOG).write_text(text.replace("by hand 98\n", ""))
    expected = ["kept", "two", "lines", "then", "warning: of logging", "error: of absl"]
    assert told(tmp_path) == [(96, line) for line in expected]
    assert capsys.readouterr().out == "two\nlines\nthen\n"


def test_a_start_that_fails_is_logged_and_forgets_nothing(tmp_path):
    (tmp_path / LOG).write_text("2026-01-01 00:00:00  5000  kimg 5\n")
    monitor = Monitor(tmp_path, 1000)
    monitor.say("no such data")
    monitor.close()
    assert [text for _, text in told(tmp_path)] == ["kimg 5", "no such data"]


def test_the_line_of_a_report(tmp_path, capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("inr_gan_jax.train.monitor.time.perf_counter", lambda: clock[0])
    memory = {"device_gib": 2, "peak_gib": 3.25}
    monkeypatch.setattr("inr_gan_jax.train.monitor._memory", lambda: memory)
    monitor = Monitor(tmp_path, 10_000)
    monitor.going_on_from(6000)
    assert "images_per_second" not in monitor.report(6000)
    clock[0] += 10
    with monitor.paused():
        clock[0] += 1000
    monitor.add([{"loss/g": np.float32(1.5)}, {"loss/d": np.float32(2.5)}])
    values = monitor.report(7000)
    assert values["images_per_second"] == 100
    assert values["images_per_second_per_device"] == 100 / jax.device_count() == 50
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    clock[0] += 0.5
    assert "images_per_second_per_device" not in monitor.report(8000)
    monitor.close()
    lines = [
        "kimg 6.0/10  compiled  left ?  mem 3.2 GiB",
        "kimg 7.0/10  100 images/s (50 per device)  left 30s  G 1.500 D 2.500  mem 3.2 GiB",
        "kimg 8.0/10  2000 images/s  left 1s  mem 3.2 GiB",
    ]
    assert capsys.readouterr().out.splitlines() == lines
    assert told(tmp_path) == list(zip([6000, 7000, 8000], lines, strict=True))
    assert curves(tmp_path)["images_per_second_per_device"] == [(7000, 50)]
    assert curves(tmp_path)["peak_gib"] == [(n, 3.25) for n in (6000, 7000, 8000)]


def test_memory_is_of_the_fullest_device_or_of_the_process(tmp_path, monkeypatch):
    monitor = Monitor(tmp_path, 10)
    mine = monitor.report(1)["process_peak_gib"]
    resident = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20
    assert abs(mine - resident) < 0.05 * resident

    def device(used, peak):
        told = (
            None if used is None else {"bytes_in_use": used << 30, "peak_bytes_in_use": peak << 30}
        )
        return types.SimpleNamespace(memory_stats=lambda: told)

    devices = [device(3, 4), device(1, 7), device(None, None), device(6, 6)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    values = monitor.report(2)
    monitor.close()
    assert (values["device_gib"], values["device_peak_gib"]) == (1, 7)
    assert "process_peak_gib" not in values


def test_other_processes_are_silent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    play(tmp_path, 0, 200)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def download(bucket, folder):
    folder.mkdir()
    for name, data in bucket.store.items():
        (folder / name.rsplit("/", 1)[1]).write_bytes(data.getvalue())
    return folder


def test_a_workdir_in_a_cloud(tmp_path, monkeypatch, caplog):
    """What was flushed can be read, though a cloud's files cannot grow; kills do no more harm."""
    bucket, numbers = make_bucket(monkeypatch), itertools.count()
    monkeypatch.setattr(growing, "_LARGE", 500)

    def here():
        return download(bucket, tmp_path / str(next(numbers)))

    assert play("gs://bucket/run", 0, 104) == 64
    seen = here()
    assert [step for step, _ in curves(seen)["loss/g"]] == [24, 48, 64, 72, 96]
    assert len(list(seen.glob(f"{EVENTS}*"))) > 1  # each was written anew until it was large
    assert [n for n, text in told(seen) if text.startswith("kimg")] == [24, 48, 64, 72, 96]
    play("gs://bucket/run", 64, 200)
    play(tmp_path / "disk", 0, 200)
    seen = here()
    assert curves(seen)["loss/g"] == curves(tmp_path / "disk")["loss/g"]
    assert written(seen)["generated"] == [48, 96, 144, 192]
    assert [n for n, text in told(seen) if "kimg" in text] == written(seen)["loss/g"]


def test_a_cloud_that_is_away_for_a_while_costs_nothing(tmp_path, monkeypatch, caplog):
    bucket = make_bucket(monkeypatch)
    monitor = Monitor("gs://bucket/run", 1000)
    monitor.going_on_from(0)
    monitor.report(8)
    plain = bucket.open

    def fail(path, mode="rb", **options):
        if "w" in mode:
            raise ConnectionError("no route to host")
        return plain(path, mode, **options)

    bucket.open = fail
    monitor.report(16)
    assert "cannot be written now, but later: no route to host" in caplog.text
    bucket.open = plain
    monitor.report(24)
    monitor.close()
    seen = download(bucket, tmp_path / "seen")
    assert [step for step, _ in curves(seen)["process_peak_gib"]] == [8, 16, 24]
    assert [n for n, text in told(seen) if text.startswith("kimg")] == [8, 16, 24]


def test_events_of_others_stay(tmp_path):
    """A measurement of a checkpoint writes a file of its own."""
    play(tmp_path, 0, 64)
    with (tmp_path / f"{EVENTS}2000000000.host.v2").open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(file_version="brain.Event:2").SerializeToString())
        for step in (64, 72):
            value = Summary.Value(tag="metrics/fid", simple_value=step)
            records.write(Event(step=step, summary=Summary(value=[value])).SerializeToString())
    play(tmp_path, 64, 200)
    assert written(tmp_path)["metrics/fid"] == [64]
    assert written(tmp_path)["loss/g"][-1] == 200 - 200 % SAVE


def test_a_flush_without_news_writes_nothing(monkeypatch):
    bucket = make_bucket(monkeypatch)
    file = growing.Growing("gs://bucket/x")
    for piece, whole in ((b"one ", b"one "), (b"two", b"one two")):
        file.write(piece)
        file.flush()
        assert bucket.store.pop("/bucket/x").getvalue() == whole
        file.flush()
        assert not bucket.store
    file.close()
