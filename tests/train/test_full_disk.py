"""A disk that is full for a while costs a run nothing; one that stays full, what it says."""

import contextlib
import errno
import io
import json
import logging
import re

import pytest
from helpers.training import shallow
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.metrics.results import Results
from inr_gan_jax.storage import growing, later
from inr_gan_jax.storage.checkpoint import Checkpoints
from inr_gan_jax.storage.growing import Growing
from inr_gan_jax.storage.later import Later
from inr_gan_jax.train import loop


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full while `disk.full`; then a piece may still end up on it by half."""

    class Disk:
        full, half = False, 0

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    class File(io.FileIO):
        def write(self, data):
            if not Disk.full:
                return super().write(data)
            if not Disk.half:
                refuse()
            written = super().write(bytes(data[: Disk.half]))
            Disk.half = 0
            return written

    plain = later.replaced

    @contextlib.contextmanager
    def replaced(path):
        with plain(path) as file:
            yield file
            if Disk.full:
                refuse()

    monkeypatch.setattr(growing, "FileIO", File)
    monkeypatch.setattr(later, "replaced", replaced)
    return Disk


def test_a_run_outlives_a_full_disk(disk, tmp_path, monkeypatch, capsys):
    """From before its first iteration until after its first checkpoint."""
    draft = shallow(8, kimg=0.064)
    draft.train.batch_size = 16
    draft.log.metrics_kimg = draft.log.grid_kimg = 0.016
    draft.log.checkpoint_kimg, draft.log.grid_size = 0.032, 4
    draft.evaluate.metrics, draft.evaluate.kimg = "fd_pixel100_full", 0.032
    source = open_source("digits", height=8, width=8, channels=1, labels=False)
    init, save, known = loop.Run.__init__, Checkpoints.save, []

    def fills(self, *args):
        disk.full, disk.half = True, 7
        init(self, *args)

    def empties(self, *args):
        save(self, *args)
        known.append([path.name for path in (tmp_path / "samples").glob("*.png")])
        disk.full = False

    monkeypatch.setattr(loop.Run, "__init__", fills)
    monkeypatch.setattr(Checkpoints, "save", empties)
    loop.train(parse(draft), source, tmp_path)
    assert known[0] == []  # it was full
    assert "done: 0.064 kimg" in capsys.readouterr().out
    names = [f"{images:09d}.png" for images in (0, 16, 32, 48, 64)]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [*names, "real.png"]
    for path in (tmp_path / "samples").iterdir():
        Image.open(path).load()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kimg"] for line in lines] == [0.032, 0.064]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [value.step for value in events.Scalars("loss/g")] == [16, 32, 48, 64]
    log = (tmp_path / "log.txt").read_text()
    assert re.findall(r"kimg (0\.\d)/0.064", log) == ["0.0", "0.0", "0.0", "0.1"]
    for name in ("log.txt", "real.png", "000000016.png"):
        told = re.findall(f"warning: .*{name} cannot be written now, but later: .*No space", log)
        assert len(told) == 1, name
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines())


def test_what_is_never_written_is_told(disk, tmp_path, caplog):
    disk.full = True
    file, whole = Growing(tmp_path / "a"), Later()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            file.write(b"x")
            whole.write(tmp_path / "b", b"y")
        assert len(caplog.records) == 2
        file.close()
        whole.close()
    said = [record.getMessage() for record in caplog.records[2:]]
    assert said == [f"the end of {tmp_path}/a was never written", f"{tmp_path}/b was never written"]
    assert (tmp_path / "a").read_bytes() == b"" and not (tmp_path / "b").exists()


def test_evaluate_says_at_once_that_it_cannot_write(disk, tmp_path):
    """A command is not patient: its user is there."""
    results = Results(None, tmp_path / "none", None, 0.1)
    with pytest.raises(OSError):
        results._keep(results._path, b"x")
