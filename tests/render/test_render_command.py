"""`render` and `generate` as a user types them: the examples of --help, and every mistake."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.commands import assert_mistakes, examples, many, shell
from helpers.models import tiny_model, write_checkpoint
from PIL import Image

import inr_gan_jax
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import deep_zoom


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with checkpoints of tiny networks, and what the examples of `render` made."""
    folder = tmp_path_factory.mktemp("here")
    write_checkpoint(folder / "runs" / "digits", tiny_model(classes=10))
    write_checkpoint(folder / "runs" / "baseline", tiny_model("stylegan2"))
    return folder


@pytest.fixture(scope="module")
def said(here) -> list[str]:
    """What the examples of `render` print."""
    done = many("render", examples("render"), here)
    assert [one.code for one in done] == [0] * 5, done
    return [one.out.strip() for one in done]


def image_of(here, seed, **options):
    model = inr_gan_jax.load(here / "runs" / "digits")
    return model.image(seed, classes=int(model.classes([seed])[0]), **options)


def assert_near(got, expected):
    """Other compiler options in a process of its own."""
    expected = expected.reshape(got.shape)
    assert np.abs(got.astype(int) - expected).max() <= 2


def test_examples_of_render_work_as_printed(said, here):
    assert len(said) == 5
    three = image_of(here, 3)
    assert said[0] == "three.png: 512x512, from 2.0 kimg of training"
    with Image.open(here / "three.png") as picture:
        assert_near(np.asarray(picture), to_uint8(three.render(512, 512)))
    huge = tifffile.imread(here / "huge.tif")
    assert huge.shape == (2048, 2048)
    window = to_uint8(three.render(64, 64, window=(-1, 0.9375, -0.9375, 1), density=128))
    assert_near(huge[:64, :64], window)
    said_of_many = re.fullmatch(
        r"many.inr: 16 images, ([\d.]+) kB; each further image adds ([\d.]+) kB, from 2.0 kimg .*",
        said[2],
    )
    size = (here / "many.inr").stat().st_size
    assert float(said_of_many[1]) == round(size / 1e3, 1)
    assert 0 < float(said_of_many[2]) < size / 1e3 / 16
    opened = inr_gan_jax.open_image(here / "many.inr", index=3)
    np.testing.assert_allclose(opened.render(), three.render(), atol=1e-4)
    assert said[3] == "detail.webp: 300x300, image 3 of many.inr"
    with Image.open(here / "detail.webp") as picture:
        assert picture.size == (300, 300)
    assert said[4] == "zoom.dzi: 1000x1000, image 0 of many.inr"
    with Image.open(here / "zoom_files" / "10" / "3_3.png") as picture:
        assert picture.size == (1000 - 3 * 254 + 1,) * 2


def test_examples_of_generate_work_as_printed(here):
    *others, halves = examples("generate")  # this network has cells, the quickstart's has none
    done = many("generate", [*others, f"{halves} --superres_from=1 --density=inf"], here)
    assert [one.code for one in done] == [0] * 3, done
    assert len(list((here / "out").glob("*.png"))) == 16
    assert np.load(here / "out" / "images.npy").shape == (2, 16, 16, 1)
    view = {"window": (-1, 0, 1, 1), "superres_from": 1, "density": np.inf, "samples": 4}
    for seed in range(4):
        with Image.open(here / "halves" / f"seed000{seed}.png") as picture:
            expected = to_uint8(image_of(here, seed).render(100, 50, **view))
            assert_near(np.asarray(picture), expected)


