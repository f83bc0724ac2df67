"""What sources hold."""

import concurrent.futures
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers.environment import environment
from helpers.samples import LABELS, open_rgb, picture, pixels
from PIL import Image

from inr_gan_jax.data import checksums
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError


@pytest.mark.parametrize("kind", ["folder", "stored", "deflated"])
def test_files_are_read_in_order_of_name(make_folder, to_zip, kind):
    path = make_folder(LABELS)
    if kind != "folder":
        methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
        path = to_zip(path, compression=methods[kind])
    source = open_rgb(path, labels=True)
    assert len(source) == 5
    assert (source.height, source.width, source.channels) == (6, 6, 3)
    for index, (_, label) in enumerate(LABELS):
        image, found = source[index]
        assert image.dtype == np.uint8 and found == label
        np.testing.assert_array_equal(image, pixels(index))
    assert source.num_classes == 5
    assert source.class_counts.dtype == np.int64
    assert source.class_counts.tolist() == [1, 1, 2, 0, 1]
    with pytest.raises(IndexError):
        source[5]


def test_labels_are_left_alone_unless_asked_for(make_folder):
    source = open_rgb(make_folder([["nowhere.png", -1]]))
    assert source[0][1] == 0 and source.num_classes == 0 and source.class_counts is None


def test_height_and_width_are_not_confused(make_folder):
    path = make_folder(size=(4, 6))
    assert open_rgb(path, height=4)[0][0].shape == (4, 6, 3)
    with pytest.raises(UserError, match="are 6x4, but the model's are 4x6"):
        open_rgb(path, height=6, width=4)


def test_every_format_and_mode(tmp_path):
    lossless = {"a.png": {}, "b.BMP": {}, "c.webp": {"lossless": True}}
    for name, options in lossless.items():
        picture(3).save(tmp_path / name, **options)
    picture(3).save(tmp_path / "d.JPG")
    picture(3).save(tmp_path / "e.jpeg")
    picture(3).quantize(200).save(tmp_path / "f.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._a.png").write_bytes(b"resource fork")
    source = open_rgb(tmp_path)
    assert len(source) == 6
    for index in (0, 1, 2, 5):  # 36 colours fit into a palette of 200.
        np.testing.assert_array_equal(source[index][0], pixels(3))


def test_grey_and_alpha(tmp_path):
    for channels in (1, 4):
        folder = tmp_path / str(channels)
        folder.mkdir()
        picture(1, 6, 6, channels).save(folder / "a.png")
        source = open_rgb(folder, channels=channels)
        np.testing.assert_array_equal(source[0][0], pixels(1, 6, 6, channels))
    palette = picture(1).quantize(8)
    palette.save(tmp_path / "1" / "a.png", transparency=0)
    assert open_rgb(tmp_path / "1", channels=4)[0][0].shape == (6, 6, 4)
    Image.new("1", (6, 6), 1).save(tmp_path / "1" / "a.png")
    assert open_rgb(tmp_path / "1", channels=1)[0][0].max() == 255


def test_digits():
    from sklearn.datasets import load_digits

    source = open_source("digits", height=8, width=8, channels=1, labels=True)
    data = load_digits()
    assert len(source) == 1797 and source.num_classes == 10
    assert source.class_counts.tolist() == np.bincount(data.target).tolist()
    for index in (0, 17, 1796):
        image, label = source[index]
        assert label == data.target[index]
        np.testing.assert_allclose(image[..., 0], data.images[index] * 255 / 16, atol=0.5)
    large = open_source("digits", height=32, width=32, channels=1, labels=False)
    image = large[0][0]
    assert image.shape == (32, 32, 1) and large[0][1] == 0
    blocks = image.reshape(8, 4, 8, 4).mean((1, 3))
    assert np.corrcoef(blocks.ravel(), data.images[0].ravel())[0, 1] > 0.97
    with pytest.raises(UserError, match="digits is L, but the model has 3 channels .*--channels=3"):
        open_source("digits", height=8, width=8, channels=3, labels=False)
    with pytest.raises(UserError, match="digits are 8x8, .* model's 16x8: .*--crop=center"):
        open_source("digits", height=8, width=16, channels=1, labels=False)


