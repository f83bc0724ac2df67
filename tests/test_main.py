"""The commands as a user runs them, on real data, with networks that are as small as they get."""

import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from helpers.commands import command, many
from helpers.environment import ROOT, environment
from helpers.runs import CADENCE, DIGITS, TINY, assert_same_run, overrides
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import inr_gan_jax
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.errors import UserError
from inr_gan_jax.models import inr
from inr_gan_jax.pictures.pixels import to_uint8


@pytest.fixture(scope="module")
def env(tmp_path_factory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def call(env):
    """call(module, *arguments, cwd=...) -> the finished `python -m inr_gan_jax.module`."""

    def run(module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"inr_gan_jax.{module}", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)

    return run


@pytest.fixture(scope="module")
def run(call, tmp_path_factory):
    """A finished run of 100 iterations in the default workdir: (its workdir, what it printed)."""
    here = tmp_path_factory.mktemp("here")
    done = call("main", DIGITS, *overrides(*TINY, *CADENCE, "train.kimg=0.8"), cwd=here)
    assert done.returncode == 0, done.stderr
    return here / "runs" / "digits", done.stdout


def test_a_run_leaves_what_it_promises(run):
    workdir, said = run
    assert (workdir / "run.json").exists()
    assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"50", "100"}
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {line["metric"] for line in found} == {"fd_pixel100_full"}
    assert [line["kimg"] for line in found] == [0.4, 0.8]
    assert all(f"fd_pixel100_full: {line['value']:.5g} " in said for line in found)
    assert [Path(line["checkpoint"]).name for line in found] == ["50", "100"]
    names = ["000000000.png", "000000400.png", "000000800.png", "real.png"]
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == names
    for name in names:  # a row of two images for each class, grey lines between
        with Image.open(workdir / "samples" / name) as picture:
            picture.load()
            assert picture.size == (2 * 17 + 1, 10 * 17 + 1) and picture.mode == "L"
    lines = re.findall(r"^kimg ([\d.]+)/0.8  ([\d.]+) images/s  left (\w+)  G .* D .*", said, re.M)
    assert [line[0] for line in lines] == ["0.2", "0.3", "0.4", "0.5", "0.6", "0.8"]
    assert lines[-1][2] == "0s"
    for word in ("10 classes", "digits, 1,797 images", "1 x cpu", "done: 0.8 kimg"):
        assert word in said


def test_tensorboard_reads_the_curves(run):
    events = EventAccumulator(str(run[0]))
    events.Reload()
    assert len(events.Scalars("metrics/fd_pixel100_full")) == 2
    for tag in ("loss/g", "loss/d", "r1/penalty", "images_per_second"):
        values = events.Scalars(tag)
        assert all(np.isfinite(v.value) for v in values)
        if tag != "r1/penalty":
            assert [v.step for v in values] == [160, 320, 400, 480, 640, 800]
    assert [picture.step for picture in events.Images("generated")] == [0, 400, 800]
    picture = Image.open(io.BytesIO(events.Images("real")[0].encoded_image_string))
    assert picture.size == (35, 171)
    assert "config" in events.Tags()["tensors"]


