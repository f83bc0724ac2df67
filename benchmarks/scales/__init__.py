"""Beyond the size of training: pictures of 32 pixels alone, enlarged, against one function.

    python -m benchmarks.run --suite=scales --only=shapes --seeds=3 --minutes=25

For each set and seed two trainings of equal seconds: `plain` at 32 and `any` up to 128. Then
distances of patches of 32 pixels at 32, 64 and 128 to real ones: of the first, enlarged by Lanczos
(a) or rendered at the size (b), and of the second (c); and how far renders of different sizes
agree. Rows are kept in runs/scales/rows.jsonl, and the same command goes on.
--only=shapes/turned measures a variant of (c), or several, shapes/rate+wide (see sets.VARIANTS),
after as many images. --together trains all seeds as one program, for a GPU.
"""

import itertools
from pathlib import Path

from absl import flags

from benchmarks import together
from benchmarks.quality.runs import Costs, Rows, run_training
from benchmarks.scales import measure, sets
from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.model import load

OUT = Path("runs/scales")
SIZES = (32, 64, 128)
PICTURES = 3600  # of which half are a yardstick's
METHODS = {"a": ("plain", "lanczos"), "b": ("plain", "superres"), "c": ("any", "any")}


def rows() -> list[dict]:
    """Does what is not done; (c)'s distance over the better of (a) and (b) at each size."""
    seeds, minutes = flags.FLAGS.seeds, flags.FLAGS.minutes
    asked = flags.FLAGS.only or list(sets.NAMES)
    for one in asked:
        name, *variant = one.split("/")
        if name not in sets.NAMES or set("+".join(variant).split("+")) - {"", *sets.VARIANTS}:
            raise UserError(
                f"--only={one} is not one of {', '.join(sets.NAMES)}, alone or with / and some of "
                f"{', '.join(sets.VARIANTS)}, joined by +"
            )
    done, found = Rows(OUT / "rows.jsonl"), []
    for name in dict.fromkeys(one.split("/")[0] for one in asked):
        sets.prepared(name)
        kimg = _budgets(done, name, minutes)
        source = open_source(
            str(sets.zip_of(name, sets.LARGEST)), height=sets.LARGEST, width=sets.LARGEST,
            channels=3, labels=False,
        )  # fmt: skip
        yardsticks = None
        variants = [one.split("/")[1] for one in asked if one.startswith(f"{name}/")]
        wanted = ([None] if name in asked else []) + variants
        missing = []
        for seed, variant in itertools.product(range(seeds), wanted):
            keys = {"set": name, "seed": seed, "kimg": kimg}
            keys |= {"variant": variant} if variant else {"kind": "all"}
            if not done.find(**keys):
                missing.append((seed, variant, keys))
        if flags.FLAGS.together:
            for variant in wanted:
                of_it = [seed for seed, other, _ in missing if other == variant]
                for kind in [variant] if variant else sets.KINDS:
                    _train_together(name, kind, of_it, kimg)
        for seed, variant, keys in missing:
            yardsticks = yardsticks or measure.Sizes(source, SIZES, PICTURES)
            made = _measured if variant is None else _measured_variant
            done.add(keys | made(name, variant, seed, kimg, yardsticks))
        found += _table(name, [r for r in done.rows if r.get("kimg") == kimg])
    return found


def _train_together(name: str, kind: str, seeds, kimg: dict[str, float]) -> None:
    """What has not begun of these, as one program; `_trained` then finds it done."""
    length = kimg["plain" if kind == "plain" else "any"]
    together.train_fresh(
        {_workdir(name, kind, seed): {"seed": seed, "train.kimg": length} for seed in seeds},
        lambda: sets.get_config(f"{name}/{kind}"),
        points=1,
    )


def _workdir(name: str, kind: str, seed: int) -> Path:
    return OUT / name / f"{kind}-{seed}"


def _trained(name: str, kind: str, seed: int, kimg: float):
    workdir = _workdir(name, kind, seed)
    print(f"{name}, {kind}, seed {seed}: {kimg:g} kimg", flush=True)
    config = f"{Path(sets.__file__)}:{name}/{kind}"
    run_training(config, workdir, {"seed": seed, "train.kimg": kimg}, points=1)
    return load(str(workdir))


def _measured_variant(name, variant, seed, kimg, yardsticks) -> dict:
    model = _trained(name, variant, seed, kimg["any"])
    agreement = measure.agreement(model, SIZES[:2])
    return {"c": yardsticks.measured(model, "any"), "agreement": {"c": agreement}}


def _measured(name, _, seed, kimg, yardsticks) -> dict:
    models = {kind: _trained(name, kind, seed, kimg[kind]) for kind in sets.KINDS}
    row = {key: yardsticks.measured(models[k], method) for key, (k, method) in METHODS.items()}
    agreements = {key: measure.agreement(models[METHODS[key][0]], SIZES[:2]) for key in "bc"}
    return row | {"agreement": agreements}


def _budgets(done: Rows, name: str, minutes: float) -> dict[str, float]:
    row = done.find(kind="cost", set=name)
    if row is None:
        configs = [parse(sets.get_config(f"{name}/{kind}")) for kind in sets.KINDS]
        seconds, relative = Costs(configs[0])(configs[1])
        row = done.add(
            {"kind": "cost", "set": name, "plain": relative / seconds, "any": 1 / seconds}
        )
    return {kind: float(f"{minutes * 60 * row[kind] / 1000:.3g}") for kind in sets.KINDS}


def _table(name: str, done: list[dict]) -> list[dict]:
    rows, runs = [], [row for row in done if row.get("kind") == "all"]
    for variant in dict.fromkeys(row["variant"] for row in done if row.get("variant")):
        rows += _compared(name, variant, [r for r in done if r.get("variant") == variant], runs)
    for key in runs[0]["a"] if runs else ():
        means = {m: sum(run[m][key] for run in runs) / len(runs) for m in METHODS}
        told = ", ".join(
            f"({m}) " + " ".join(f"{run[m][key]:.3g}" for run in runs) for m in METHODS
        )
        ratio = means["c"] / min(means["a"], means["b"])
        rows.append({"what": f"{name}, {key}: (c) / better of (a), (b)", "ratio": ratio,
                     "detail": told})  # fmt: skip
    for key in runs[0]["agreement"]["c"] if runs else ():
        values = {m: [run["agreement"][m][key] for run in runs] for m in "bc"}
        told = ", ".join(f"({m}) " + " ".join(f"{v:.1f}" for v in vs) for m, vs in values.items())
        rows.append({"what": f"{name}, {key}: dB of (c)", "ratio": min(values["c"]),
                     "detail": told})  # fmt: skip
    return rows


def _compared(name: str, variant: str, tried: list[dict], runs: list[dict]) -> list[dict]:
    """Distances of a variant over those of (c) of the same seeds; alone where there are none."""
    base = {run["seed"]: run["c"] for run in runs}
    beside = [run for run in tried if run["seed"] in base]
    rows = []
    for key in tried[0]["c"]:
        ours = [run["c"][key] for run in beside or tried]
        theirs = [base[run["seed"]][key] for run in beside]
        told = " ".join(f"{v:.3g}" for v in ours)
        told += ", (c) " + " ".join(f"{v:.3g}" for v in theirs) if beside else ""
        rows.append({"what": f"{name}/{variant}, {key}" + ": over (c)" * bool(beside),
                     "ratio": sum(ours) / (sum(theirs) if beside else len(ours)),
                     "detail": told})  # fmt: skip
    return rows
