"""Starting: what importing costs, and what the compilation cache saves of a training's start."""

import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import medians

ROOT = Path(__file__).parent.parent
PAIRS = 3  # of a first and a second start


def interpret(code: str) -> None:
    """Runs a line of Python in a fresh interpreter."""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def start(workdir: Path, cache: Path) -> tuple[float, float]:
    """Seconds of a training of one iteration, from the command on: (until it reports it, in all).

    The report reads the iteration's losses, so it comes when the devices are done with it.
    """
    batch_kimg = 0.032  # of this configuration
    settings = {
        "train.kimg": batch_kimg,
        "log.metrics_kimg": batch_kimg,
        "log.grid_kimg": 0,
        "log.checkpoint_kimg": 0,
        "evaluate.kimg": 0,
    }
    command = [sys.executable, "-m", "inr_gan_jax.main", "--config=configs/digits.py"]
    command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in settings.items())]
    command += ["--allow_cpu"]  # an accelerator may be this process's alone
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    begun, reported = time.perf_counter(), None
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as run:
        for line in run.stdout:
            if line.startswith("kimg ") and reported is None:
                reported = time.perf_counter() - begun
    if run.returncode or reported is None:
        raise RuntimeError(f"{command} reported no iteration and ended with {run.returncode}")
    return reported, time.perf_counter() - begun


def rows() -> list[dict]:
    """Seconds of imports in fresh interpreters, and of a training's first and second start."""
    cases = {
        "nothing": functools.partial(interpret, "pass"),
        "inr_gan_jax": functools.partial(interpret, "import inr_gan_jax"),
    }
    seconds = medians(cases, 31)  # many: they hardly differ
    seconds |= medians({"jax": functools.partial(interpret, "import jax")}, 5)
    found = [
        {
            "what": f"seconds of a fresh Python that imports {one} / {other}",
            "ratio": seconds[one] / seconds[other],
            "detail": f"{seconds[one]:.3f} s / {seconds[other]:.3f} s",
        }
        for one, other in (("inr_gan_jax", "nothing"), ("jax", "inr_gan_jax"))
    ]
    times = {"first": [], "second": []}
    for _ in range(PAIRS):
        with tempfile.TemporaryDirectory() as folder:
            for name, taken in times.items():
                taken.append(start(Path(folder, name), Path(folder, "cache")))
    first, second = (map(statistics.median, zip(*taken, strict=True)) for taken in times.values())
    for what, one, other in zip(("to the first iteration", "in all"), first, second, strict=True):
        found.append(
            {
                "what": f"digits: seconds {what}, first start / second",
                "ratio": one / other,
                "detail": f"{one:.1f} s / {other:.1f} s",
            }
        )
    return found