def test_what_to_type_next_works_as_printed(run, env, tmp_path):
    hint = re.search(r"more images: +(.*)", run[1])[1]
    command = shlex.split(hint)
    here = run[0].parent.parent
    assert command[1:4] == ["-m", "inr_gan_jax.generate", "--checkpoint=runs/digits"]
    done = subprocess.run(hint, shell=True, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "16 PNG files from 0.8 kimg" in done.stdout
    made = sorted((here / "out").iterdir())
    assert [p.name for p in made] == [f"seed{k:04d}.png" for k in range(16)]
    expected = to_uint8(inr_gan_jax.load(run[0]).images(seeds=range(16), classes=3))[..., 0]
    for path, image in zip(made, expected, strict=True):
        difference = np.asarray(Image.open(path)).astype(int) - image
        assert np.abs(difference).max() <= 1  # other compiler options here


def test_a_signal_saves_and_the_same_command_goes_on(run, call, env, tmp_path):
    """As if it had not been stopped; when there is nothing left to do, nothing changes."""
    arguments = DIGITS, f"--workdir={tmp_path}", *overrides(*TINY, "train.kimg=0.8")
    slowly = overrides("log.checkpoint_kimg=0", "log.metrics_kimg=0.008", "log.grid_kimg=0.008")
    command = [sys.executable, "-m", "inr_gan_jax.main", *arguments, *slowly]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    seen = 0
    for line in process.stdout:
        seen += line.startswith("kimg")
        if seen == 5:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait() == 0
    stopped = re.search(r"stopped and saved at ([\d.]+) kimg; the same command goes on", rest)
    assert 0.04 <= float(stopped[1]) < 0.8
    done = call("main", *arguments, *overrides(*CADENCE))
    assert f"going on from {stopped[1]} kimg" in done.stdout and "done: 0.8 kimg" in done.stdout
    again = call("main", *arguments, *overrides(*CADENCE))
    assert again.returncode == 0 and "already trained for 0.8 kimg" in again.stdout
    assert "inr_gan_jax.generate" in again.stdout and "going on" not in again.stdout
    assert len(list(tmp_path.glob("events*"))) == 2  # a start with nothing to do writes none
    assert_same_run(tmp_path, run[0])


def test_a_zip_of_colour_images_trains(call, tmp_path):
    """The path of real data: pictures, `prepare`, a configuration for 256x256 made small."""
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[:40, :48] / 40
    for k in range(24):
        wave = np.stack([np.sin(x * k + c) * np.cos(y * (k % 5) - c) for c in range(3)], -1)
        Image.fromarray(to_uint8(wave)).save(folder / f"{k}.png")
    prepare(str(folder), f"{tmp_path}/x.zip", Fit(height=32, width=32, crop="center"))
    keys = [
        *TINY[2:],
        *("model.height=32", "model.width=32", "model.input_resolution=16", "model.fine_from=32"),
        *("model.channel_base=256", "model.channel_max=8", "train.kimg=0.032", "train.r1_gamma=0"),
    ]
    keys += ["model.embedding_coarse.table=8", "model.embedding_fine.table=8"]
    keys[keys.index("log.grid_size=20")] = "log.grid_size=4"
    where = (f"--config.data.source={tmp_path}/x.zip", f"--workdir={tmp_path}/run")
    done = call("main", f"--config={ROOT}/configs/ffhq.py", *overrides(*keys), *where)
    assert done.returncode == 0, done.stderr
    assert "x.zip, 24 images" in done.stdout and "--class_index" not in done.stdout
    with Image.open(tmp_path / "run" / "samples" / "000000032.png") as picture:
        assert picture.size == (67, 67) and picture.mode == "RGB"
    model = inr_gan_jax.load(tmp_path / "run")
    assert model.images(seeds=[0]).shape == (1, 32, 32, 3) and model.images_seen == 32


@pytest.fixture
def generated(run, tmp_path, monkeypatch):
    """generated(seeds="0-3", ...) -> the folder that `generate` with these flags wrote."""
    monkeypatch.setattr("inr_gan_jax.runtime.devices.use_compilation_cache", lambda: None)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()

    def make(**given: str) -> Path:
        outdir = tmp_path / str(len(list(tmp_path.iterdir())))
        given = {"checkpoint": str(run[0]), "outdir": str(outdir)} | given
        with flagsaver.as_parsed(**given):
            main(None)
        return outdir

    with command("generate") as main:
        yield make


def test_generated_files(run, generated, tmp_path):
    model = inr_gan_jax.load(run[0])
    seeds = [0, 1, 2, 7]
    expected = model.images(seeds=seeds, classes=model.classes(seeds))
    made = generated(seeds="0-2,7", batch_size="3")
    assert [p.name for p in sorted(made.iterdir())] == [f"seed{k:04d}.png" for k in seeds]
    for path, image in zip(sorted(made.iterdir()), to_uint8(expected)[..., 0], strict=True):
        with Image.open(path) as picture:
            assert picture.size == (16, 16) and picture.mode == "L"
            assert np.abs(np.asarray(picture).astype(int) - image).max() <= 1

    images = np.load(generated(seeds="0-2,7", batch_size="3", format="npy") / "images.npy")
    assert images.dtype == np.float32 and images.shape == (4, 16, 16, 1)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(
        np.load(generated(seeds="0-2,7", format="npy") / "images.npy"),
        model.images(seeds=seeds, classes=model.classes(seeds)),
    )

    np.save(tmp_path / "z.npy", model.latents(seeds).astype(np.float64))
    made = generated(latents=str(tmp_path / "z.npy"), class_index="3", format="npy")
    threes = model.images(seeds=seeds, classes=3)
    np.testing.assert_array_equal(np.load(made / "images.npy"), threes)
    assert np.abs(threes).max() > 0 and np.abs(threes - expected).max() > 0
    assert model.class_names == tuple("0123456789")
    made = generated(latents=str(tmp_path / "z.npy"), class_index="3")
    assert [p.name for p in sorted(made.iterdir())] == [f"latent{k:04d}.png" for k in range(4)]

    rounded = np.load(generated(seeds="0-2,7", dtype="bfloat16", format="npy") / "images.npy")
    assert 0 < np.abs(rounded - expected).max() < 2e-2 * np.ptp(expected)

    flat = generated(seeds="0-3", truncation="0", class_index="3", format="npy")
    average = np.load(flat / "images.npy")  # every class has its own
    np.testing.assert_allclose(average, average[:1].repeat(4, 0), atol=1e-6)
    older = str(run[0] / "checkpoints" / "50")
    first = np.load(generated(seeds="0", checkpoint=older, format="npy") / "images.npy")
    assert np.abs(first - expected[:1]).max() > 0


def test_generate_refuses_what_the_model_cannot(run, generated, tmp_path):
    def refused(**given: str) -> str:
        with pytest.raises(UserError) as caught:
            generated(**given)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "--class_index=10 must be 0 to 9" in refused(seeds="0", class_index="10")
    bad = tmp_path / "bad.npy"
    assert "cannot be read as a .npy array" in refused(latents=str(bad))
    bad.write_text("no array")
    assert "cannot be read as a .npy array" in refused(latents=str(bad))
    for array in (np.zeros((2, 9)), np.zeros(8), np.zeros((0, 8)), np.zeros((2, 8), complex)):
        np.save(bad, array)
        assert "not floats [n, 8]" in refused(latents=str(bad))
    for value in (np.nan, 1e300):
        np.save(bad, np.full((2, 8), value))
        assert "not finite" in refused(latents=str(bad))
    np.savez(tmp_path / "bad.npz", z=np.zeros((2, 8)))
    assert "is an archive" in refused(latents=str(tmp_path / "bad.npz"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(seeds="0", outdir=str(tmp_path / "file"))
    assert "no finished checkpoint" in refused(seeds="0", checkpoint=str(run[0] / "samples"))


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run, tmp_path, caplog):
    copy = tmp_path / "digits"
    shutil.copytree(run[0], copy)
    newest = copy / "checkpoints" / "100" / "model"
    victim = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    rest = "--seeds=3 --outdir=out --class_index=0"
    places = "digits", "digits/checkpoints/100"
    done, one = many("generate", [f"--checkpoint={place} {rest}" for place in places], tmp_path)
    assert done.code == 0 and "from 0.4 kimg" in done.out
    assert "100 is damaged" in caplog.text and "Traceback" not in caplog.text
    assert one.code == 2 and "checkpoint 100 is damaged" in one.err.splitlines()[-1]


def test_a_loaded_model_is_a_usable_object(run):
    model = inr_gan_jax.load(run[0])
    assert model.num_classes == 10 and model.images_seen == 800
    assert sum(model.class_counts) == 1797
    images = model.images(seeds=[5, 6], classes=[1, 2])
    assert images.shape == (2, 16, 16, 1) and images.dtype == np.float32
    ws = model.styles(seeds=[5, 6], classes=[1, 2])
    assert ws.shape == (2, model.num_styles, 8)
    np.testing.assert_array_equal(model.images(ws=ws), images)
    np.testing.assert_allclose(inr.grid(model.inr(ws)), images, atol=1e-5)
    z = model.latents([5, 6])
    np.testing.assert_array_equal(model.images(z, classes=[1, 2]), images)
    np.testing.assert_array_equal(model.latents([6]), z[1:])
    averages = model.images(seeds=[1, 2, 2], classes=[3, 3, 4], truncation=0)
    np.testing.assert_allclose(averages[0], averages[1], atol=1e-6)
    assert np.abs(averages[1] - averages[2]).max() > 1e-3  # every class has its own average
    one = inr_gan_jax.load(run[0] / "checkpoints" / "50")
    assert one.images_seen == 400 and np.abs(one.w_avg - model.w_avg).max() > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (lambda m: m.images(seeds=[1]), "class-conditional: give classes, 0 to 9"),
        (lambda m: m.images(seeds=[1], classes=10), "classes must be 0 to 9"),
        (lambda m: m.images(seeds=[1], classes=1.5), "classes must be whole numbers"),
        (lambda m: m.images(seeds=[1, 2], classes=[1, 2, 3]), "give one class or 2"),
        (lambda m: m.images(seeds=[-1], classes=0), "seeds must be 0 to 4294967295"),
        (lambda m: m.images(seeds=[2**32], classes=0), "seeds must be 0 to 4294967295"),
        (
            lambda m: m.images(np.zeros((2, 9)), classes=0),
            r"latents must be \[n, 8\], not \[2, 9\]",
        ),
        (lambda m: m.images(np.zeros(8), classes=0), r"latents must be \[n, 8\], not \[8\]"),
        (lambda m: m.images(classes=0), "give latents or seeds"),
        (lambda m: m.images(ws=np.zeros((1, 2, 8))), r"ws must be \[n, \d, 8\], not \[1, 2, 8\]"),
        (lambda m: m.inr(np.zeros((1, 2, 8))), r"ws must be \[n, \d, 8\], not \[1, 2, 8\]"),
        (lambda m: m.images(ws=np.zeros((1, 2, 8)), classes=0), "give them to `styles`"),
        (lambda m: m.styles(seeds=[1], classes=0, cutoff=99), "cutoff must be 0 to"),
    ],
)
def test_wrong_shapes_are_value_errors(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        arguments(inr_gan_jax.load(run[0]))
