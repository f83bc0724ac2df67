"""Runs `python -m inr_gan_jax.project` many times in one process: its imports cost most."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from helpers.environment import ROOT

MANY = """
import contextlib, importlib, io, json, os, signal, sys
from absl import flags
from inr_gan_jax.cli.run import reports_user_errors
from inr_gan_jax.project.fit import Projection
command, results = importlib.import_module("inr_gan_jax.project.__main__"), []
advance = Projection.advance
for line, stop_after in json.load(sys.stdin):
    calls = []
    def counted(self):
        calls.append(self)
        if len(calls) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)
    Projection.advance = counted
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = reports_user_errors(command.main)(flags.FLAGS(["command", *line]))
    results.append([code, out.getvalue(), error.getvalue()])
print(json.dumps(results))
"""


def project(
    folder: Path, lines: list[str], stop_after: dict[int, int] | None = None
) -> list[tuple[int, str, str]]:
    """(exit code, what it said, its errors) of each line of flags.

    `stop_after` {number of a line: n}: SIGTERM comes before the n-th call of `advance`.
    """
    changes = {
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }
    asked = [[shlex.split(line), (stop_after or {}).get(k, 0)] for k, line in enumerate(lines)]
    done = subprocess.run(
        [sys.executable, "-c", MANY], input=json.dumps(asked), cwd=folder, text=True,
        env=os.environ | changes, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]
