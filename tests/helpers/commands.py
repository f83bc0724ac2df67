"""Runs commands as their docstrings print them."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from helpers.environment import ROOT


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


def examples(module: str) -> list[str]:
    """The command lines in a module's docstring, continued lines joined."""
    text = (ROOT / "inr_gan_jax" / f"{module}.py").read_text().split('"""')[1]
    text = text.replace("\\\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^    python -m .*", text, re.M)]


def _environment(cache: Path) -> dict[str, str]:
    """One device, and programs compiled once for all processes."""
    changes = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }
    return os.environ | changes


def shell(command: str, folder: Path) -> Said:
    """Runs a command line in a folder, as a user does."""
    done = subprocess.run(
        command, shell=True, cwd=folder, env=_environment(folder / "cache"),
        capture_output=True, text=True,
    )  # fmt: skip
    return Said(done.stdout, done.stderr, done.returncode)


MANY = """
import contextlib, io, json, shlex, sys
from absl import flags
from inr_gan_jax import {module}
from inr_gan_jax.cli.run import reports_user_errors
checked = reports_user_errors({module}.main)
for line in json.load(sys.stdin):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    flags.FLAGS(["command", *shlex.split(line)])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = checked([])
    print(json.dumps([out.getvalue(), err.getvalue(), code]))
"""


def many(module: str, lines: list[str], folder: Path) -> list[Said]:
    """The same for several lines of flags of one command, in one process: its imports cost most."""
    done = subprocess.run(
        [sys.executable, "-c", MANY.format(module=module)], input=json.dumps(lines), text=True,
        cwd=folder, env=_environment(folder / "cache"), capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Said(*json.loads(line)) for line in done.stdout.splitlines()]


def flags_of(example: str, module: str) -> str:
    """What follows the command in an example."""
    return example.removeprefix(f"python -m inr_gan_jax.{module} ")


def assert_mistakes(module: str, mistakes: dict[str, str], folder: Path) -> None:
    """Every line of flags is refused in one line that contains what is said here, with code 2."""
    for (line, expected), said in zip(
        mistakes.items(), many(module, list(mistakes), folder), strict=True
    ):
        assert said.code == 2 and said.err.startswith("error: "), (line, said)
        assert expected in said.err and said.err.count("\n") == 1, (line, said)
