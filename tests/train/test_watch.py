"""Pictures and measurements of a run that was stopped: what is there, and what is not."""

import json
import types

import numpy as np
import pytest
from PIL import Image

from inr_gan_jax.config import base, parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics.results import FILE
from inr_gan_jax.train.monitor import Monitor
from inr_gan_jax.train.watch import Watch


def config(classes: int = 0, **changes):
    draft = base("inr_gan", height=16, width=16, channels=1, channel_base=64, channel_max=8)
    draft.model.input_resolution, draft.model.fine_from = 8, 16
    draft.data.source, draft.log.grid_size = "digits", 9
    draft.update_from_flattened_dict(changes)
    return parse(draft, num_classes=classes)


@pytest.fixture
def source():
    return open_source("digits", height=16, width=16, channels=1, labels=True)


def failing(source, fails):
    """The same source, some of whose images cannot be read."""

    class Failing(type(source)):
        def __init__(self):
            self.__dict__.update(source.__dict__)

        def __getitem__(self, index):
            if fails(index):
                raise UserError(f"{index}.png cannot be read")
            return super().__getitem__(index)

    return Failing()


def real(settings, source, folder, images=0) -> np.ndarray:
    monitor = Monitor(folder, 1000)
    watch = Watch(settings, source, folder, monitor)
    watch.going_on_from(images)
    watch.real()
    monitor.close()
    with Image.open(folder / "samples" / "real.png") as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("classes", [0, 10])
def test_real_images_that_cannot_be_read_are_left_out(classes, source, tmp_path):
    settings = config(classes)
    whole = real(settings, source, tmp_path / "whole")
    order = np.random.default_rng(0).permutation(len(source))
    bad = set(order[[0, 3]].tolist())
    found = real(settings, failing(source, bad.__contains__), tmp_path / "some")
    assert found.shape == whole.shape and (found != whole).any()
    if not classes:
        tiles = [i for i in order if i not in bad][:9]
        np.testing.assert_array_equal(found[1:17, 1:17], source[int(tiles[0])][0][..., 0])
        np.testing.assert_array_equal(found[-17:-1, -17:-1], source[int(tiles[8])][0][..., 0])
    none = real(settings, failing(source, lambda _: True), tmp_path / "none")
    assert set(np.unique(none)) == {0, 128}


def test_real_images_are_drawn_once_in_a_run(source, tmp_path):
    real(config(), source, tmp_path)
    place = tmp_path / "samples" / "real.png"
    place.write_bytes(place.read_bytes() + b"kept")
    real(config(), source, tmp_path, images=500)
    assert place.read_bytes().endswith(b"kept")
    real(config(), source, tmp_path)  # a fresh start
    assert not place.read_bytes().endswith(b"kept")
    assert [p.name for p in place.parent.iterdir()] == ["real.png"]


def test_what_earlier_starts_left(source, tmp_path):
    settings = config(**{"evaluate.metrics": "fd_pixel100_full,is50k", "evaluate.kimg": 0.0})
    results = [("fd_pixel100_full", 0.5), ("is50k", 0.5), ("is50k", 1.0), ("is50k", 1.5)]
    text = "".join(json.dumps({"metric": m, "kimg": k, "value": 1}) + "\n" for m, k in results)
    (tmp_path / FILE).write_text(text)
    (tmp_path / "samples").mkdir()
    for name in ("000000000", "000001000"):
        (tmp_path / "samples" / f"{name}.png").write_bytes(b"")
    quiet = types.SimpleNamespace(writer=None, say=None)
    watch = Watch(settings, source, tmp_path, quiet)
    found = {}
    for images in (1500, 1000, 500, 0):
        watch.going_on_from(images)
        found[images] = watch.drawn, watch.measured
        kept = [json.loads(line)["kimg"] for line in (tmp_path / FILE).read_text().splitlines()]
        assert kept == [k for _, k in results if k <= images / 1000]
    assert found == {
        1500: (False, False), 1000: (True, False), 500: (False, True), 0: (False, False)
    }  # fmt: skip


def test_a_grid_is_told_before_its_file_is_there(source, tmp_path, monkeypatch):
    """A start that finds the file need not draw: so the file is the last thing to appear."""
    monitor = Monitor(tmp_path, 1000)
    watch = Watch(config(), source, tmp_path, monitor)
    told = []
    monkeypatch.setattr(monitor, "picture", lambda *_: told.append(list(tmp_path.rglob("*.png"))))
    images = np.zeros((9, 16, 16, 1), np.uint8)
    watch._write("000000008", images, 8)
    monitor.close()
    assert told == [[]]
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["000000008.png"]


def test_a_grid_is_as_large_as_it_is_told_whatever_the_classes(source, tmp_path):
    """Of a thousand classes some are shown, evenly: a row for each would be a tower."""

    class Many(type(source)):
        class_counts = [1] * 1000

        def __init__(self):
            self.__dict__.update(source.__dict__)

    watch = Watch(config(1000), Many(), tmp_path, Monitor(tmp_path, 1000))
    assert watch._classes.tolist() == [0, 125, 250, 375, 500, 624, 749, 874, 999]
    watch.real()
    with Image.open(tmp_path / "samples" / "real.png") as picture:
        assert picture.size == (3 * 17 + 1,) * 2
