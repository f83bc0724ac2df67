"""The preparation tool, end to end and rule by rule."""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import PIL
import pytest
from etils import epath
from helpers.environment import environment
from helpers.samples import LABELS, picture, pixels
from PIL import Image

from inr_gan_jax.data import archive
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.data.survey import draw
from inr_gan_jax.data.workers import end_with_parent
from inr_gan_jax.errors import UserError

FIT = Fit(height=6, width=6)
ENVIRONMENT = environment()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "inr_gan_jax.data.prepare", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*map(str, arguments)), capture_output=True, text=True, env=ENVIRONMENT
    )


def contents(path) -> tuple[dict, list[bytes]]:
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("dataset.json"))
        return about, [archive.read(n) for n in archive.namelist() if n != "dataset.json"]


def refused(source, dest, fit=FIT, **options) -> str:
    dest = pathlib.Path(dest)
    with pytest.raises(UserError) as caught:
        prepare(str(source), str(dest), fit, progress=False, **options)
    assert "\n" not in str(caught.value)
    assert not dest.exists() and not list(dest.parent.glob("*.partial"))
    return str(caught.value)


def test_end_to_end(make_folder, tmp_path):
    folder, dest = make_folder(LABELS, size=(9, 12)), tmp_path / "out" / "small.zip"
    options = ["--width=8", "--height=6", "--filter=box", "--workers=2"]
    done = run(f"--source={folder}", f"--dest={dest}", *options)
    assert done.returncode == 0, done.stderr
    assert "small.zip: 5 images, 8x6, 3 channel(s), box filter, crop none" in done.stdout
    assert "5/5" in done.stderr  # The progress bar.

    source = open_source(str(dest), height=6, width=8, channels=3, labels=True)
    assert source.class_counts.tolist() == [1, 1, 2, 0, 1]
    for index in range(5):
        image, label = source[index]
        expected = picture(index, 9, 12, 3).resize((8, 6), Image.Resampling.BOX)
        np.testing.assert_array_equal(image, np.asarray(expected))
        assert label == LABELS[index][1]

    about, files = contents(dest)
    assert [name for name, _ in about["labels"]][4] == "00000/img00000004.bmp"
    digest = hashlib.sha256(b"".join(hashlib.sha256(file).digest() for file in files)).hexdigest()
    versions = about["prepared"].pop("versions")
    assert versions == {"pillow": PIL.__version__}
    assert about["prepared"] == {
        "width": 8,
        "height": 6,
        "channels": 3,
        "count": 5,
        "filter": "box",
        "crop": "none",
        "format": "bmp",
        "source": "photos",
        "sha256": digest,
    }
    with zipfile.ZipFile(dest) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)  # Not the time of the run.
    assert os.listdir(dest.parent) == ["small.zip"]

    again = tmp_path / "again.zip"
    fit = Fit(height=6, width=8, filter="box")
    prepare(str(folder), str(again), fit, workers=1, progress=False)
    assert again.read_bytes() == dest.read_bytes()


def test_a_zip_is_prepared_again_with_its_labels(make_folder, to_zip, tmp_path):
    first = to_zip(make_folder(LABELS))
    second, third = tmp_path / "2.zip", tmp_path / "3.zip"
    prepare(str(first), str(second), FIT, progress=False)
    prepare(str(second), str(third), FIT, progress=False)
    sources = [
        open_source(str(path), height=6, width=6, channels=3, labels=True)
        for path in (first, second, third)
    ]
    for items in zip(*sources, strict=True):
        assert len({(image.tobytes(), label) for image, label in items}) == 1
    assert contents(third)[0]["prepared"]["source"] == "2.zip"


