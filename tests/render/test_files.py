"""Files of rendered images: pixels, limits, and large ones that are stopped and go on."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from etils import epath
from helpers.bucket import make_bucket
from helpers.environment import environment
from helpers.functions import image_of
from PIL import Image

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import deep_zoom, tiff, tiles
from inr_gan_jax.render.image import ContinuousImage


@pytest.fixture(scope="module")
def image() -> ContinuousImage:
    return image_of()


@pytest.fixture
def rendered(monkeypatch) -> list:
    """One entry for each tile that is rendered; `stop` on it interrupts before tile number n."""

    class Calls(list):
        stop = None

    calls, render_region = Calls(), tiles.render_region

    def counted(*args):
        if len(calls) == calls.stop:
            raise KeyboardInterrupt
        calls.append(None)
        return render_region(*args)

    monkeypatch.setattr(tiles, "render_region", counted)
    return calls


def assert_near(got: np.ndarray, expected: np.ndarray) -> None:
    """Rounding apart, which other shapes of the same program may do otherwise."""
    assert got.shape == expected.shape and got.dtype == expected.dtype == np.uint8
    different = got != expected
    assert different.mean() < 1e-3 and np.abs(got.astype(int) - expected).max() <= 1


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_is_the_render(channels, tmp_path):
    image, view = image_of(channels), {"window": (-1.25, -0.5, 0.5, 1), "align": "center"}
    image.save(tmp_path / "x.tif", 100, 70, tile=32, **view)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        (page,) = file.pages
        assert file.is_bigtiff and page.is_tiled and page.tile == (32, 32) and page.compression == 1
        pixels = page.asarray().reshape(70, 100, channels)
    whole = to_uint8(image.render(100, 70, **view))
    assert np.std(whole) > 8  # a picture, not one colour
    assert_near(pixels, whole)
    for row, column, part in image.tiles(100, 70, 32, **view):
        tile = pixels[row : row + 32, column : column + 32]
        np.testing.assert_array_equal(tile, to_uint8(part))
    with Image.open(tmp_path / "x.tif") as other:  # another library reads the same
        np.testing.assert_array_equal(np.asarray(other).reshape(pixels.shape), pixels)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]


def test_a_stopped_tiff_goes_on(image, rendered, tmp_path):
    path, part = tmp_path / "x.tif", tmp_path / "x.tif.part"
    rendered.stop = 5
    with pytest.raises(KeyboardInterrupt):
        image.save(path, 100, 70, tile=32)
    assert not path.exists() and json.loads(Path(f"{part}.json").read_text())["done"] == 5
    rendered.stop = 8
    with pytest.raises(KeyboardInterrupt):
        image.save(path, 100, 70, tile=32)
    rendered.stop = None
    image.save(path, 100, 70, tile=32)
    assert len(rendered) == 12  # 4 x 3 tiles, each of them once
    image.save(tmp_path / "y.tif", 100, 70, tile=32)
    assert path.read_bytes() == (tmp_path / "y.tif").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.tif", "y.tif"]


KILLED = """
import sys, time
from helpers.functions import image_of
from inr_gan_jax.render import tiff, tiles
tiff.SYNC_SECONDS = 0
render_region = tiles.render_region
def slowly(*args):
    time.sleep({pause})
    return render_region(*args)
