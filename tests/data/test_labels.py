"""Labels as people write them, and classes by the names of folders."""

import json
import types
import unicodedata
import zipfile

import numpy as np
import pytest
from helpers.samples import LABELS, picture
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax.cli.arguments import parse_class
from inr_gan_jax.data import labels
from inr_gan_jax.data.fit import Fit
from inr_gan_jax.data.prepare import prepare
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError

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


def test_classes_by_name(make_folder, tmp_path, tfds_dir):
    path, dest = make_folder(), tmp_path / "x.zip"
    (path / "0.png").rename(path / "b" / "0.png")
    (path / "1.png").rename(path / "c" / "1.png")
    prepare(str(path), str(dest), SIX, labels="folders", progress=False)
    source = opened(dest)
    assert source.class_names == ("b", "c") and classes(dest) == [0, 0, 0, 1, 1]
    assert opened(make_folder(LABELS, "unnamed")).class_names == ()
    shapes = open_source(
        "tfds:tiny_shapes", height=6, width=6, channels=3, labels=True, data_dir=tfds_dir
    )
    assert shapes.class_names == ("0", "1", "2")

    model = types.SimpleNamespace(num_classes=2, class_names=source.class_names)
    assert parse_class(model, [7, 8, 9], "c").tolist() == [1, 1, 1]
    assert parse_class(model, [7], "0").tolist() == [0]
    for wrong in ("2", "-1", "cc", ""):
        with pytest.raises(
            UserError, match=f"--class_index={wrong} must be 0 to 1, or a name: b, c"
        ):
            parse_class(model, [7], wrong)


def test_bad_names_of_classes(make_folder):
    path = make_folder()
    (path / "dataset.json").write_text(json.dumps({"labels": LABELS, "classes": [1]}))
    with pytest.raises(UserError, match='"classes" must be a list of names'):
        opened(path)


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30))
def test_relabelling_keeps_order_and_equality(old):
    new, names = labels.relabelled(np.asarray(old))
    assert [int(names[number]) for number in new] == old
    assert sorted(set(new.tolist())) == list(range(len(names)))
