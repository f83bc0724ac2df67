"""Runs commands as their docstrings print them: as a user does, or many in this process."""

import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from absl import flags
from helpers.environment import ROOT, environment

from inr_gan_jax.cli.run import reports_user_errors


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


def examples(name: str) -> list[str]:
    """The flags of the commands that --help of `python -m inr_gan_jax.NAME` shows."""
    module = ROOT / "inr_gan_jax" / name
    text = (module / "__main__.py" if module.is_dir() else module.with_suffix(".py")).read_text()
    text = ast.get_docstring(ast.parse(text)).replace("\\\n", " ")
    found = re.findall(rf"^    python -m inr_gan_jax\.{name} (.*)$", text, re.MULTILINE)
    return [" ".join(line.split()) for line in found]


def shell(name: str, line: str, folder: Path) -> Said:
    """`python -m inr_gan_jax.NAME FLAGS` in a folder, by a shell, as a user types it."""
    done = subprocess.run(
        f"python -m inr_gan_jax.{name} {line}", shell=True, cwd=folder,
        env=environment(folder / "cache"), capture_output=True, text=True,
    )  # fmt: skip
    return Said(done.stdout, done.stderr, done.returncode)


def many(name: str, lines: list[str], folder: Path) -> list[Said]:
    """The same for several lines of flags, in this process: a start takes seconds."""
    with command(name) as main:
        return [_run(main, line, folder) for line in lines]


def _run(main, line: str, folder: Path) -> Said:
    flags.FLAGS.unparse_flags()
    for flag in flags.FLAGS:
        flags.FLAGS[flag].unparse()
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch("inr_gan_jax.runtime.devices.use_compilation_cache", lambda: None),
    ):
        code = reports_user_errors(main)(flags.FLAGS(["command", *shlex.split(line)]))
    return Said(out.getvalue(), err.getvalue(), code)


_known: dict[str, dict[str, flags.Flag]] = {}  # the flags of modules that were seen here


@contextlib.contextmanager
def command(name: str) -> Iterator:
    """A command's main function, if it has that name; within, its flags are all of this package.

    Commands have flags of the same names, and a process takes each name once.
    """
    package = ROOT / "inr_gan_jax" / name
    module = f"inr_gan_jax.{name}" + (".__main__" if package.is_dir() else "")
    others = _take_ours()
    loaded = importlib.import_module(module)
    if module not in _known and hasattr(loaded, "_define_flags"):  # when it runs: it starts others
        loaded._define_flags()
    for flag in _known.get(module, {}).values():  # imported before
        flags.FLAGS[flag.name] = flag
    try:
        yield getattr(loaded, "main", None)
    finally:
        for flag in _take_ours():
            flag.unparse()
        for flag in others:
            flags.FLAGS[flag.name] = flag


def own_flags(name: str) -> list[str]:
    """The names of all flags that a command's module defines when it is imported."""
    with command(name):
        pass
    module = f"inr_gan_jax.{name}"
    return sorted(_known.get(module) or _known[f"{module}.__main__"])


def _take_ours() -> list[flags.Flag]:
    """Takes the flags of this package away from absl, and returns them."""
    taken = []
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith("inr_gan_jax") and module != "inr_gan_jax.cli.config":  # shared
            _known.setdefault(module, {}).update({flag.name: flag for flag in defined})
    ours = {id(flag) for defined in _known.values() for flag in defined.values()}
    for flag_name in list(flags.FLAGS):
        if id(flags.FLAGS[flag_name]) in ours:
            taken.append(flags.FLAGS[flag_name])
            delattr(flags.FLAGS, flag_name)
    return taken


def assert_mistakes(
    name: str, mistakes: dict[str, str], folder: Path, *, silent: bool = True
) -> None:
    """Every line of flags is refused in one line that contains what is said here, with code 2.

    `silent`: nothing else is said before.
    """
    for (line, expected), said in zip(
        mistakes.items(), many(name, list(mistakes), folder), strict=True
    ):
        errors = [text for text in said.err.splitlines() if not re.match(r"[IW]\d{4} ", text)]
        assert said.code == 2 and len(errors) == 1 and not (silent and said.out), (line, said)
        assert errors[0].startswith("error: ") and expected in errors[0], (line, said)
