"""Labels as people write them, and classes by the names of folders."""

import json
import unicodedata
import zipfile

import numpy as np
import pytest
from helpers.samples import LABELS, picture
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax.data import labels
from inr_gan_jax.data.fit import Fit
from inr_gan_jax.data.prepare import prepare
from inr_gan_jax.data.sources import open_source

SIX = Fit(height=6, width=6)


def opened(path):
    return open_source(str(path), height=6, width=6, channels=3, labels=True)


def classes(path) -> list[int]:
    source = opened(path)
    return [source[index][1] for index in range(len(source))]


def one_hot(label: int) -> list[float]:
    return [float(label == number) for number in range(6)]


@pytest.mark.parametrize("write, count", [(float, 5), (one_hot, 6), (int, 5)])
def test_whole_floats_and_one_hot_vectors_are_classes(make_folder, write, count):
    path = make_folder([[name, write(label)] for name, label in LABELS])
    assert classes(path) == [label for _, label in LABELS]
    assert opened(path).num_classes == count


def test_names_mean_what_they_mean(tmp_path):
    (tmp_path / "ä").mkdir()
    for number, name in enumerate(("0.png", "ä/1.png", "ä/2.png")):
        picture(number).save(tmp_path / unicodedata.normalize("NFD", name).replace("a\u0308", "ä"))
    written = [["./0.png", 1], ["ä\\1.png", 0], [unicodedata.normalize("NFD", "ä/2.png"), 2]]
    record = json.dumps({"labels": written}, ensure_ascii=False)
    (tmp_path / "dataset.json").write_text(record, encoding="utf-8-sig")
    assert classes(tmp_path) == [1, 0, 2]


def test_a_zip_of_windows_has_folders(make_folder, tmp_path):
    folder, path = make_folder(LABELS), tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, "all\\" + str(file.relative_to(folder)).replace("/", "\\"))
        archive.write(folder / "dataset.json", "all\\dataset.json")
    assert classes(path) == [label for _, label in LABELS]


def test_gaps_are_told_and_numbered_anew_on_request(make_folder, tmp_path, capfd):
    years = [[name, 1990 + 3 * label] for name, label in LABELS]
    path, dest = make_folder(years), tmp_path / "x.zip"
    prepare(str(path), str(tmp_path / "kept.zip"), SIX)
    told = "1,999 of 2,003 classes (0 to 2,002) have no image"
    assert told in capfd.readouterr().err
    assert classes(tmp_path / "kept.zip") == [label for _, label in years]
    assert told in capfd.readouterr().err
    prepare(str(path), str(dest), SIX, relabel=True)
    assert classes(dest) == [2, 0, 2, 1, 3]
    with zipfile.ZipFile(dest) as archive:
        assert json.loads(archive.read("dataset.json"))["classes"] == [
            "1990",
            "1993",
            "1996",
            "2002",
        ]
    assert "have no image" not in capfd.readouterr().err


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30))
def test_relabelling_keeps_order_and_equality(old):
    new, names = labels.relabelled(np.asarray(old))
    assert [int(names[number]) for number in new] == old
    assert sorted(set(new.tolist())) == list(range(len(names)))
