"""`render` and `generate` as a user types them: the examples of --help, and every mistake."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.environment import ROOT
from helpers.models import tiny_model, write_checkpoint
from PIL import Image

import inr_gan_jax
from inr_gan_jax.pictures.pixels import to_uint8


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder with checkpoints of tiny networks, and what the examples of `render` made."""
    folder = tmp_path_factory.mktemp("here")
    write_checkpoint(folder / "runs" / "digits", tiny_model(classes=10))
    write_checkpoint(folder / "runs" / "baseline", tiny_model("stylegan2"))
    return folder


# A start takes seconds, so one process runs many commands, with flags parsed as at a start.
MANY = """
import contextlib, importlib, io, json, sys
from absl import flags
from inr_gan_jax.cli.run import reports_user_errors
command, results = importlib.import_module(sys.argv[1]), []
for arguments in json.load(sys.stdin):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = reports_user_errors(command.main)(flags.FLAGS(["command", *arguments]))
    results.append([code, out.getvalue(), error.getvalue()])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def python(here, tmp_path_factory):
    """python(*arguments, input=...) -> the finished process, in the folder `here`."""
    changes = {
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }

    def run(*arguments: str, **options) -> subprocess.CompletedProcess:
        options |= {"cwd": here, "env": os.environ | changes, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, *arguments], **options)

    return run


@pytest.fixture(scope="module")
def many(python):
    """many(module, [arguments, ...]) -> [(exit code, what it said, its errors), ...]."""

    def run(module: str, commands: list[list[str]]) -> list[tuple[int, str, str]]:
        done = python("-c", MANY, f"inr_gan_jax.{module}", input=json.dumps(commands))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def examples(name: str) -> list[list[str]]:
    """The arguments of the commands that --help of `python -m inr_gan_jax.name` shows."""
    module = ROOT / "inr_gan_jax" / name
    text = (module / "__main__.py" if module.is_dir() else module.with_suffix(".py")).read_text()
    text = ast.get_docstring(ast.parse(text)).replace("\\\n", " ")
    commands = re.findall(rf"^    python -m inr_gan_jax\.{name} (.*)$", text, re.MULTILINE)
    return [shlex.split(command) for command in commands]


@pytest.fixture(scope="module")
def said(many) -> list[str]:
    """What the examples of `render` print."""
    done = many("render.__main__", examples("render"))
    assert [code for code, _, _ in done] == [0] * 5, done
    return [out.strip() for _, out, _ in done]


def image_of(here, seed, **options):
    model = inr_gan_jax.load(here / "runs" / "digits")
    return model.image(seed, classes=int(model.classes([seed])[0]), **options)


def assert_near(got, expected):
    """Other compiler options there."""
    expected = expected.reshape(got.shape)
    assert np.abs(got.astype(int) - expected).max() <= 2


def test_examples_of_render_work_as_printed(said, here):
    assert len(said) == 5
    three = image_of(here, 3)
    assert said[0] == "three.png: 512x512, from 2.0 kimg of training"
    with Image.open(here / "three.png") as picture:
        assert_near(np.asarray(picture), to_uint8(three.render(512, 512)))
    huge = tifffile.imread(here / "huge.tif")
    assert huge.shape == (2048, 2048)
    window = to_uint8(three.render(64, 64, window=(-1, 0.9375, -0.9375, 1), density=128))
    assert_near(huge[:64, :64], window)
    said_of_many = re.fullmatch(
        r"many.inr: 16 images, ([\d.]+) kB; each further image adds ([\d.]+) kB, from 2.0 kimg .*",
        said[2],
    )
    size = (here / "many.inr").stat().st_size
    assert float(said_of_many[1]) == round(size / 1e3, 1)
    assert 0 < float(said_of_many[2]) < size / 1e3 / 16
    opened = inr_gan_jax.open_image(here / "many.inr", index=3)
    np.testing.assert_allclose(opened.render(), three.render(), atol=1e-4)
    assert said[3] == "detail.webp: 300x300, image 3 of many.inr"
    with Image.open(here / "detail.webp") as picture:
        assert picture.size == (300, 300)
    assert said[4] == "zoom.dzi: 1000x1000, image 0 of many.inr"
    with Image.open(here / "zoom_files" / "10" / "3_3.png") as picture:
        assert picture.size == (1000 - 3 * 254 + 1,) * 2


def test_examples_of_generate_work_as_printed(many, here):
    done = many("generate", examples("generate"))
    assert [code for code, _, _ in done] == [0] * 3, done
    assert len(list((here / "out").glob("*.png"))) == 16
    assert np.load(here / "out" / "images.npy").shape == (2, 16, 16, 1)
    view = {"window": (-1, 0, 1, 1), "superres_from": 1, "density": np.inf, "samples": 4}
    for seed in range(4):
        with Image.open(here / "halves" / f"seed000{seed}.png") as picture:
            expected = to_uint8(image_of(here, seed).render(100, 50, **view))
            assert_near(np.asarray(picture), expected)


def assert_refused(done: list, expected: list[str]) -> None:
    """Exit code 2, and one line that says what is wrong; warnings of others apart."""
    for (code, out, errors), words in zip(done, expected, strict=True):
        lines = [line for line in errors.splitlines() if not re.match(r"[IW]\d{4} ", line)]
        assert code == 2 and not out and len(lines) == 1, errors
        assert lines[0].startswith("error: ") and words in lines[0], lines


def test_every_mistake_is_one_line(many, said):
    mistakes = {
        "--seed=1 --dest=x.png": "give --checkpoint=DIR or --image=x.inr",
        "--image=many.inr --seed=1 --dest=x.png": "--seed goes with --checkpoint",
        "--checkpoint=runs/digits --index=1 --seed=1 --dest=x.png": "--index goes with --image",
        "--checkpoint=runs/digits --dest=x.png": "give --seed=3, or --seeds=0-15",
        "--checkpoint=runs/digits --seed=-1 --dest=x.png": "'-1' is no seed",
        "--checkpoint=runs/digits --seeds=0-3 --dest=x.png": "x.png holds one image, only .inr",
        "--checkpoint=nowhere --seed=1 --dest=x.png": "nowhere: no such folder",
        "--checkpoint=runs/digits --seed=1 --class_index=10 --dest=x.png": "=10 must be 0 to 9",
        "--checkpoint=runs/baseline --seed=1 --dest=x.png": "is no coordinate function",
        "--checkpoint=runs/digits --seed=1 --size=9x9 --dest=x.inr": "the image itself: no --size",
        "--image=three.png --dest=x.png": "three.png is no .inr file",
        "--image=many.inr --index=16 --dest=x.png": "no image 16: it holds 0 to 15",
        "--image=many.inr --dest=three.png": "three.png exists: delete it",
        "--image=many.inr --dest=x.bmp": "its suffix must be one of",
        "--image=many.inr --size=9 --dest=x.png": "--size=9 must be WIDTHxHEIGHT",
        "--image=many.inr --size=0x9 --dest=x.png": "--size=0x9 must be WIDTHxHEIGHT",
        "--image=many.inr --window=1,2,3 --dest=x.png": "must be left,bottom,right,top",
        "--image=many.inr --window=1,1,0,0 --dest=x.png": "window (1.0, 1.0, 0.0, 0.0) is empty",
        "--image=many.inr --superres_from=9 --dest=x.png": "superres_from = 9 must be 0 to 2",
        "--image=many.inr --samples=3 --dest=x.png": "samples = 3 is no square number",
        "--image=many.inr --density=0.5 --dest=x.png": "density must be 1 or more",
        "--image=many.inr --truncation=nan --dest=x.png": "--truncation=nan must be finite",
        "--image=many.inr --tile=20 --dest=x.tif": "multiple of 16 pixels a side, not 20",
        "--image=many.inr --size=99999x99999 --dest=x.png": ".tif and .dzi are written tile by",
    }
    done = many("render.__main__", [line.split() for line in mistakes])
    assert_refused(done, list(mistakes.values()))


@pytest.mark.parametrize(
    "arguments, expected",
    [([], "--dest is missing"), (["--dest=x.png", "--align=top"], "--align")],
)
def test_flags_that_do_not_parse(arguments, expected, python):
    done = python("-m", "inr_gan_jax.render", *arguments)
    assert done.returncode == 2 and expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_views_that_generate_refuses(many, here):
    mistakes = {
        "--checkpoint=runs/baseline --size=32x32": "is no coordinate function",
        "--checkpoint=runs/digits --size=32x": "--size=32x must be WIDTHxHEIGHT",
        "--checkpoint=runs/digits --size=99999x99999": "python -m inr_gan_jax.render writes one",
        "--checkpoint=runs/digits --samples=2": "samples = 2 is no square number",
    }
    common = ["--seeds=1", "--outdir=refused"]
    baseline = ["--checkpoint=runs/baseline", "--seeds=1", "--outdir=baseline"]
    *done, plain = many("generate", [*([*line.split(), *common] for line in mistakes), baseline])
    assert_refused(done, list(mistakes.values()))
    assert not (here / "refused").exists()
    assert plain[0] == 0 and (here / "baseline" / "seed0001.png").exists()


def test_stopping_says_how_to_go_on(python, said, here):
    """A signal in the middle of a pyramid; the same command ends it."""
    slowly = (
        "import runpy, sys\n"
        "from inr_gan_jax.render import deep_zoom\n"
        "encode = deep_zoom.encode\n"
        "def stop(*a):\n"
        "    deep_zoom.encode = encode\n"
        "    raise KeyboardInterrupt\n"
        "deep_zoom.encode = stop\n"
        "sys.argv = ['render', *sys.argv[1:]]\n"
        "runpy.run_module('inr_gan_jax.render', run_name='__main__', alter_sys=True)\n"
    )
    arguments = ["--image=many.inr", "--size=16x16", "--dest=stopped.dzi"]
    done = python("-c", slowly, *arguments)
    assert done.returncode == 130
    assert "stopped.dzi is not complete: the same command goes on" in done.stderr
    assert not (here / "stopped.dzi").exists()
    done = python("-m", "inr_gan_jax.render", *arguments)
    assert done.returncode == 0 and done.stdout.startswith("stopped.dzi: 16x16")
