"""Every kind of bad input is told in one line that names the file and says what to do."""

import io
import json
import zipfile
import zlib

import numpy as np
import pytest
from helpers.samples import LABELS, open_rgb, picture
from PIL import Image

from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.errors import UserError


def message(path, **changes) -> str:
    with pytest.raises(UserError) as caught:
        open_rgb(path, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "source, changes, expected",
    [
        ("tfds:mnits", {}, 'tfds:mnits is no data set.*did you mean "mnist"'),
        ("tfds:tiny_shapes:tset", {}, "tfds:tiny_shapes:tset has the splits test, train"),
        ("tfds:tiny_shapes:9.0.0", {}, "cannot be loaded at version 9.0.0.*check its config"),
        ("tfds:", {}, "not of the form tfds:NAME"),
        ("tfds:tiny_shapes", {"channels": 1}, "tiny_shapes is RGB, but .* --channels=1"),
        ("tfds:tiny_shapes", {"width": 12}, "are 6x6, .* 12x6: .*--source=tfds:tiny_shapes"),
        ("tfds:plain_shapes", {"labels": True}, "tfds:plain_shapes has no labels, but"),
        ("tfds:varied_shapes", {}, "varied_shapes have no common size: .*--crop=center"),
    ],
)
def test_bad_tfds(tfds_dir, source, changes, expected):
    with pytest.raises(UserError, match=expected):
        open_rgb(source, data_dir=tfds_dir, **changes)


def test_tfds_without_network(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    text = message("tfds:cifar10", data_dir=str(tmp_path))
    assert "cannot get tfds:cifar10 (no route to host)" in text
    assert "download_and_prepare()" in text and "data_dir" in text


def test_missing_path_and_empty_data(tmp_path):
    assert "nowhere does not exist: check" in message(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty holds no images" in message(tmp_path / "empty")
    (tmp_path / "x.tar").write_bytes(b"")
    assert "x.tar is neither a folder nor a .zip: give" in message(tmp_path / "x.tar")
    zipfile.ZipFile(tmp_path / "e.zip", "w").close()
    assert "e.zip holds no images" in message(tmp_path / "e.zip")


def test_sizes(make_folder):
    path = make_folder()
    text = message(path, height=8, width=8)
    assert "photos are 6x6, but the model's are 8x8" in text
    assert "python -m inr_gan_jax.data.prepare --height=8 --width=8" in text
    picture(0, 6, 7, 3).save(path / "b" / "3.png")
    text = message(path)
    assert "b/3.png is 7x6 but 0.png is 6x6" in text and "inr_gan_jax.data.prepare" in text


def test_channels(make_folder):
    path = make_folder()
    assert "0.png is RGB, but the model has 1 channel (L)" in message(path, channels=1)
    assert "use 1, 3 or 4" in message(path, channels=2)
    for mode in ("L", "LA", "RGBA"):
        picture(0).convert(mode).save(path / "b" / "2.png")
        text = message(path)
        assert f"b/2.png is {mode}, but" in text and "--channels=3" in text
    (path / "b" / "2.png").unlink()
    picture(0).convert("CMYK").save(path / "b" / "2.jpg")
    assert "b/2.jpg is CMYK, but" in message(path)


def test_sixteen_bits_are_refused(make_folder):
    path = make_folder()
    deep = Image.fromarray(np.full((6, 6), 40000, np.uint16))
    deep.save(path / "1.png")
    assert "1.png has more than 8 bits a channel: convert" in message(path)
    data = io.BytesIO()
    picture(0).save(data, "PNG")
    header = bytearray(data.getvalue())
    header[24] = 16  # RGB of 16 bits, which Pillow would read as 8.
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    (path / "1.png").write_bytes(header)
    assert "1.png has more than 8 bits a channel" in message(path)


def test_rotated_photographs_are_refused(make_folder):
    path = make_folder()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0).save(path / "b" / "0.jpg", exif=exif)
    text = message(path)
    assert "b/0.jpg is stored rotated" in text and "inr_gan_jax.data.prepare" in text


@pytest.mark.parametrize("name", ["z.png", "z.jpg", "z.webp", "z.bmp"])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_images(make_folder, to_zip, name, packed):
    path = make_folder(size=(40, 40))
    picture(9, 40, 40, 3).save(path / name)
    whole = (path / name).read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 3, 0):
        (path / name).write_bytes(whole[:size])
        text = message(to_zip(path) if packed else path, height=40, width=40)
        assert f"/{name} " in text
        if size > 3:
            assert "is truncated: copy or download it again" in text or "cannot be decoded" in text
        else:
            assert "is no image that Pillow reads: replace or remove it" in text
    (path / name).write_bytes(whole + b"\0" * 50)  # Cameras add such tails.
    assert len(open_rgb(path, height=40, width=40)) == 6


