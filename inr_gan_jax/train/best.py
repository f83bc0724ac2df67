"""The best checkpoint of a run by a metric: kept beside the newest, and a reason to stop."""

import json

from etils import epath

from inr_gan_jax.config import EvaluateConfig
from inr_gan_jax.runtime.processes import by_first
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.checkpoint import BEST, Checkpoints


class Best:
    """Which checkpoint `config.evaluate.keep_best` found best, and since when none is better.

    All processes make the same calls. Nothing happens where `keep_best` names no metric.
    """

    def __init__(self, config: EvaluateConfig, workdir: epath.Path, checkpoints: Checkpoints):
        self._config, self._path, self._checkpoints = config, workdir / BEST, checkpoints
        self._record: dict | None = None

    def going_on_from(self, images: int) -> None:
        """Says how far the run is: what was found after that, or is not there, is forgotten."""
        if self._config.keep_best:
            self._record = by_first(lambda: self._found(images))
            self._checkpoints.protected = self._record and self._record["step"]

    def is_new(self, results: list[dict] | None, images: int, step: int) -> bool:
        """Whether these results (on process 0) are the best so far; notes whose they are."""
        if not self._config.keep_best:
            return False
        value = by_first(lambda: self._value(results))
        if self._record and not value < self._record["value"]:
            return False
        self._record = {"metric": self._config.keep_best, "value": value, "step": step,
                        "kimg": images / 1000}  # fmt: skip
        return True

    def keep(self) -> None:
        """Its checkpoint is under way: once it is there, it is the one that stays."""
        self._checkpoints.wait()
        by_first(self._write)
        if self._record["step"] in self._checkpoints.steps():
            self._checkpoints.protected = self._record["step"]

    def too_old(self, images: int) -> str:
        """Why the run is to end; empty: it is not."""
        limit, best = self._config.stop_after, self._record
        if not limit or not best or images - best["kimg"] * 1000 < limit * 1000:
            return ""
        return (
            f"no better {best['metric']} for {limit:g} kimg: the best, {best['value']:.5g}, is of "
            f"{best['kimg']:g} kimg ({self._path.parent / self._path.stem})"
        )

    def _value(self, results: list[dict]) -> float:
        return next(r["value"] for r in results if r["metric"] == self._config.keep_best)

    def _found(self, images: int) -> dict | None:
        record = json.loads(self._path.read_text()) if self._path.exists() else None
        here = record and record["step"] in self._checkpoints.steps()
        mine = here and record["metric"] == self._config.keep_best
        return record if mine and record["kimg"] * 1000 <= images else None

    def _write(self) -> None:
        if self._record["step"] in self._checkpoints.steps():
            with replaced(self._path) as file:
                file.write(json.dumps(self._record).encode())