tiles.render_region = slowly
image_of().save(sys.argv[1], 100, 70, tile=32)
"""


def test_a_killed_tiff_goes_on(tmp_path):
    """kill -9 in the middle; another process ends it, as if nothing had happened."""
    slow, quick = (KILLED.format(pause=pause) for pause in (0.2, 0))
    env = environment(tmp_path / "c")
    journal = tmp_path / "x.tif.part.json"
    process = subprocess.Popen([sys.executable, "-c", slow, tmp_path / "x.tif"], env=env)
    done = 0
    while done < 3:
        assert process.poll() is None
        time.sleep(0.02)
        if journal.exists():
            done = json.loads(journal.read_text())["done"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(journal.read_text())["done"] in range(3, 12)
    for name in ("x.tif", "y.tif"):
        subprocess.run([sys.executable, "-c", quick, tmp_path / name], env=env, check=True)
    assert (tmp_path / "x.tif").read_bytes() == (tmp_path / "y.tif").read_bytes()


def test_leftovers_of_others_are_not_touched(image, rendered, tmp_path, monkeypatch):
    path, part = tmp_path / "x.tif", tmp_path / "x.tif.part"
    others = [(image, {"window": (-1, -1, 0, 0)}), (image, {"tile": 16}), (image_of(seed=1), {})]
    rendered.stop = len(rendered) + 2
    with pytest.raises(KeyboardInterrupt):
        image.save(path, 64, 64, tile=32)
    left = part.read_bytes()
    for other, options in others:
        with pytest.raises(UserError) as caught:
            other.save(path, 64, 64, **{"tile": 32, **options})
        assert "x.tif.part is the beginning of another render: delete it" in one_line(caught)
    assert part.read_bytes() == left
    rendered.stop = None
    image.save(path, 64, 64, tile=16, overwrite=True)
    assert_near(tifffile.imread(path), to_uint8(image.render(64, 64)))
    with pytest.raises(UserError, match="x.tif exists: delete it"):
        image.save(path, 64, 64)
    with pytest.raises(UserError, match="multiple of 16 pixels a side, not 20"):
        image.save(tmp_path / "y.tif", 64, 64, tile=20)
    usage = shutil._ntuple_diskusage(10**9, 10**9, 10**4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"y.tif.part will take 0.1 GB; 0.0 are free"):
        image.save(tmp_path / "y.tif", 5000, 5000)


def test_a_tiff_in_a_cloud_is_made_here_and_copied(image, rendered, tmp_path, monkeypatch):
    make_bucket(monkeypatch)
    gs = epath.Path("gs://bucket/x.tif")
    monkeypatch.setattr(tiff.tempfile, "gettempdir", lambda: str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    rendered.stop = 3
    with pytest.raises(KeyboardInterrupt):
        image.save(gs, 64, 64, tile=32)
    rendered.stop = None
    image.save(gs, 64, 64, tile=32)
    assert len(rendered) == 4 and not list((tmp_path / "here").iterdir())
    pixels = tifffile.imread(io.BytesIO(gs.read_bytes()))
    assert_near(pixels, to_uint8(image.render(64, 64)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures(channels, tmp_path):
    image = image_of(channels)
    expected = to_uint8(image.render(50, 30, samples=4))
    for name in ("x.png", "x.PNG", "new/x.webp", *["x.jpg", "x.jpeg"][: 2 * (channels < 4)]):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        image.save(path, 50, 30, samples=4, quality=100, tile=32)
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
        if "png" in name.lower():
            assert picture.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
            assert_near(pixels.reshape(expected.shape), expected)
        elif channels < 4:  # where nothing is seen WebP keeps no colour; there is no grey WebP
            pixels = np.broadcast_to(pixels.reshape(30, 50, -1), (30, 50, 3)).astype(int)
            assert np.abs(pixels - expected).mean() < 8
        else:
            assert picture.mode == "RGBA" and picture.size == (50, 30)
    image.save(tmp_path / "x.npy", 50, 30)
    floats = np.load(tmp_path / "x.npy")
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, image.render(50, 30), atol=1e-5)


@pytest.mark.parametrize(
    "name, size, said",
    [
        ("x.bmp", (8, 8), "its suffix must be one of .png, .jpg"),
        ("x", (8, 8), "its suffix must be one of"),
        ("x.jpg", (65536, 8), "65536x8 is too large, JPEG ends at 65535"),
        ("x.webp", (8, 16384), "8x16384 is too large, WEBP ends at 16383"),
        ("x.png", (32768, 32768), "32768x32768 takes 3.0 GiB of memory; .tif and .dzi are"),
        ("x.npy", (16384, 16384), "takes 3.0 GiB"),
        ("file/x.png", (8, 8), "x.png cannot be written: "),
        ("folder.png", (8, 8), "folder.png is a folder"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_rendered(
    name, size, said, image, rendered, tmp_path
):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError) as caught:
        image.save(tmp_path / name, *size)
    assert said in one_line(caught) and not rendered


def test_other_refusals(image, rendered, tmp_path):
    rgba = image_of(4)
    rendered.clear()
    with pytest.raises(UserError, match="JPEG has no transparency"):
        rgba.save(tmp_path / "x.jpg")
    with pytest.raises(UserError, match="JPEG tiles have no transparency"):
        rgba.save(tmp_path / "x.dzi", tile_format="jpg")
    with pytest.raises(UserError, match="quality = 0 must be 1 to 100"):
        image.save(tmp_path / "x.jpg", quality=0)
    with pytest.raises(ValueError, match="window .* is empty"):
        image.save(tmp_path / "x.png", window=(1, 0, 0, 1))
    with pytest.raises(ValueError, match="unknown option 'widnow'"):
        image.save(tmp_path / "x.png", widnow=(0, 0, 1, 1))
    assert not rendered and not list(tmp_path.iterdir())
    image.save(tmp_path / "x.png")
    with pytest.raises(UserError, match="x.png exists"):
        image.save(tmp_path / "x.png")
    image.save(tmp_path / "x.png", 20, 20, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_overlapping_tiles_are_parts_of_the_whole(image):
    whole = image.render(50, 30, samples=4)
    corners = []
    for row, column, pixels in image.tiles(50, 30, 16, overlap=3, samples=4):
        height, width, _ = pixels.shape
        corners.append((row, column, row + height, column + width))
        part = whole[row : row + height, column : column + width]
        assert np.abs(pixels - part).max() < 1e-5 * np.ptp(whole)
    rows, columns = [(0, 19), (13, 30)], [(0, 19), (13, 35), (29, 50), (45, 50)]
    assert corners == [(r[0], c[0], r[1], c[1]) for r in rows for c in columns]


def pyramid(path: Path, shape: tuple, tile: int, overlap: int = 1) -> np.ndarray:
    """One level of a pyramid put together; tiles must agree where they overlap."""
    whole, seen = np.zeros(shape, np.uint8), np.zeros(shape[:2], bool)
    columns, rows = -(-shape[1] // tile), -(-shape[0] // tile)
    names = {f"{c}_{r}.png" for c in range(columns) for r in range(rows)}
    assert {p.name for p in path.iterdir()} == names
    for r in range(rows):
        for c in range(columns):
            top, left = max(r * tile - overlap, 0), max(c * tile - overlap, 0)
            bottom = min((r + 1) * tile + overlap, shape[0])
            right = min((c + 1) * tile + overlap, shape[1])
            with Image.open(path / f"{c}_{r}.png") as picture:
                pixels = np.asarray(picture).reshape(bottom - top, right - left, -1)
            there = seen[top:bottom, left:right]
            before = whole[top:bottom, left:right]
            assert (np.abs(before.astype(int) - pixels) <= 1)[there].all()
            before[:] = pixels
            there[:] = True
    assert seen.all()
    return whole


def test_deep_zoom(image, tmp_path):
    image.save(tmp_path / "x.dzi", 40, 22, tile=16)
    text = (tmp_path / "x.dzi").read_text()
    for said in ('TileSize="16"', 'Overlap="1"', 'Format="png"', 'Width="40"', 'Height="22"'):
        assert said in text
    assert {p.name for p in tmp_path.iterdir()} == {"x.dzi", "x_files"}
    sizes = [(1, 1), (2, 1), (3, 2), (5, 3), (10, 6), (20, 11), (40, 22)]
    assert {p.name for p in (tmp_path / "x_files").iterdir()} == {str(i) for i in range(7)}
    whole = to_uint8(image.render(40, 22))
    for level, (width, height) in enumerate(sizes):
        pixels = pyramid(tmp_path / "x_files" / str(level), (height, width, 3), 16)
        if level == 6:
            assert_near(pixels, whole)
        small = Image.fromarray(whole).resize((width, height), Image.Resampling.BOX)
        assert np.abs(pixels.astype(int) - np.asarray(small)).mean() < 12


def test_levels_show_one_function(image):
    """Up to half the native size a level's pixels are means of native pixels, above it of points
    of the very function that the last level shows."""
    view = image.view(64, 64)
    levels = deep_zoom.level_views(image, view)
    assert levels[-1] == view and [v.width for v in levels] == [1, 2, 4, 8, 16, 32, 64]
    native, whole = image.render(), image.render(64, 64)
    for level in levels[:-1]:
        n = level.width
        full = native if n < 16 else image.render(2 * n, 2 * n, superres_from=1, density=4)
        means = full.reshape(n, len(full) // n, n, len(full) // n, 3).mean((1, 3))
        assert np.abs(image.render(**vars(level)) - means).max() < 1e-5 * np.ptp(whole), n


def test_a_stopped_pyramid_goes_on(image, rendered, tmp_path):
    rendered.stop = 9
    for _ in range(2):  # a second start with nothing done in between loses nothing
        with pytest.raises(KeyboardInterrupt):
            image.save(tmp_path / "x.dzi", 40, 22, tile=16)
    assert not (tmp_path / "x.dzi").exists()
    with pytest.raises(UserError, match="x_files is of another pyramid: delete it"):
        image.save(tmp_path / "x.dzi", 40, 23, tile=16)
    rendered.stop = None
    image.save(tmp_path / "x.dzi", 40, 22, tile=16)
    assert len(rendered) == 5 + 2 + 6  # each tile once
    image.save(tmp_path / "y.dzi", 40, 22, tile=16)
    for one in (tmp_path / "x_files").rglob("*.png"):
        other = tmp_path / "y_files" / one.relative_to(tmp_path / "x_files")
        assert one.read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="x.dzi exists"):
        image.save(tmp_path / "x.dzi", 40, 22, tile=16)
    image.save(tmp_path / "x.dzi", 5, 3, tile_format="jpg", overwrite=True)
    assert {p.name for p in (tmp_path / "x_files").iterdir()} == {"0", "1", "2", "3"}
    with Image.open(tmp_path / "x_files" / "3" / "0_0.jpg") as picture:
        assert picture.size == (5, 3)


def test_bilinear_networks_agree_between_tiles(tmp_path):
    image = image_of(upsampling="bilinear", instance_norm=True)
    image.save(tmp_path / "x.tif", 50, 40, tile=16)
    assert_near(tifffile.imread(tmp_path / "x.tif"), to_uint8(image.render(50, 40)))


def test_a_notebook_shows_it(image):
    assert repr(image) == "ContinuousImage(3 channels, levels 8x8, 16x16)"
    with Image.open(io.BytesIO(image._repr_png_())) as picture:
        assert picture.size == (256, 256)
        assert_near(np.asarray(picture), to_uint8(image.render(256, 256)))


LARGE = """
import resource, sys
from helpers.functions import image_of
image_of().save(sys.argv[1], 16384, 16384)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_large_tiff_takes_little_memory(tmp_path):
    command = [sys.executable, "-c", LARGE, tmp_path / "x.tif"]
    env = environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 1 << 30  # the pixels alone are 0.75 GiB
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        assert file.pages.first.shape == (16384, 16384, 3)
        last = file.pages.first.segments()
        assert sum(1 for _ in zip(last, range(3), strict=False)) == 3
