"""Every mistake of a user: exit code 2 and one line that says what to do, nothing compiled."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from helpers.environment import ROOT, environment
from helpers.runs import opened
from PIL import Image

from inr_gan_jax import config as configs
from inr_gan_jax import generate, main
from inr_gan_jax.cli import run as command_line
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError

DIGITS = f"--config={ROOT}/configs/digits.py"


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    """Fails a test in whose process anything is compiled."""
    seen = []

    def listen(event, duration, **about):
        if "backend_compile" in event:
            seen.append(about)

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not seen


def digits(**changes):
    """The configuration of digits, as small as it gets; keys such as train__kimg=1."""
    spec = importlib.util.spec_from_file_location("digits", ROOT / "configs" / "digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.train.dtype = "float32"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def mistake(workdir, **changes) -> str:
    """The one line with which a start is refused."""
    with pytest.raises(UserError) as caught:
        main.train(digits(**changes), workdir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_of(workdir) -> Path:
    """A workdir as the first seconds of a run leave it."""
    config = configs.parse(digits(), num_classes=10)
    source = open_source("digits", height=16, width=16, channels=1, labels=True)
    with opened(workdir, config, source):
        pass
    return workdir


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "give a configuration: --config=configs/digits.py"),
        ([DIGITS, "--wrkdir=x"], "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
        (
            ["--config=digits", "--config.train.batch_size=x"],
            "--config.train.batch_size=x: invalid literal",
        ),
        ([f"--config={ROOT}/inr_gan_jax/errors.py"], "it has no function get_config()"),
        ([DIGITS, "train"], "unexpected argument 'train': flags look like --name=value"),
        ([DIGITS, "--workdir=setup.cfg/x"], "workdir setup.cfg/x cannot be used: "),
    ],
)
def test_in_a_process(arguments, expected, tmp_path):
    (tmp_path / "setup.cfg").write_text("")
    command = [sys.executable, "-m", "inr_gan_jax.main", *arguments]
    env = environment()
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert expected in done.stderr and done.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["setup.cfg"]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            ["--config=configs/digit.py"],
            "--config=configs/digit.py: no such file or name; there are any",
        ),
        ([DIGITS, "--config.train.batchsize=3"], 'did you mean "config.train.batch_size"'),
        ([f"--config={ROOT}/README.md"], "README.md: no configuration: these are Python files"),
    ],
)
def test_configurations_that_are_none(arguments, expected):
    with flagsaver.flagsaver(), pytest.raises(UserError) as caught:
        flags.FLAGS["config"].value = None
        main.parse_flags(["main", *arguments])
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind, code", [("gss://", 2), ("name", None)])
def test_buckets_of_no_known_kind(kind, code, capsys):
    """What epath raises for them is a line; another KeyError is a mistake of ours."""

    @command_line.reports_user_errors
    def command():
        return {}[kind]

    if code is None:
        with pytest.raises(KeyError):
            command()
    else:
        assert command() == code
        assert "paths that begin with gss:// are not known" in capsys.readouterr().err


def test_h_is_help(monkeypatch):
    monkeypatch.setattr(
        command_line.app, "run", lambda _, flags_parser: flags_parser(["x", "-h", "--h=1"])
    )
    seen = []
    command_line.run(None, seen.append)
    assert seen == [["x", "--help", "--h=1"]]


@pytest.mark.parametrize(
    "text, line, expected",
    [
        ("import nomod", 1, "No module named 'nomod'"),
        ("from inr_gan_jax.config import base\ndef get_config():\n  return base('inr')", 3, "inr"),
        ("def get_config():\n  return 1 +", 2, "SyntaxError"),
        ("def get_config():\n  raise ValueError('two\\nlines')", 2, "ValueError: two lines"),
    ],
)
def test_a_faulty_configuration_names_its_line(tmp_path, text, line, expected):
    (tmp_path / "c.py").write_text(text)
    argv = ["main", f"--config={tmp_path}/c.py"]
    values = flags.FLAGS["config"]
    with flagsaver.flagsaver(), pytest.raises(UserError) as caught:
        values.value = None
        main.parse_flags(argv)
    assert f"line {line}" in str(caught.value) and expected in str(caught.value)


def test_bad_data(tmp_path):
    """What open_source refuses, tests/data/test_bad_input.py knows; here: a start says it."""
    grey = tmp_path / "grey"
    grey.mkdir()
    for k in range(2):
        Image.fromarray(np.full((16, 16), k, np.uint8)).save(grey / f"{k}.png")
    run = tmp_path / "run"

    def refused(source, **changes) -> str:
        return mistake(run, data__source=str(source), **changes)

    assert "does not exist" in refused(tmp_path / "none")
    assert "has no labels" in refused(grey)
    plain = {"data__labels": False}
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(tmp_path / "empty", **plain)
    assert "the images of" in refused(grey, model__height=32, model__width=32, **plain)
    assert "but the model has 3 channels (RGB)" in refused(grey, model__channels=3, **plain)
    assert "power of two" in refused(grey, model__height=20, model__width=20, **plain)
    (grey / "dataset.json").write_text(json.dumps({"labels": [["0.png", 0]]}))
    assert "no label for 1.png" in refused(grey)
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(grey / "2.png")
    assert "2.png is 16x8" in refused(grey, **plain)
    (grey / "2.png").write_bytes((grey / "1.png").read_bytes()[:-20])
    assert "2.png is truncated" in refused(grey, **plain)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(grey / "0.png", "0.png")
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes()[:-30])
    assert "is not a readable zip" in refused(tmp_path / "x.zip", **plain)
    assert not run.exists()


def test_a_batch_that_devices_cannot_share_leaves_no_workdir(tmp_path):
    assert "config.train.batch_size = 30 must be" in mistake(tmp_path / "a", train__batch_size=30)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "key, value",
    [
        ("model.rank", 2),
        ("discriminator.channel_max", 16),
        ("data.mirror", True),
        ("seed", 1),
        ("train.batch_size", 64),
        ("train.g_lr", 0.001),
        ("train.beta2", 0.9),
    ],
)
def test_another_run_is_named(tmp_path, key, value):
    said = mistake(run_of(tmp_path), **{key.replace(".", "__"): value})
    assert f"{tmp_path} holds another run: config.{key} was " in said
    fixed = key.startswith(("model", "discriminator", "seed"))
    assert f"now {value}{', which cannot change' * fixed}; choose another --workdir" in said
    assert ("--config.train.on_change=continue" in said) != fixed


def test_other_data_is_another_run(tmp_path):
    config = configs.parse(digits(), num_classes=10)
    source = open_source("digits", height=16, width=16, channels=1, labels=True)
    source.content_hash = "other"
    run = opened(run_of(tmp_path), config, source)
    with pytest.raises(UserError, match="data .* are not the same .* now other"), run:
        pass


def test_what_may_change_between_starts(tmp_path):
    run_of(tmp_path)
    config = digits(train__kimg=7, train__microbatches=2, log__keep=9, log__grid_kimg=0.5)
    config.data.threads = 5
    source = open_source("digits", height=16, width=16, channels=1, labels=True)
    with opened(tmp_path, configs.parse(config, num_classes=10), source):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["config"]["train"]["kimg"] == 7


def test_unusable_workdirs(tmp_path):
    (tmp_path / "file").write_text("")
    assert f"workdir {tmp_path}/file cannot be used" in mistake(tmp_path / "file")
    assert f"workdir {tmp_path}/file/x cannot be used" in mistake(tmp_path / "file" / "x")
    run = run_of(tmp_path / "run")
    (run / "checkpoints" / "5").mkdir(parents=True)
    for inside in (run / "checkpoints", run / "checkpoints" / "5"):
        assert "lies inside a run" in mistake(inside)
    for text, said in (("{", "is damaged"), ("[]", "is no record"), ('{"a": 1}', "is no record")):
        (run / "run.json").write_text(text)
        assert said in mistake(run)
    (run / "run.json").unlink()
    assert "has checkpoints but no run.json" in mistake(run)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"seeds": "3-1"}, "'3-1' is no seed or range like 0-15"),
        ({"seeds": "a"}, "'a' is no seed or range"),
        ({"seeds": "-1"}, "'-1' is no seed or range"),
        ({"seeds": "1,,2"}, "'' is no seed or range"),
        ({"seeds": str(2**32)}, "below 2^32"),
        ({"seeds": "0-4294967295"}, "more than 10,000,000 at once"),
        ({}, "give --seeds=0-15 or --latents=z.npy"),
        ({"seeds": "1", "latents": "z.npy"}, "one of the two"),
        ({"seeds": "1", "truncation": "nan"}, "--truncation=nan must be finite"),
        ({"seeds": "1", "checkpoint": "/no/run"}, "/no/run: no such folder"),
        ({"seeds": "1", "checkpoint": "https://a.co/b/c"}, "https://a.co/b/c is no path: fetch"),
    ],
)
def test_generate(changes, expected, tmp_path):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    given = {"checkpoint": str(tmp_path), "outdir": str(tmp_path / "out")} | changes
    with flagsaver.as_parsed(**given), pytest.raises(UserError) as caught:
        generate.main(None)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_seeds():
    assert generate.parse_seeds("0-3,7, 9-9") == [0, 1, 2, 3, 7, 9]
    assert generate.parse_seeds("4294967295") == [2**32 - 1]