def test_every_mistake_is_one_line(said, here):
    mistakes = {
        "--seed=1 --dest=x.png": "give --checkpoint=DIR or --image=x.inr",
        "--image=many.inr --seed=1 --dest=x.png": "--seed goes with --checkpoint",
        "--checkpoint=runs/digits --index=1 --seed=1 --dest=x.png": "--index goes with --image",
        "--checkpoint=runs/digits --dest=x.png": "give --seed=3, or --seeds=0-15",
        "--checkpoint=runs/digits --seed=-1 --dest=x.png": "'-1' is no seed",
        "--checkpoint=runs/digits --seeds=0-3 --dest=x.png": "x.png holds one image, only .inr",
        "--checkpoint=nowhere --seed=1 --dest=x.png": "nowhere: no such folder",
        "--checkpoint=runs/digits --seed=1 --class_index=10 --dest=x.png": "=10 must be 0 to 9",
        "--checkpoint=runs/baseline --seed=1 --dest=x.png": "is no coordinate function",
        "--checkpoint=runs/digits --seed=1 --size=9x9 --dest=x.inr": "the image itself: no --size",
        "--image=three.png --dest=x.png": "three.png is no .inr file",
        "--image=many.inr --index=16 --dest=x.png": "no image 16: it holds 0 to 15",
        "--image=many.inr --dest=three.png": "three.png exists: delete it",
        "--image=many.inr --dest=x.bmp": "its suffix must be one of",
        "--image=many.inr --size=9 --dest=x.png": "--size=9 must be WIDTHxHEIGHT",
        "--image=many.inr --size=0x9 --dest=x.png": "--size=0x9 must be WIDTHxHEIGHT",
        "--image=many.inr --window=1,2,3 --dest=x.png": "must be left,bottom,right,top",
        "--image=many.inr --window=1,1,0,0 --dest=x.png": "window (1.0, 1.0, 0.0, 0.0) is empty",
        "--image=many.inr --superres_from=9 --dest=x.png": "superres_from = 9 must be 0 to 2",
        "--image=many.inr --samples=3 --dest=x.png": "samples = 3 is no square number",
        "--image=many.inr --density=0.5 --dest=x.png": "density must be 1 or more",
        "--image=many.inr --truncation=nan --dest=x.png": "--truncation=nan must be finite",
        "--image=many.inr --tile=20 --dest=x.tif": "multiple of 16 pixels a side, not 20",
        "--image=many.inr --size=99999x99999 --dest=x.png": ".tif and .dzi are written tile by",
    }
    assert_mistakes("render", mistakes, here)


@pytest.mark.parametrize(
    "arguments, expected",
    [("", "--dest is missing"), ("--dest=x.png --align=top", "--align")],
)
def test_flags_that_do_not_parse(arguments, expected, here):
    done = shell("render", arguments, here)
    assert done.code == 2 and expected in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_views_that_generate_refuses(here):
    mistakes = {
        "--checkpoint=runs/baseline --size=32x32": "is no coordinate function",
        "--checkpoint=runs/digits --size=32x": "--size=32x must be WIDTHxHEIGHT",
        "--checkpoint=runs/digits --size=99999x99999": "python -m inr_gan_jax.render writes one",
        "--checkpoint=runs/digits --samples=2": "samples = 2 is no square number",
    }
    common = "--seeds=1 --outdir=refused"
    assert_mistakes("generate", {f"{k} {common}": v for k, v in mistakes.items()}, here)
    assert not (here / "refused").exists()
    baseline = "--checkpoint=runs/baseline --seeds=1 --outdir=baseline"
    (plain,) = many("generate", [baseline], here)
    assert plain.code == 0 and (here / "baseline" / "seed0001.png").exists()


def test_stopping_says_how_to_go_on(said, here, monkeypatch):
    """Ctrl-C in the middle of a pyramid; the same command, in a process of its own, ends it."""

    def stop(*_):
        raise KeyboardInterrupt

    line = "--image=many.inr --size=16x16 --dest=stopped.dzi"
    with monkeypatch.context() as patch:
        patch.setattr(deep_zoom, "encode", stop)
        (done,) = many("render", [line], here)
    assert done.code == 130
    assert "stopped.dzi is not complete: the same command goes on" in done.err
    assert not (here / "stopped.dzi").exists()
    done = shell("render", line, here)
    assert done.code == 0 and done.out.startswith("stopped.dzi: 16x16")