def test_truncated_jpeg_with_a_whole_thumbnail(make_folder):
    path = make_folder(size=(40, 40))
    thumbnail, photo = io.BytesIO(), io.BytesIO()
    picture(1, 8, 8, 3).save(thumbnail, "JPEG")
    picture(9, 40, 40, 3).save(photo, "JPEG")
    block = b"Exif\0\0" + thumbnail.getvalue()
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    data = photo.getvalue()[:2] + segment + photo.getvalue()[2:]
    (path / "z.jpg").write_bytes(data)
    assert len(open_rgb(path, height=40, width=40)) == 6
    (path / "z.jpg").write_bytes(data[: -len(photo.getvalue()) // 4])
    assert "z.jpg is truncated" in message(path, height=40, width=40)


def test_files_that_are_no_images(make_folder):
    path = make_folder()
    (path / "b" / "3.png").write_text("<html>not found</html>")
    text = message(path)
    assert "b/3.png is no image that Pillow reads" in text and "replace or remove it" in text


def test_damage_that_only_decoding_shows_is_named_while_training(make_folder, to_zip):
    path = make_folder(size=(40, 40))
    data = bytearray((path / "1.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (path / "1.png").write_bytes(data)
    for source in (path, to_zip(path)):
        opened = open_rgb(source, height=40, width=40)
        with pytest.raises(UserError, match="1.png cannot be decoded .*: replace or remove it"):
            opened[1]


def test_a_file_that_changes_after_the_start_is_named(make_folder):
    path = make_folder()
    source = open_rgb(path)
    picture(1, 8, 8, 3).save(path / "1.png")
    with pytest.raises(UserError, match="1.png is 8x8 now"):
        source[1]
    (path / "1.png").unlink()
    with pytest.raises(UserError, match="1.png cannot be read"):
        source[1]


@pytest.mark.parametrize("packed", [False, True])
def test_damage_in_mid_run_costs_one_image_and_is_named(make_folder, to_zip, caplog, packed):
    folder = make_folder(LABELS, size=(40, 40))
    path = to_zip(folder) if packed else folder
    source = open_rgb(path, labels=True, height=40, width=40)
    if packed:  # the fourth image's bytes are overwritten
        data = path.read_bytes()
        place = data.index((folder / "b/3.png").read_bytes())
        path.write_bytes(data[: place + 30] + b"damaged" + data[place + 37 :])
    else:
        (folder / "b" / "3.png").unlink()
    reader = batches(source, seed=0, batch_size=5, mirror=False, max_skipped=1)
    labels = sorted(next(reader)["label"])
    reader.close()
    assert labels == [0, 2, 2, 4, 4]  # b/3.png is of class 1, the next image of class 4
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}/b/3.png cannot be ")


def test_a_tfds_file_that_cannot_be_read_is_named(tfds_dir, monkeypatch):
    source = open_rgb("tfds:tiny_shapes", data_dir=tfds_dir)

    class Gone:
        def __getitem__(self, index):
            raise RuntimeError("shard is gone\nand more")

    monkeypatch.setattr(source._store, "_opened", Gone())
    expected = r"tfds:tiny_shapes: image 3 cannot be read \(shard is gone\): build it again"
    with pytest.raises(UserError, match=expected):
        source[3]


def test_broken_zips(make_folder, to_zip):
    path = to_zip(make_folder())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "x.zip is not a readable zip" in message(path)
    assert "copy or make it again" in message(path)
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF  # Within the first image: the zip's checksum tells.
    path.write_bytes(flipped)
    assert "x.zip/0.png" in message(path)
    path.write_bytes(whole)
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("0.png", b"")
    assert "x.zip holds 0.png twice" in message(path)


@pytest.mark.parametrize(
    "labels, expected",
    [
        (LABELS[1:], "dataset.json has no label for 0.png (1 of 5 images"),
        ([], "no label for 0.png (5 of 5 images"),
        (LABELS + [["d.png", 0]], "labels d.png, which is not in"),
        (LABELS[1:] + [["0.png", -1]], "label of 0.png is -1: labels must be whole numbers from 0"),
        (LABELS[1:] + [["0.png", 1.5]], "label of 0.png is 1.5: labels must be whole"),
        (LABELS[1:] + [["0.png", 10**30]], "labels must be whole numbers from 0"),
        (
            LABELS[1:] + [["0.png", 10**9]],
            "1,000,000,000, which would be so many classes",
        ),
        (LABELS[1:] + [["0.png", True]], "label of 0.png is true: labels must be whole"),
        (LABELS[1:] + [["0.png", [0.5, 0.5]]], "0.png is a vector, but not one-hot: only"),
        (LABELS[1:] + [["0.png", []]], "0.png is a vector, but not one-hot: only"),
        (LABELS + [["0.png", 1]], "labels 0.png twice"),
        (LABELS + ["0.png"], '"0.png" is not of the form ["name.png", 3]'),
        ({"0.png": 3}, '"labels" must be a list'),
        (None, "has no labels, but the model is class-conditional: add a dataset.json"),
    ],
)
def test_bad_labels(make_folder, to_zip, labels, expected):
    path = make_folder(labels)
    assert expected in message(path, labels=True)
    assert expected in message(to_zip(path), labels=True)


def test_labels_of_null_and_bad_json(make_folder):
    path = make_folder()
    (path / "dataset.json").write_text('{"labels": null}')
    assert len(open_rgb(path)) == 5
    assert "has no labels" in message(path, labels=True)
    (path / "dataset.json").write_text('{"labels": [')
    assert "dataset.json is not valid JSON" in message(path)
    (path / "dataset.json").write_text(json.dumps(LABELS))
    assert "dataset.json must be an object" in message(path)
