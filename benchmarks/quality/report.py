"""The results of the suite as rows, a plot of distances over seconds, and the final grids."""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.runs import Rows, workdir_of

SPACES = ("pixel", "judge")


def written(done: Rows, asked: Sequence[tuple[str, str]], keys: dict, out: Path) -> list[dict]:
    """A row for each set and candidate, of runs with these keys; writes SET.png and grids/."""
    rows = []
    for name in dict.fromkeys(name for name, _ in asked):
        candidates = [candidate for other, candidate in asked if other == name]
        runs = {c: _runs(done, name, c, keys) for c in candidates}
        base = _means(_runs(done, name, "released", keys))
        rows += [_row(name, c, found, base) for c, found in runs.items() if found]
        _plot(name, runs, keys, out / f"{name}.png")
        for candidate, found in runs.items():
            _copy_grids(name, candidate, found, out / "grids")
    return rows


def _runs(done: Rows, name: str, candidate: str, keys: dict) -> list[dict]:
    keys = keys | {"set": name, "candidate": candidate}
    return [r for r in done.rows if keys.items() <= r.items() and "curve" in r]


def _above_floor(run: dict, space: str) -> float:
    return run[space] - run["floor"][space]


def _means(runs: list[dict]) -> dict[str, float] | None:
    if not runs:
        return None
    return {s: statistics.mean(_above_floor(run, s) for run in runs) for s in SPACES}


def _row(name: str, candidate: str, runs: list[dict], base: dict | None) -> dict:
    mean = _means(runs)
    told = []
    for space in SPACES:
        values = [_above_floor(run, space) for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        over = f", {mean[space] / base[space]:.2f} of released" if base else ""
        floor = runs[0]["floor"][space]
        told.append(f"{space} {mean[space]:.3g} +- {spread:.2g} (floor {floor:.2g}{over})")
    within = ", ".join(f"{run['within']:.3f}" for run in runs)
    told.append(f"within 2x2: {within} (real {runs[0]['within_real']:.3f})")
    if "modes" in runs[0]:
        modes = ", ".join(
            f"{run['modes']} of {run['confident']:.2f}, KL {run['reverse_kl']:.3f}" for run in runs
        )
        told.append(f"modes {modes}")
    return {
        "what": f"{name}, {candidate}, {len(runs)} seeds, {runs[0]['kimg']:g} kimg: judge",
        "ratio": mean["judge"] / base["judge"] if base else float("nan"),
        "detail": "; ".join(told),
    }


def _plot(name: str, runs: dict[str, list[dict]], keys: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    figure, equal = Figure(figsize=(11, 4.5), layout="constrained"), keys["by"] == "seconds"
    for axes, space in zip(figure.subplots(1, 2), SPACES, strict=True):
        for number, (candidate, found) in enumerate(runs.items()):
            for seed, run in enumerate(found):
                share = [p["images"] / run["images"] for p in run["curve"]]
                over = [x * (60 * keys["minutes"] if equal else run["kimg"]) for x in share]
                values = [p[space] - run["floor"][space] for p in run["curve"]]
                label = candidate if seed == 0 else None
                color = f"C{number % 10}"
                axes.plot(over, values, color=color, label=label, ls="-" if number < 10 else ":")
        axes.set(
            title=f"{name}: {space}",
            xlabel="seconds" if equal else "kimg",
            ylabel="distance - floor",
        )
        axes.set_yscale("log")
    axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)


def _copy_grids(name: str, candidate: str, runs: list[dict], folder: Path) -> None:
    for run in runs:
        workdir = workdir_of(name, candidate, run["seed"])
        grids = sorted(p for p in (workdir / "samples").glob("*.png") if p.stem.isdecimal())
        if grids:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(grids[-1], folder / f"{name}-{workdir.name}.png")