def test_named_data_sets(tfds_dir, tmp_path):
    dest = tmp_path / "digits.zip"
    prepare("digits", str(dest), Fit(height=16, width=16), max_images=30, progress=False)
    made = open_source(str(dest), height=16, width=16, channels=1, labels=True)
    named = open_source("digits", height=16, width=16, channels=1, labels=True)
    labels = [named[index][1] for index in range(len(named))]
    drawn = draw(labels, len(named), 30, seed=0)
    assert len(made) == len(drawn) == 30 and set(made.class_counts) == {3}
    for index, number in enumerate(drawn):
        np.testing.assert_array_equal(made[index][0], named[number][0])
        assert made[index][1] == named[number][1]

    dest = tmp_path / "shapes.zip"
    fit = Fit(height=6, width=6)
    prepare("tfds:tiny_shapes:test", str(dest), fit, workers=2, data_dir=tfds_dir, progress=False)
    made = open_source(str(dest), height=6, width=6, channels=3, labels=True)
    assert {made[i][0].tobytes(): made[i][1] for i in range(4)} == {
        pixels(i).tobytes(): i % 2 for i in range(4)
    }
    assert contents(dest)[0]["prepared"]["source"] == "tfds:tiny_shapes:test"
    assert "tensorflow" not in sys.modules


def test_labels(make_folder, tmp_path):
    folder = make_folder(LABELS)
    none, folders, dest = tmp_path / "none.zip", tmp_path / "folders.zip", tmp_path / "no.zip"
    prepare(str(folder), str(none), FIT, labels="none", progress=False)
    assert contents(none)[0]["labels"] is None
    assert "/0.png is in no folder" in refused(folder, dest, labels="folders")
    (folder / "a" / "deep").mkdir(parents=True)
    for name in ("0.png", "1.png"):
        (folder / name).rename(folder / "a" / "deep" / name)
    prepare(str(folder), str(folders), FIT, labels="folders", progress=False)
    assert [label for _, label in contents(folders)[0]["labels"]] == [0, 0, 1, 1, 2]
    assert "labels 0.png, which is not in" in refused(folder, dest)
    assert "digits has no folders" in refused("digits", dest, labels="folders")


def test_center_crops_the_largest_window_of_the_target_shape(tmp_path):
    wide = picture(0, 10, 17, 3)
    square = Fit(height=4, width=4, crop="center", channels=3)(wide, "")
    expected = wide.crop((3, 0, 13, 10)).resize((4, 4), Image.Resampling.LANCZOS)
    assert square.tobytes() == expected.tobytes()
    tall = picture(0, 20, 8, 3)
    landscape = Fit(height=2, width=4, crop="center", channels=3)(tall, "")
    expected = tall.crop((0, 8, 8, 12)).resize((4, 2), Image.Resampling.LANCZOS)
    assert landscape.tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode, black", [("L", 0), ("RGB", (0, 0, 0)), ("RGBA", (0, 0, 0, 255))])
def test_center_wide_adds_black_bars(mode, black):
    channels = len(mode)
    fit = Fit(height=4, width=8, crop="center-wide", channels=channels)
    assert fit.size == (8, 8)
    made = fit(picture(0, 10, 10, channels), "")
    assert made.size == (8, 8) and made.mode == mode
    window = picture(0, 10, 10, channels).crop((0, 2, 10, 7))
    inner = window.resize((8, 4), Image.Resampling.LANCZOS)
    assert made.crop((0, 2, 8, 6)).tobytes() == inner.tobytes()
    for bar in ((0, 0, 8, 2), (0, 6, 8, 8)):
        assert made.crop(bar).getcolors() == [(16, black)]


