"""Tables of style mixes: the printed examples, what is in them, and every mistake in one line."""

import numpy as np
import pytest
from helpers.commands import assert_mistakes, examples, many
from helpers.models import tiny_model, write_checkpoint
from PIL import Image

from inr_gan_jax.model import load
from inr_gan_jax.pictures.pixels import to_uint8

RUNS = "--checkpoint=runs/digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples work: a class-conditional model in runs/digits, and the baseline."""
    here = tmp_path_factory.mktemp("here")
    write_checkpoint(here / "runs" / "digits", tiny_model(classes=5))
    write_checkpoint(here / "runs" / "baseline", tiny_model("stylegan2", channels=4))
    return here


@pytest.fixture(scope="module")
def said(folder):
    lines = examples("style_mix")
    lines += [
        f"{RUNS} --rows=5 --cols=0-2 --layers=1,4-5 --dest=some.png",
        f"{RUNS} --rows=0-1 --cols=3 --layers=0-6 --dest=new/all.jpg",
        "--checkpoint=runs/baseline --rows=1,2 --cols=3,4 --layers=0 --dest=baseline.png",
    ]
    answers = many("style_mix", lines, folder)
    assert [one.code for one in answers] == [0] * 5, answers
    return [one.out.strip() for one in answers]


def cells(path, side: int) -> np.ndarray:
    """The images of a table, int [rows, columns, side, side], checked to be framed in grey."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    rows, columns = (n // (side + 1) for n in pixels.shape)
    assert pixels.shape == (rows * (side + 1) + 1, columns * (side + 1) + 1)
    assert abs(pixels[:: side + 1] - 128).mean() < 5  # not 0: JPEG
    inner = pixels[1:, 1:].reshape(rows, side + 1, columns, side + 1)[:, :-1, :, :-1]
    return inner.transpose(0, 2, 1, 3)


def pixels_of(model, ws: np.ndarray) -> np.ndarray:
    return to_uint8(model.images(ws=ws))[..., 0].astype(int)


def test_cells_are_rows_with_the_styles_of_columns_in_the_layers(folder, said):
    model = load(folder / "runs" / "digits")
    rows, columns = (
        np.asarray(model.styles(seeds=seeds, classes=model.classes(seeds)))
        for seeds in (range(4), range(4, 10))
    )
    table = cells(folder / "mix.png", 16)
    assert table.shape == (5, 7, 16, 16) and (table[0, 0] == 128).all()
    assert np.abs(table[1:, 0] - pixels_of(model, rows)).max() <= 1
    assert np.abs(table[0, 1:] - pixels_of(model, columns)).max() <= 1
    for i, row in enumerate(rows):
        mixed = np.concatenate([columns[:, :3], np.repeat(row[None, 3:], 6, 0)], axis=1)
        assert np.abs(table[i + 1, 1:] - pixels_of(model, mixed)).max() <= 1
        assert np.abs(table[i + 1, 1:] - table[i + 1, :1]).max((1, 2)).min() > 10
    assert said[0] == "mix.png: 120x86, 4 x 6 images with layers 0-2 of 7 from the columns"


def test_other_layers_than_the_first(folder, said):
    model = load(folder / "runs" / "digits")
    row = np.asarray(model.styles(seeds=[5], classes=model.classes([5])))[0]
    columns = np.asarray(model.styles(seeds=range(3), classes=model.classes(range(3))))
    table = cells(folder / "some.png", 16)
    for column, cell in zip(columns, table[1, 1:], strict=True):
        mixed = np.where(np.isin(range(7), [1, 4, 5])[:, None], column, row)
        assert np.abs(cell - pixels_of(model, mixed[None])[0]).max() <= 1
    everything = cells(folder / "new" / "all.jpg", 16)
    assert np.abs(everything[1:, 1] - everything[0, 1]).mean() < 12


def test_any_size_truncation_and_class(folder, said):
    model = load(folder / "runs" / "digits")
    ws = model.styles(seeds=[0, 3], classes=3, truncation=0.7)
    mixed = np.where((np.arange(7) >= 3)[:, None] & (np.arange(7) < 6)[:, None], ws[1], ws[0])
    table = cells(folder / "mix.webp", 64)
    assert table.shape == (3, 3, 64, 64)
    for cell, styles in ((table[1, 0], ws[0]), (table[0, 2], ws[1]), (table[1, 2], mixed)):
        expected = to_uint8(model.image(ws=styles).render(64, 64))[..., 0].astype(int)
        assert np.abs(cell - expected).mean() < 8  # WebP


def test_the_baseline_at_its_own_size(folder, said):
    with Image.open(folder / "baseline.png") as picture:
        assert picture.mode == "RGB" and picture.size == (52, 52)
        table = np.asarray(picture)[1:, 1:].reshape(3, 17, 3, 17, 3)[:, :-1, :, :-1]
    model = load(folder / "runs" / "baseline")
    made = to_uint8(model.images(seeds=[1, 2])).astype(float)
    part = made[..., 3:] / 255
    assert np.abs(table[1:, :, 0] - made[..., :3] * part - 255 * (1 - part)).max() <= 2
    assert said[4].startswith("baseline.png: 52x52, 2 x 2 images with layers 0 of ")


def test_mistakes_are_one_line_each(folder):
    mix = f"{RUNS} --rows=0-1 --cols=2-3"
    good = f"{mix} --layers=0 --dest=x.png"
    mistakes = {
        f"{RUNS} --rows=a --cols=1 --layers=0 --dest=x.png": "--rows=a: 'a' is no seed",
        f"{RUNS} --rows=1 --cols=3-2 --layers=0 --dest=x.png": "--cols=3-2: '3-2' is no seed",
        f"{mix} --layers=0-7 --dest=x.png": "--layers=0-7: give some of 0-6",
        f"{mix} --layers= --dest=x.png": "--layers=: give some of 0-6",
        f"{mix} --layers=x --dest=x.png": "--layers=x: give some of 0-6",
        f"{mix} --layers=0 --dest=x.gif": "--dest=x.gif must end in .png, .jpg, .jpeg, .webp",
        f"{mix} --layers=0 --dest=file/x.png": "cannot be written",
        f"{mix} --layers=0 --dest=folder.png": "is a folder",
        f"{RUNS} --rows=0-9999 --cols=0-9999 --layers=0 --dest=x.png": "fewer or smaller images",
        f"{RUNS} --rows=0-999 --cols=0 --layers=0 --dest=x.webp": "fewer or smaller images",
        f"{good} --size=9": "--size=9 must be WIDTHxHEIGHT",
        f"{good} --truncation=inf": "--truncation=inf must be finite",
        f"{good} --class_index=5": "--class_index=5 must be 0 to 4",
        "--checkpoint=nowhere --rows=0 --cols=1 --layers=0 --dest=x.png": "no such folder",
        "--checkpoint=runs/baseline --rows=0 --cols=1 --layers=0 --dest=x.png --size=32x32": "no "
        "coordinate function",
        "--checkpoint=runs/baseline --rows=0 --cols=1 --layers=0 --dest=x.png --class_index=0": "is"
        " not class-conditional",
    }
    (folder / "file").touch()
    (folder / "folder.png").mkdir()
    assert_mistakes("style_mix", mistakes, folder)
    assert not list(folder.glob("x.*"))