def test_tfds(tfds_dir):
    source = open_rgb("tfds:tiny_shapes", labels=True, data_dir=tfds_dir)
    assert len(source) == 10 and source.num_classes == 3
    assert source.class_counts.tolist() == [5, 5, 0]
    # TFDS shuffles what it writes: compare as sets.
    found = {source[i][0].tobytes(): source[i][1] for i in range(10)}
    assert found == {pixels(i).tobytes(): i % 2 for i in range(10)}
    large = open_rgb("tfds:tiny_shapes:test", height=8, width=8, data_dir=tfds_dir)
    assert len(large) == 4
    resized = Image.fromarray(source_image(tfds_dir)).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(large[0][0], np.asarray(resized))
    assert large.content_hash != source.content_hash
    assert "tensorflow" not in sys.modules


def source_image(tfds_dir) -> np.ndarray:
    return open_rgb("tfds:tiny_shapes:test", data_dir=tfds_dir)[0][0]


def test_tfds_slices_of_splits(tfds_dir):
    assert len(open_rgb("tfds:tiny_shapes:1.0.0:train[:30%]", data_dir=tfds_dir)) == 3


def test_hash_is_of_the_content_alone(make_folder, to_zip):
    folder = make_folder(LABELS)
    first, again = to_zip(folder, "x.zip"), to_zip(folder, "elsewhere/y.zip")
    expected = open_rgb(first).content_hash
    assert len(expected) == 64 and open_rgb(again).content_hash == expected
    assert open_rgb(first, labels=True).content_hash != expected
    moved = folder.rename(folder.parent / "moved")
    of_folder = open_rgb(moved).content_hash
    assert of_folder == expected  # however it is packed
    shutil.copytree(moved, moved.parent / "outer" / "wrapping")
    assert open_rgb(to_zip(moved.parent / "outer", "wrapped.zip")).content_hash == expected
    picture(7).save(moved / "0.png")
    assert open_rgb(to_zip(moved, "z.zip")).content_hash != expected
    (moved / "0.png").rename(moved / "00.png")
    assert open_rgb(moved).content_hash != of_folder


def test_pixels_that_change_in_place_are_other_data(tmp_path, monkeypatch):
    """Names, sizes and times alike: only the bytes, or a new inode, tell."""
    monkeypatch.setenv("INR_GAN_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for index in range(3):
        image = Image.fromarray(np.full((6, 6, 3), index, np.uint8))
        image.save(tmp_path / "data" / f"{index}.bmp")
        os.utime(tmp_path / "data" / f"{index}.bmp", (1e9, 1e9))
    read = []
    plain = checksums._crc
    monkeypatch.setattr(checksums, "_crc", lambda path: read.append(path) or plain(path))
    before = open_rgb(tmp_path / "data").content_hash
    assert open_rgb(tmp_path / "data").content_hash == before
    assert len(read) == 3  # once each: what was read is remembered
    file = tmp_path / "data" / "1.bmp"
    written = bytearray(file.read_bytes())
    written[54:] = bytes(255 - byte for byte in written[54:])
    file.write_bytes(written)  # its time is new, so it is read; too new to be remembered
    assert open_rgb(tmp_path / "data").content_hash != before
    assert open_rgb(tmp_path / "data").content_hash != before
    assert len(read) == 5
    (cache,) = (tmp_path / "cache" / "checksums").iterdir()
    cache.write_text("{")
    assert open_rgb(tmp_path / "data").content_hash != before
    (tmp_path / "cache" / "checksums").rename(tmp_path / "x")
    (tmp_path / "cache" / "checksums").write_text("")  # a cache that cannot be had
    assert open_rgb(tmp_path / "data").content_hash != before


def read_all(source) -> bytes:
    return b"".join(source[i][0].tobytes() for i in range(len(source)))


def test_pickling_threads_and_processes(make_folder, to_zip):
    source = open_rgb(to_zip(make_folder()))
    expected = read_all(source)
    assert read_all(pickle.loads(pickle.dumps(source))) == expected
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read_all, [source] * 40)) == {expected}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        assert pool.submit(read_all, source).result() == expected


def test_imports_neither_tensorflow_nor_the_rest_of_the_house():
    code = "import sys, inr_gan_jax.data.sources, inr_gan_jax.data.prepare; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    names = set(done.stdout.split())
    assert "inr_gan_jax.data.sources" in names
    assert not names & {"tensorflow", "jax", "flax", "ml_collections"}
    assert not {n for n in names if n.startswith("inr_gan_jax.")} & {
        "inr_gan_jax.models",
        "inr_gan_jax.train",
    }
