"""Prints what the project's performance claims rest on, as ratios within one run.

    python -m benchmarks.run [--suite=render] [--json=FILE]

Every row is the median of repeats taken in turns, so that a machine's mood meets all of them.
"""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
from absl import flags

from inr_gan_jax.errors import run

JSON = flags.DEFINE_string("json", None, "Also write the results to this file.")


def machine() -> dict:
    """What the numbers were taken on."""
    device = jax.devices()[0]
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "cpu": cpu,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _suites() -> dict[str, Callable[[], list[dict]]]:
    from benchmarks import augment, metrics, render

    return {"render": render.rows, "augment": augment.rows, "metrics": metrics.rows}


SUITE = flags.DEFINE_list("suite", None, "Suites to run; default: all.")


def main(_) -> None:
    """Runs the suites; prints a table of their rows."""
    from inr_gan_jax.errors import UserError, nearest

    suites = _suites()
    for name in SUITE.value or []:
        if name not in suites:
            raise UserError(
                f"--suite={name} is not one of {', '.join(suites)}{nearest(name, suites)}"
            )
    results = {"machine": machine(), "rows": []}
    print("  ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    for name in SUITE.value or suites:
        for row in suites[name]():
            results["rows"].append({"suite": name, **row})
            print(f"{name:8} {row['what']:62} {row['ratio']:8.2f}  {row['detail']}", flush=True)
    if JSON.value:
        Path(JSON.value).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    run(main)
