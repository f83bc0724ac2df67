"""The scripts of launch/, and how the tests run them."""

import os
import subprocess
import time
from pathlib import Path

from helpers.environment import ROOT

LAUNCH = ROOT / "launch"


def script(name: str, *args, path: Path | None = None, **env) -> subprocess.Popen:
    """Starts launch/NAME; commands in the folder `path` stand in for those of the system."""
    whole = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        **{key: str(value) for key, value in env.items()},
    }
    if path:
        whole["PATH"] = f"{path}:{whole['PATH']}"
    return subprocess.Popen(
        [LAUNCH / name, *map(str, args)],
        env=whole,
        cwd=path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit code, stdout, stderr); a script that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def run(name: str, *args, **options) -> tuple[int, str, str]:
    """Runs launch/NAME to its end: (exit code, stdout, stderr)."""
    return finish(script(name, *args, **options))


def until(true, seconds: float = 20) -> None:
    """Waits until `true()` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.05)


def stand_in(folder: Path, name: str, body: str) -> None:
    """Writes a bash script that stands in for the command `name`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
    (folder / name).chmod(0o755)
