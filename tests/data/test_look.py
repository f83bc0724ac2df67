"""What a data set holds, told before anyone trains on it."""

import json
import shlex

import numpy as np
import pytest
from helpers.commands import shell
from helpers.samples import LABELS, picture
from PIL import Image

from inr_gan_jax.data import look
from inr_gan_jax.data.sources import open_source, open_store


def lines(path, **options) -> str:
    store = open_store(str(path), None, False, every=True)
    return "\n".join(look.report(store, progress=False, **options))


def test_from_the_first_look_to_training(tmp_path):
    for number in range(9):
        place = tmp_path / "my photos" / ("cat" if number < 6 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        picture(number, 20 + number, 30).save(place / f"{number}.{'tif' if number % 2 else 'png'}")
    (place / "again.png").write_bytes((place / "8.png").read_bytes())
    (place / "notes.txt").write_text("?")
    said = shell("data.look", "'my photos' --dest=sheet.png", tmp_path)
    assert said.code == 0
    for line in (
        "my photos: 11 files, 10 images",
        "modes: 10 RGB",
        "sizes: 30x20 to 30x28, median 30x25",
        "shapes: 10 landscape",
        "kinds: 6 png, 4 tif",
        "classes: 2: 6 cat, 4 dog by folder",
        "bad: 1: my photos/dog/notes.txt is no image that Pillow reads",
        "same content: 1: dog/again.png is dog/8.png",
        "contact sheet: sheet.png",
    ):
        assert line in said.out.splitlines()
    assert Image.open(tmp_path / "sheet.png").size == (8 * 97 + 1, 2 * 97 + 1)
    (way,) = (x for x in said.out.splitlines() if x.startswith("to prepare it: "))
    words = shlex.split(way.partition("inr_gan_jax.data.prepare ")[2])
    assert shell("data.prepare", shlex.join(words), tmp_path).code == 0
    made = open_source(
        str(tmp_path / "my photos16.zip"), height=16, width=16, channels=3, labels=True
    )
    assert len(made) == 10 and made.class_counts.tolist() == [6, 4]


def test_damage_that_headers_hide(make_folder):
    path = make_folder(LABELS)
    whole = (path / "0.png").read_bytes()
    (path / "0.png").write_bytes(whole[:-40])
    assert "bad" not in lines(path)
    told = lines(path, decode=True)
    assert "bad: 1: " in told and "0.png cannot be decoded" in told
    assert "classes: 4: 1 0, 1 1, 2 2, 1 4" in told
    cells = look.sheet(open_store(str(path), None, False))
    assert (cells[5, 5] == [255, 0, 0]).all()  # the damaged one


def test_named_classes_and_named_data_sets(make_folder):
    path = make_folder()
    about = {"labels": LABELS, "classes": ["a", "b", "c", "d", "e"]}
    (path / "dataset.json").write_text(json.dumps(about))
    assert "classes: 4: 1 a, 1 b, 2 c, 1 e" in lines(path)
    assert "digits: 1,797 images, 8x8, L\nclasses: 10: 178 0" in lines("digits")
    assert look.sheet(open_store("digits", None, False)).shape == (8 * 97 + 1, 8 * 97 + 1, 3)


@pytest.mark.parametrize("sizes, expected", [([(5, 4)], "all 4x5"), ([(5, 4), (4, 5)], "4x5 to")])
def test_sizes(sizes, expected):
    assert look._sizes(*np.asarray(sizes).T).startswith(expected)
