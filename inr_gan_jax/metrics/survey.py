"""One pass over images: everything that the metrics of one detector need of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inr_gan_jax.metrics.classes import ClassSpread
from inr_gan_jax.metrics.statistics import Moments
from inr_gan_jax.metrics.streaming import Rows, Stream, gather, gather_rows


@dataclass
class Survey:
    """Statistics of the features of many images.

    `moments` of all of them, `spread` of each class (None without classes), and `kept`: every row
    that was computed (`features`, `label`, ...) of some of them, in the order of their numbers.
    """

    moments: Moments
    spread: ClassSpread | None
    kept: Rows

    def to_arrays(self) -> Rows:
        """Flat, for the cache."""
        parts = {"moments": self.moments.to_arrays(), "kept": self.kept}
        if self.spread is not None:
            parts["spread"] = self.spread.to_arrays()
        return {f"{part}/{k}": v for part, arrays in parts.items() for k, v in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Rows) -> "Survey":
        """The inverse of `to_arrays`."""

        def part(name):
            prefix = f"{name}/"
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        spread = part("spread")
        return cls(
            Moments.from_arrays(part("moments")),
            ClassSpread.from_arrays(spread) if spread else None,
            part("kept"),
        )


def survey(
    stream: Stream,
    arrays: object,
    read: Callable[[np.ndarray], Rows],
    count: int,
    *,
    classes: int,
    keep: np.ndarray,
    what: str,
) -> Survey:
    """Surveys images 0 to count - 1 over all processes: each returns the whole.

    `stream` computes `features` `[n, F]` and `label` `[n]`, and what else shall be kept of the
    images that `keep` numbers.
    """
    shapes = stream.shapes(arrays, read(np.zeros(1, np.int64)))
    features = shapes["features"].shape[1]
    moments, spread = Moments(features), ClassSpread(classes, features)
    chosen = [np.zeros(0, np.int64)]
    kept = {name: [np.zeros((0, *s.shape[1:]), s.dtype)] for name, s in shapes.items()}
    for numbers, rows in stream.run(arrays, read, count, what):
        moments.add(rows["features"])
        if classes:
            spread.add(rows["features"], rows["label"])
        wanted = np.isin(numbers, keep)
        chosen.append(numbers[wanted])
        for name in rows:
            kept[name].append(rows[name][wanted])
    rows = {name: np.concatenate(parts) for name, parts in kept.items()}
    everywhere = gather_rows(np.concatenate(chosen), rows)
    whole = Survey(
        Moments(features), ClassSpread(classes, features) if classes else None, everywhere
    )
    for part in gather({k: v[None] for k, v in moments.to_arrays().items()}):
        whole.moments.merge(Moments.from_arrays({k: v[0] for k, v in part.items()}))
    for part in gather(spread.to_arrays()) if classes else ():
        whole.spread.merge(ClassSpread.from_arrays(part))
    return whole
