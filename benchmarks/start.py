"""Starting: what importing costs, and what the compilation cache saves of a training's start."""

import functools
import json
import os
import runpy
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


def start(workdir: Path, cache: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds of a training of one iteration, from the command on.

    (Until it reports it, in all, where the first of these go.) The report reads the iteration's
    losses, so it comes when the devices are done with it.
    """
    batch_kimg = 0.032  # of this configuration
    settings = {
        "train.kimg": batch_kimg,
        "log.metrics_kimg": batch_kimg,
        "log.grid_kimg": 0,
        "log.checkpoint_kimg": 0,
        "evaluate.kimg": 0,
    }
    parts = Path(workdir.parent, f"{workdir.name}.json")
    command = [sys.executable, "-m", "benchmarks.start", str(parts), "--config=configs/digits.py"]
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
    taken = json.loads(parts.read_text())
    taken["else"] = reported - sum(taken.values())  # data, files, the iteration itself
    return reported, time.perf_counter() - begun, taken


def told(file: str) -> None:
    """inr_gan_jax.main, which also writes how long it imported, traced and compiled."""
    begun = time.perf_counter()
    import jax

    import inr_gan_jax.train.loop  # noqa: F401  (what main imports when it needs it)

    imported = time.perf_counter() - begun
    spans = {"trace": [], "compile": []}

    def note(event: str, seconds: float, **_):
        now = time.perf_counter()
        if event.endswith(("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration")):
            spans["trace"].append((now - seconds, now))
        elif event.endswith("backend_compile_duration"):
            spans["compile"].append((now - seconds, now))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        runpy.run_module("inr_gan_jax.main", run_name="__main__")
    finally:
        compiled = covered(spans["compile"])
        traced = covered(spans["compile"] + spans["trace"]) - compiled
        Path(file).write_text(
            json.dumps({"imports": imported, "tracing": traced, "compiling": compiled})
        )


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that lie in at least one span: they overlap, in threads and within each other."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


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
    first, second = (
        [statistics.median(each[k] for each in taken) for k in (0, 1)] for taken in times.values()
    )
    for what, one, other in zip(("to the first iteration", "in all"), first, second, strict=True):
        found.append(
            {
                "what": f"digits: seconds {what}, first start / second",
                "ratio": one / other,
                "detail": f"{one:.1f} s / {other:.1f} s",
            }
        )
    for part in times["first"][0][2]:
        one, other = (statistics.median(e[2][part] for e in taken) for taken in times.values())
        found.append(
            {
                "what": f"digits: of them {part}, part of the first start",
                "ratio": one / first[0],
                "detail": f"{one:.1f} s / {other:.1f} s",
            }
        )
    return found


if __name__ == "__main__":  # what `start` runs: FILE, then flags of inr_gan_jax.main
    told(sys.argv.pop(1))
