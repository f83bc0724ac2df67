"""One training run of a candidate on a set, and what the yardsticks say of its checkpoints."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import together
from benchmarks.quality import sets
from benchmarks.quality.candidates import CANDIDATES, changed
from benchmarks.quality.yardsticks import SAMPLES, Yardstick, modes, within_blocks
from benchmarks.timing import medians
from benchmarks.train import phases_of, trainer_for
from inr_gan_jax.config import Config, parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics.images import Real
from inr_gan_jax.model import load
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.runtime.devices import use_compilation_cache
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints

POINTS = 6  # of a run's curve
OUT = Path("runs/quality")


def config_of(name: str, candidate: str) -> Config:
    """The set's configuration with the candidate's changes."""
    draft = changed(sets.get_config(name), candidate)
    return parse(draft, num_classes=10 if name == "digits" else 0)


class Costs:
    """Seconds of training by an image, of a configuration over those of another one.

    Both are timed in turns in this process, so that they compare whatever the machine's mood; one
    candidate at a time, as a process can hold only so many compiled programs.
    """

    def __init__(self, other: Config):
        use_compilation_cache()
        self._other = self._cases(other)

    def __call__(self, config: Config, repeats: int = 15) -> tuple[float, float]:
        """(seconds by an image, those over the other's)."""
        parts = {"it": self._cases(config), "other": self._other}
        cases = {(k, phase): case for k, part in parts.items() for phase, (case, _) in part.items()}
        seconds = medians(cases, repeats)
        sums = {
            k: sum(seconds[k, phase] * weight for phase, (_, weight) in part.items())
            for k, part in parts.items()
        }
        return sums["it"], sums["it"] / sums["other"]

    @staticmethod
    def _cases(config: Config) -> dict:
        trainer, batch = trainer_for(config), config.train.batch_size
        costs = trainer.program().phases
        return {p: (case, costs[p].runs / batch) for p, case in phases_of(trainer).items()}


def run_training(config: str, workdir: Path, values: dict, points: int = POINTS) -> None:
    """Trains, or goes on, as anybody would by typing it; UserError with what a run said last.

    `values` of keys, train.kimg among them; `points` checkpoints.
    """
    kimg = values["train.kimg"]
    values = values | {
        "evaluate.kimg": 0.0,
        "log.grid_kimg": kimg,
        "log.checkpoint_kimg": kimg / points,
        "log.keep": points,
    }
    command = [
        sys.executable, "-m", "inr_gan_jax.main", f"--config={config}", f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in values.items()),
    ]  # fmt: skip
    log = workdir.with_suffix(".txt")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        last = log.read_text().strip().splitlines()[-1:]
        raise UserError(f"training in {workdir} failed: {last} (see {log})")


def workdir_of(name: str, candidate: str, seed: int) -> Path:
    """Where the run lives."""
    plain = "".join(c if c.isalnum() else "_" for c in candidate)
    return OUT / name / f"{plain}-{seed}"


def train(name: str, candidate: str, seed: int, kimg: float) -> None:
    """Trains, or goes on; UserError with what a failed run said last."""
    values = {**CANDIDATES[candidate], "seed": seed, "train.kimg": kimg}
    config = f"{Path(sets.__file__)}:{name}"
    run_training(config, workdir_of(name, candidate, seed), values)


def train_together(name: str, candidate: str, seeds: Sequence[int], kimg: float) -> None:
    """Trains what has not begun of these as one program; `train` then finds them done."""
    together.train_fresh(
        {workdir_of(name, candidate, seed): {"seed": seed, "train.kimg": kimg} for seed in seeds},
        lambda: changed(sets.get_config(name), candidate),
        POINTS,
    )


def real_images(name: str) -> np.ndarray:
    """All of a set's images, at most those that a yardstick looks at."""
    config = sets.get_config(name)
    source = open_source(
        config.data.source, height=config.model.height, width=config.model.width,
        channels=config.model.channels, labels=config.data.labels,
    )  # fmt: skip
    chosen = np.random.default_rng(0).permutation(len(source))[:10_000]
    return Real(source).read(np.sort(chosen))["image"]


def measured(name: str, candidate: str, seed: int, yardstick: Yardstick) -> dict:
    """A curve of distances over images, and what else the last checkpoint tells."""
    folder = workdir_of(name, candidate, seed) / FOLDER
    steps = Checkpoints(folder, read_only=True).steps()
    curve = []
    for step in steps:
        model = load(str(folder / str(step)))
        images = generated(model, yardstick.count)
        curve.append({"images": model.images_seen} | yardstick.distances(images))
    row = {"curve": curve, "within": within_blocks(images)} | curve[-1]
    if name == "stacked":
        row |= modes(generated(model, SAMPLES))
    return row


def generated(model, count: int, batch: int = 100) -> np.ndarray:
    """uint8 images of seeds 0, 1, ..."""
    parts = []
    for start in range(0, count, batch):
        seeds = np.arange(start, start + batch)
        classes = model.classes(seeds) if model.num_classes else None
        parts.append(to_uint8(model.images(seeds=seeds, classes=classes)))
    return np.concatenate(parts)[:count]


class Rows:
    """Results in a file of JSON lines: written as they come, found again by the next call."""

    def __init__(self, path: Path):
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def find(self, **keys) -> dict | None:
        """The row with these values."""
        return next((r for r in self.rows if keys.items() <= r.items()), None)

    def add(self, row: dict) -> dict:
        """Writes it down."""
        self.rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row
