"""`python -m inr_gan_jax.project` as a user types it: examples, stops, and every mistake."""

import contextlib
import json
import os
import signal
from unittest import mock

import av
import numpy as np
import pytest
from helpers.commands import assert_mistakes, examples, many
from helpers.models import mild_model, write_checkpoint
from helpers.targets import at_cells, detector_files, written
from PIL import Image

import inr_gan_jax
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.project.fit import Projection

RUN = "--checkpoint=runs/digits --class_index=1 --steps=24"
OWN = f"{RUN} --target=photo.png"
LPIPS = "--detector_weights=vgg16.safetensors,lpips.safetensors"
RUNS = {
    "hidden": f"{RUN} --target=hidden.png --mask=mask.png --outdir=hidden",
    "stopped": f"{OWN} --mask=mask.png --outdir=seen",
    "goes on": f"{OWN} --mask=mask.png --outdir=seen",
    "refused": f"{OWN} --learning_rate=0.05 --outdir=seen",
    "half": f"{OWN} --mask=mask.png --outdir=seen --size=30x20 --window=-1,0,1,1",
    "overwrite": f"{OWN} --learning_rate=0.05 --outdir=spoilt --overwrite",
}
EXAMPLES = ["out", "inpainted", "outpainted", "larger", "from_points"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Checkpoints of tiny networks, the targets that the examples name, and bad ones."""
    folder = tmp_path_factory.mktemp("here")
    model = mild_model(classes=3)
    write_checkpoint(folder / "runs" / "digits", model)
    write_checkpoint(folder / "runs" / "baseline", mild_model("stylegan2"))
    pixels = to_uint8(model.images(seeds=[5], classes=1)[0])[..., 0]
    mask = np.broadcast_to(np.uint8([255] * 4 + [0] * 4), (8, 8)).copy()
    pictures = {
        "photo": pixels,
        "mask": mask,
        "hidden": np.where(mask, pixels, 255 - pixels),
        "middle": pixels[2:6, 2:6],
        "small": pixels.reshape(4, 2, 4, 2).mean((1, 3)).astype(np.uint8),
        "wide": pixels[:4],
        "black": 0 * mask,
    }
    for name, picture in pictures.items():
        written(folder / f"{name}.png", picture)
    target = at_cells(pixels[..., None] / 127.5 - 1, 40)
    np.savetxt(folder / "points.csv", np.hstack([target.points, target.values]), delimiter=",")
    np.save(folder / "bad.npy", np.zeros((3, 2)))
    (folder / "text.png").write_text("no picture")
    for name in ("damaged", "spoilt"):
        (folder / name).mkdir()
        (folder / name / "projection.npz").write_bytes(b"PK no archive")
    detector_files(folder)
    return folder


@pytest.fixture(scope="module")
def said(here):
    """What the command said: the examples by their folders (in fewer steps), and RUNS."""
    lines = [f"{line} --steps=24" for line in examples("project")]
    assert [line.split("--outdir=")[1].split()[0] for line in lines] == EXAMPLES
    lines = dict(zip(EXAMPLES, lines, strict=True)) | RUNS
    answers = {}
    for name, line in lines.items():
        with stopped_before(10) if name == "stopped" else contextlib.nullcontext():
            (answers[name],) = many("project", [line], here)
    return answers


@contextlib.contextmanager
def stopped_before(step: int):
    """SIGTERM comes before the n-th call of `advance`."""
    advance, calls = Projection.advance, []

    def counted(self):
        calls.append(self)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)

    with mock.patch.object(Projection, "advance", counted):
        yield


def picture(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_work_as_printed(said, here, name):
    done = said[name]
    assert done.code == 0, done.err
    first, last = done.out.splitlines()
    assert first.startswith("class ") and "is the nearest of 3" in first
    assert last.startswith(f"{name}: ") and " dB over " in last and "after 24 steps" in last
    styles = np.load(here / name / "styles.npy")
    image = inr_gan_jax.open_image(here / name / "projected.inr")
    made = inr_gan_jax.load(here / "runs" / "digits").images(ws=styles[None])[0]
    assert styles.shape == (4, 8) and styles.dtype == np.float32
    np.testing.assert_allclose(image.render(), made, atol=1e-4)
    size = (256, 256) if name == "larger" else (8, 8)
    shown = to_uint8(image.render(*size))[..., 0]
    assert np.abs(picture(here / name / "projected.png") - shown).max() <= 1
    panels = 3 + (name in ("outpainted", "larger"))
    assert picture(here / name / "comparison.png").shape == (256, panels * 258 - 2, 3)
    with av.open(str(here / name / "progress.mp4")) as film:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in film.decode(video=0)]
    assert len(frames) == 25 and frames[0].shape == (256, 256)
    large = to_uint8(made)[..., 0].repeat(32, 0).repeat(32, 1)
    assert np.abs(frames[-1] - large).mean() < 6 < np.abs(frames[0] - large).mean()


def test_a_stopped_search_goes_on_and_hidden_pixels_change_no_bit(said, here):
    done = said["stopped"]
    assert done.code == 128 + 15 and not done.out
    line = done.err.split("\r")[-1].splitlines()[-1]
    assert line == "seen: stopped after 10 of 24 steps; the same command goes on"
    for name in ("hidden", "goes on"):
        done = said[name]
        assert done.code == 0 and "over 32 known of 64 pixels after 24 steps" in done.out
    for file in ("styles.npy", "projected.inr", "progress.mp4", "comparison.png"):
        seen, hidden = ((here / folder / file).read_bytes() for folder in ("seen", "hidden"))
        assert seen == hidden, file
    assert (picture(here / "seen" / "comparison.png")[:, 128:256] == 128).all()


def test_another_search_is_refused_or_overwrites(said, here):
    done = said["refused"]
    assert done.code == 2 and done.err == (
        "error: seen/projection.npz is of another projection (target, learning_rate): choose "
        "another --outdir, or say --overwrite\n"
    )
    assert said["overwrite"].code == 0
    with np.load(here / "spoilt" / "projection.npz") as arrays:
        assert json.loads(str(arrays["identity"]))["learning_rate"] == 0.05


def test_a_finished_search_is_shown_in_another_view(said, here):
    image = inr_gan_jax.open_image(here / "seen" / "projected.inr")
    made = to_uint8(image.render(30, 20, window=(-1, 0, 1, 1)))[..., 0]
    assert np.abs(picture(here / "seen" / "projected.png") - made).max() <= 1
    assert said["half"].out == said["goes on"].out


def test_decibels_are_those_of_known_pixels(said, here):
    for name, known in (("out", slice(None)), ("hidden", slice(0, 4))):
        image = inr_gan_jax.open_image(here / name / "projected.inr")
        photo = picture(here / "photo.png")[..., None] / 127.5 - 1
        error = np.square(np.clip(image.render(), -1, 1) - photo)[:, known].mean()
        said_of_it = float(said[name].out.splitlines()[-1].split()[1])
        assert said_of_it == pytest.approx(10 * np.log10(4 / error), abs=0.06) and said_of_it > 25


def test_every_mistake_is_one_line(here, said):
    own = "--checkpoint=runs/digits --outdir=x"
    photo = f"{own} --target=photo.png"
    mistakes = {
        "--checkpoint=nowhere --target=photo.png --outdir=x": "nowhere: no such folder",
        f"{own} --target=no.png": "no.png cannot be read: No such file",
        f"{own} --target=text.png": "text.png is no image that Pillow reads",
        f"{own} --target=wide.png": "wide.png is 8x4, but its place in the model's image is 1 "
        "times as wide as high: use --crop=center",
        f"{photo} --mask=wide.png": "wide.png is 8x4, but photo.png is 8x8",
        f"{photo} --mask=black.png": "no pixel is known",
        f"{photo} --target_window=0,0,1": "--target_window=0,0,1 must be left,bottom,right,top",
        f"{photo} --target_window=0,0,2,2": "must lie in the frame -1,-1,1,1",
        f"{photo} --learning_rate=0": "learning_rate = 0.0 must be above 0",
        f"{photo} --class_index=3": "--class_index=3 must be 0 to 2",
        f"{photo} --size=9": "--size=9 must be WIDTHxHEIGHT",
        f"{photo} --size=99999x99999": "99999x99999 pixels: give a --size",
        f"{photo} --window=1,1,0,0": "window (1.0, 1.0, 0.0, 0.0) is empty",
        f"{photo} --mask=mask.png {LPIPS}": "LPIPS sees whole photos",
        f"{photo} --detector_weights=points.csv": "points.csv",
        f"{photo} {LPIPS}": "LPIPS needs images of 16x16 pixels or more, not 8x8",
        f"{own} --target=bad.npy": "bad.npy holds [3, 2], not [n, 3]",
        f"{own} --target=points.csv --mask=mask.png": "--mask goes with a photo",
        f"{own} --target=points.csv {LPIPS}": "--detector_weights goes with a photo",
        "--checkpoint=runs/baseline --target=photo.png --outdir=x": "is no coordinate function",
        "--checkpoint=runs/digits --target=photo.png --outdir=photo.png": "photo.png cannot be",
        "--checkpoint=runs/digits --target=photo.png --outdir=damaged": "npz cannot be read (",
    }
    assert_mistakes("project", mistakes, here, silent=False)
    assert not (here / "x").exists()