def test_channels_are_converted():
    rgba = Image.new("RGBA", (2, 2), (200, 0, 0, 0))
    rgba.putpixel((0, 0), (0, 0, 255, 255))
    fit = Fit(height=2, width=2, channels=3)
    assert fit(rgba, "").getpixel((1, 1)) == (255, 255, 255)  # Unseen red is not shown.
    assert fit(rgba, "").getpixel((0, 0)) == (0, 0, 255)
    assert fit(Image.new("LA", (2, 2), (90, 255)), "").getpixel((1, 1)) == (90, 90, 90)
    assert fit(Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "").getpixel((0, 0)) == (0, 0, 0)
    grey = dataclasses.replace(fit, channels=1)
    assert grey(rgba, "").getpixel((1, 1)) == 255 and grey(rgba, "").mode == "L"
    alpha = dataclasses.replace(fit, channels=4)
    assert alpha(Image.new("L", (2, 2), 7), "").getpixel((0, 1)) == (7, 7, 7, 255)
    assert alpha(rgba, "").getpixel((1, 1)) == (200, 0, 0, 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_value_of_every_channel_survives(make_folder, tmp_path, channels):
    folder, dest = make_folder(size=(8, 7), channels=channels), tmp_path / "x.zip"
    prepare(str(folder), str(dest), Fit(8, 7), progress=False)
    made = open_source(str(dest), height=8, width=7, channels=channels, labels=False)
    for index in range(5):
        np.testing.assert_array_equal(made[index][0], pixels(index, 8, 7, channels))


def test_rotated_photographs_are_set_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn by 90 degrees clockwise to see it upright.
    (tmp_path / "photos").mkdir()
    left_white = Image.fromarray(np.repeat(np.uint8([[255] * 8 + [0] * 8]), 16, axis=0))
    left_white.save(tmp_path / "photos" / "a.jpg", exif=exif)
    prepare(str(tmp_path / "photos"), str(tmp_path / "x.zip"), Fit(16, 16), progress=False)
    made = open_source(str(tmp_path / "x.zip"), height=16, width=16, channels=1, labels=False)
    assert made[0][0][:4].min() > 250 and made[0][0][-4:].max() < 5


def test_bad_input_is_named_and_nothing_is_left(make_folder, tmp_path):
    folder, dest = make_folder(), tmp_path / "x.zip"
    assert "must end in .zip" in refused(folder, tmp_path / "x.tar")
    assert "nowhere does not exist" in refused(tmp_path / "nowhere", dest)
    wide = refused(folder, dest, Fit(height=6, width=12))
    assert "0.png is 6x6, which is not the shape of 12x6: use --crop=center" in wide
    with pytest.raises(UserError, match="wider than high, not 6x12: use --crop=center"):
        Fit(height=12, width=6, crop="center-wide")
    with pytest.raises(UserError, match="sizes start at 1"):
        Fit(height=0, width=6)
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(folder, tmp_path / "file" / "x.zip")


def test_dest_is_replaced_only_on_request(make_folder, tmp_path):
    folder, dest = make_folder(), tmp_path / "x.zip"
    dest.write_text("precious")
    with pytest.raises(UserError, match="x.zip exists: give another --dest, or --overwrite"):
        prepare(str(folder), str(dest), FIT, progress=False)
    with pytest.raises(UserError, match="is not the shape"):
        prepare(str(folder), str(dest), Fit(6, 12), overwrite=True, progress=False)
    assert dest.read_text() == "precious"
    prepare(str(folder), str(dest), FIT, overwrite=True, progress=False)
    assert len(contents(dest)[1]) == 5


def test_a_prepared_zip_that_was_changed_is_refused(make_folder, tmp_path):
    dest = tmp_path / "x.zip"
    prepare(str(make_folder()), str(dest), FIT, progress=False)
    with pytest.raises(UserError, match="x.zip are 6x6, but the model's are 8x8"):
        open_source(str(dest), height=8, width=8, channels=3, labels=False)
    with pytest.raises(UserError, match="img00000000.bmp is RGB, but the model has 1 channel "):
        open_source(str(dest), height=6, width=6, channels=1, labels=False)
    with pytest.raises(UserError, match="x.zip has no labels, but"):
        open_source(str(dest), height=6, width=6, channels=3, labels=True)
    data = io.BytesIO()
    picture(9, 6, 7, 3).save(data, "PNG")
    with zipfile.ZipFile(dest, "a") as archive:
        archive.writestr("more.png", data.getvalue())
    with pytest.raises(UserError, match="x.zip was changed .* count 5, it holds 6.*prepare it"):
        open_source(str(dest), height=6, width=6, channels=3, labels=False)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--widht=8"], "error: Unknown command line flag 'widht'. Did you mean: width ?"),
        (["--width=8", "--height=8"], "error: --source is missing (see --help)"),
        (
            ["--width=8", "--height=8", "--source=digits", "--dest=x.zip", "y"],
            "unexpected argument 'y': flags look",
        ),
        (["--width=8", "--height=8", "--source=digits", "--dest=x"], "--dest=x must end in .zip"),
        (["--crop=middle"], "error: flag --crop=middle: value should be one of"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, expected):
    done = run(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, "a worker dies"])
