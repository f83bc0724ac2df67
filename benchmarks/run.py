"""Prints what the project's performance claims rest on, as ratios within one run.

    python -m benchmarks.run [--suite=render] [--json=FILE]

Every row is the median of repeats taken in turns, so that a machine's mood meets all of them.
"""

import importlib
import json
from pathlib import Path

from absl import flags

from benchmarks import NAMED, SUITES
from benchmarks.timing import machine
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError, nearest

SUITE = flags.DEFINE_list("suite", list(SUITES), f"Of {', '.join((*SUITES, *NAMED))}.")
ONLY = flags.DEFINE_list("only", [], "Suite quality: SET/CANDIDATE, patterns; suite scales: sets.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Suites quality, scales: runs of each.", lower_bound=1)
MINUTES = flags.DEFINE_float("minutes", 3.0, "Suites quality, scales: of a run.")
BY = flags.DEFINE_enum(
    "by", "seconds", ["seconds", "images"], "Suite quality: what is equal between candidates."
)
TOGETHER = flags.DEFINE_bool(
    "together", False, "Suites quality, scales: all seeds of a candidate as one program, on a GPU."
)
JSON = flags.DEFINE_string("json", None, "Also write the results to this file.")


def rows_of(suite: str) -> list[dict]:
    """What a suite measures: `what`, a `ratio` within this run, and `detail`."""
    return importlib.import_module(f"benchmarks.{suite}").rows()


def main(_) -> None:
    """Runs the suites; prints a table of their rows."""
    known = (*SUITES, *NAMED)
    for name in SUITE.value:
        if name not in known:
            raise UserError(
                f"--suite={name} is not one of {', '.join(known)}{nearest(name, known)}"
            )
    results = {"machine": machine(), "rows": []}
    print("  ".join(f"{k}: {v}" for k, v in results["machine"].items()))
    for name in SUITE.value:
        for row in rows_of(name):
            results["rows"].append({"suite": name, **row})
            print(f"{name:8} {row['what']:62} {row['ratio']:8.2f}  {row['detail']}", flush=True)
    if JSON.value:
        try:
            Path(JSON.value).write_text(json.dumps(results, indent=1))
        except OSError as error:
            raise UserError(f"--json={JSON.value} cannot be written: {error}") from error


if __name__ == "__main__":
    run(main)
