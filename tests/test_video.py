"""Films: the printed examples, what is in them, and every mistake in one line."""

import io

import av
import numpy as np
import pytest
from helpers.commands import assert_mistakes, examples, many, shell
from helpers.models import tiny_model, write_checkpoint
from PIL import Image

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.film import check, encode
from inr_gan_jax.pictures.pixels import opaque, to_uint8
from inr_gan_jax.render import region
from inr_gan_jax.render.frames import Planned, plan, zoom_windows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples work: a checkpoint of a class-conditional model in runs/digits."""
    here = tmp_path_factory.mktemp("here")
    write_checkpoint(here / "runs" / "digits", tiny_model(classes=3))
    return here


def decode(data: bytes) -> tuple[list[np.ndarray], float]:
    """(RGB frames, seconds) of a film."""
    if data[4:8] == b"ftyp":
        with av.open(io.BytesIO(data)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
            return frames, len(frames) / float(container.streams.video[0].average_rate)
    with Image.open(io.BytesIO(data)) as image:
        frames, milliseconds = [], 0
        for k in range(image.n_frames):
            image.seek(k)
            image.load()
            milliseconds += image.info["duration"]
            frames.append(np.asarray(image.convert("RGB")))
    return frames, milliseconds / 1000


@pytest.mark.slow
def test_examples_work_as_printed(folder):
    first, *others = examples("video")
    said = [shell("video", first, folder)]
    said += many("video", others, folder)
    assert len(said) == 4
    for example, one in zip([first, *others], said, strict=True):
        name = example.split("=")[-1]
        assert one.code == 0 and one.out.startswith(f"{name}: "), (example, one)
        assert "INFO" not in one.err and "I1" not in one.err
    with Image.open(folder / "corners.png") as picture:
        assert picture.size == (7 * 17 + 1, 7 * 17 + 1)
    for name, size, length in (("morph.mp4", 16, 2), ("morph.webp", 64, 1), ("zoom.gif", 128, 2)):
        frames, seconds = decode((folder / name).read_bytes())
        assert seconds == pytest.approx(length, abs=0.01)
        assert all(frame.shape == (size, size, 3) for frame in frames)
        assert np.ptp([frame.mean() for frame in frames]) > 0.1


def test_mistakes_are_one_line_each(folder):
    runs = "--checkpoint=runs/digits"
    morph = f"{runs} --seeds=1,2 --dest=x.mp4"
    mistakes = {
        runs: "give one of: --seeds=1,2,3 --dest=x.mp4, --seed=3",
        f"{runs} --seeds=1,2": "give --seeds=1,2,3 --dest=x.mp4",
        f"{runs} --seeds=1,2 --grid=x.png": "give one of",
        f"{runs} --corners=1,2,3,4": "give --corners=1,2,3,4 --grid=x.png",
        f"{runs} --seed=1 --dest=x.gif": "give --seed=3 --zoom=x,y,factor --dest=x.mp4",
        f"{runs} --seeds=1 --dest=x.mp4": "--seeds=1: give 2 to 10,000 seeds",
        f"{runs} --seeds=1,b --dest=x.mp4": "'b' is no seed",
        f"{runs} --seeds=0-4000000000 --dest=x.mp4": "more than 10,000,000 at once",
        f"{runs} --corners=1,2,3 --grid=x.png": "--corners=1,2,3: give four seeds",
        f"{runs} --corners=1,2,3,x --grid=x.png": "--corners=1,2,3,x: 'x' is no seed",
        f"{runs} --corners=1,2,3,4 --grid=x.png --size=9999x9999": "fill the memory",
        f"{runs} --seeds=1,2 --dest=x.mp4 --size=20000x16": "at most 16384 pixels a side",
        f"{runs} --corners=1,2,3,4 --grid=x.bmp": "must end in .png",
        f"{runs} --seeds=1,2 --dest=x.avi": "must end in .mp4, .gif, .webp",
        f"{runs} --seeds=1,2 --dest=bar/x.gif": "be written",
        f"{morph} --size=16": "--size=16 must be WIDTHxHEIGHT",
        f"{morph} --size=17x16": "even width and height, not 17x16: use --size=18x16",
        f"{morph} --window=1,2,3": "--window=1,2,3 must be left,bottom,right,top",
        f"{morph} --window=1,1,0,0": "window (1.0, 1.0, 0.0, 0.0) is empty",
        f"{morph} --superres_from=9": "superres_from = 9 must be 0 to 2",
        f"{morph} --class_index=3": "--class_index=3 must be 0 to 2",
        f"{morph} --truncation=nan": "--truncation=nan must be finite",
        f"{runs} --seeds=1-9 --space=latent --dest=x.mp4": "nothing between the classes",
        f"{runs} --seeds=1,2 --fps=60 --dest=x.gif": "a .gif has at most 50 frames per second",
        f"{runs} --seed=3 --zoom=0,0 --dest=x.gif": "--zoom=0,0 is not of the form x,y,factor",
        f"{runs} --seed=3 --zoom=0,0,1 --dest=x.gif": "must be above 1 and at most 1048576",
        f"{runs} --seed=3 --zoom=2,0,4 --dest=x.gif": "the point 2,0 lies outside the window",
        "--checkpoint=nowhere --seeds=1,2 --dest=x.gif": "no such folder",
    }
    (folder / "bar").touch()
    assert_mistakes("video", mistakes, folder)
    assert not list(folder.glob("x.*"))


def waves(count: int, channels: int) -> list[np.ndarray]:
    """Smooth moving pictures, uint8 [32, 48, C]."""
    y, x, c = np.mgrid[:32, :48, :channels] / 16
    return [to_uint8(np.sin(2 * x + k / 3 + c) * np.cos(y - c)) for k in range(count)]


@pytest.mark.parametrize("kind", ["mp4", "webp", "gif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_films_show_the_frames_in_their_colours(kind, channels):
    frames = waves(7, channels)
    got, seconds = decode(encode(iter(frames), kind, 12))
    assert len(got) == 7 and seconds == pytest.approx(7 / 12, abs=0.01)
    if kind == "webp" and channels == 4:
        return  # keeps its transparency, and says nothing about what is behind
    for one, other in zip(got, map(opaque, frames), strict=True):
        difference = np.abs(one.astype(int) - other)
        assert difference.mean() < 8 and np.abs((one - other.astype(int)).mean((0, 1))).max() < 3


def test_transparency():
    frames = waves(3, 4)
    clear = frames[0].copy()
    clear[..., 3] = 0
    assert (opaque(clear) == 255).all() and opaque(clear, alpha=True).shape[-1] == 4
    with Image.open(io.BytesIO(encode(frames, "webp", 10))) as film:
        assert film.mode == "RGBA" or "A" in film.getbands()


def test_limits_of_containers():
    check("webp", 17, 3, 1000)
    for arguments in (("mp4", 17, 16, 30), ("mp4", 16, 17, 30), ("gif", 4, 4, 51)):
        with pytest.raises(UserError):
            check(*arguments)


@pytest.mark.parametrize("back", [False, True])
def test_zoom_windows_shrink_geometrically_around_the_point(back):
    windows = np.asarray(zoom_windows((-1, -1, 1, 1), (0.25, -0.5), 16, 9, back=back))
    left, bottom, right, top = windows.T
    width = right - left
    np.testing.assert_allclose((0.25 - left) / width, 0.625)  # its place on the screen
    np.testing.assert_allclose((-0.5 - bottom) / (top - bottom), 0.25)
    ratios = width[1:] / width[:-1]
    if back:
        np.testing.assert_allclose(ratios[:4], 16 ** (-2 / 9))
        assert width[0] == 2 and width[-1] == pytest.approx(width[1])
    else:
        np.testing.assert_allclose(ratios, 16 ** (-1 / 8))
        assert width[0] == 2 and width[-1] == pytest.approx(2 / 16)


@pytest.mark.parametrize("size", [(20, 12), (520, 4)])
def test_planned_views_are_the_views_and_compile_once(size):
    image = tiny_model().image(seed=3)
    windows = zoom_windows((-1, -1, 1, 1), (0.2, -0.1), 8, 5, back=False)
    views = [image.view(*size, window=window) for window in windows]
    planned = Planned(image, plan(image, views))
    before = region.render_region._cache_size()
    shown = [planned.show(view) for view in views]
    assert region.render_region._cache_size() == before + 1
    np.testing.assert_allclose(shown[3], image.render(*size, window=windows[3]), atol=1e-5)