def test_an_interrupted_run_leaves_neither_zip_nor_workers(tmp_path, how):
    (tmp_path / "photos").mkdir()
    picture(0, 2000, 2000, 3).save(tmp_path / "photos" / "0.png")
    for index in range(1, 300):  # more than are done before it is interrupted
        os.link(tmp_path / "photos" / "0.png", tmp_path / "photos" / f"{index}.png")
    dest = tmp_path / "out" / "x.zip"
    arguments = [f"--source={tmp_path}/photos", f"--dest={dest}", "--width=2000", "--height=2000"]
    running = subprocess.Popen(
        command(*arguments, "--workers=2"),
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        # Tests that run behind a shell's `&` were told to ignore interrupts, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    partial = dest.with_name("x.zip.partial")
    wait_until(lambda: partial.exists() and partial.stat().st_size > 0)
    workers = [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if parent_of(pid) == running.pid
    ]
    assert len(workers) >= 2
    if how == signal.SIGINT:
        os.killpg(running.pid, how)  # As the keyboard does: all of them.
    elif how == "a worker dies":  # of memory
        lines = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in workers}
        os.kill(next(pid for pid, line in lines.items() if "spawn_main" in line), signal.SIGKILL)
    else:
        running.send_signal(how)
    _, errors = running.communicate(timeout=20)
    assert not dest.exists()
    if how == signal.SIGINT:
        assert running.returncode == 130 and not partial.exists()
        assert "Traceback" not in errors
    if how == "a worker dies":
        assert running.returncode == 2 and not partial.exists()
        assert "error: a worker process died, perhaps of memory: use fewer --workers" in errors
    wait_until(lambda: all(parent_of(pid) is None for pid in workers))


def test_workers_leave_interrupts_to_their_parent():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, initializer=end_with_parent) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parent_of(pid: int) -> int | None:
    """The parent of a running process; None if it has ended."""
    try:
        state, parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(parent)


@pytest.mark.parametrize(
    "asked, channels, name, suffix",
    [
        ("auto", 3, "bmp", "bmp"),
        ("auto", 4, "png:0", "png"),
        ("png", 1, "png:6", "png"),
        ("png:9", 4, "png:9", "png"),
        ("webp-lossless", 4, "webp-lossless", "webp"),
        ("jpg:95", 3, "jpg:95", "jpg"),
        ("jpg", 1, "jpg:95", "jpg"),
    ],
)
def test_formats(make_folder, tmp_path, asked, channels, name, suffix):
    """All give the pixels back, JPEG nearly; and what they would lose is refused."""
    dest, options = tmp_path / "x.zip", {"progress": False, "format": asked}
    fit = dataclasses.replace(FIT, channels=channels)
    record = prepare(str(make_folder(channels=channels)), str(dest), fit, **options)
    assert record["format"] == name
    source = open_source(str(dest), height=6, width=6, channels=channels, labels=False)
    with zipfile.ZipFile(dest) as archive:
        assert archive.namelist()[0].endswith(f".{suffix}")
    for index in range(5):
        expected = pixels(index, 6, 6, channels).reshape(6, 6, channels).astype(int)
        assert np.abs(source[index][0] - expected).max() <= (40 if suffix == "jpg" else 0)


@pytest.mark.parametrize(
    "asked, channels, said",
    [
        ("tiff", 3, "must be auto, bmp, png"),
        ("png:10", 3, "must be auto"),
        ("bmp:3", 3, "must be auto"),
        ("bmp", 4, "has no transparency"),
        ("jpg", 4, "has no transparency"),
        ("webp-lossless", 1, "has no grey"),
    ],
)
def test_formats_that_cannot_be(make_folder, tmp_path, asked, channels, said):
    fit = dataclasses.replace(FIT, channels=channels)
    assert said in refused(make_folder(), tmp_path / "x.zip", fit, format=asked)


def test_large_data_are_compressed_and_measured_before_they_are_written(monkeypatch, tmp_path):
    names = [archive.format_of("auto", channels, 20_000_000_000).name for channels in (1, 3, 4)]
    assert names == ["png:6", "webp-lossless", "webp-lossless"]
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: argparse.Namespace(free=10**9))
    target = epath.Path(tmp_path / "x.zip")
    lines = archive.require_room(target, 2 * 10**9, 10_000, lambda k: bytes(50_000 + k))
    assert lines == [f"{target} will take about 0.55 GB"]
    with pytest.raises(UserError, match="needs about 1.1 GB, but 1 GB are free .* --format"):
        archive.require_room(target, 2 * 10**9, 20_000, lambda k: bytes(45_000 + k))
