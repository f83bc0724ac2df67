"""How much the images of each class vary, to see a class collapse before the whole does."""

import numpy as np


class ClassSpread:
    """Variance of features within each class, gathered batch by batch in float64.

    `count` `[C]`, `total` `[C, F]` and `squares` `[C]`, the sum of squared lengths.
    """

    def __init__(self, classes: int, features: int):
        self.count, self.squares = np.zeros(classes), np.zeros(classes)
        self.total = np.zeros((classes, features))

    def add(self, features_nf: np.ndarray, labels_n: np.ndarray) -> None:
        """Takes in a batch."""
        x_nf = np.asarray(features_nf, np.float64)
        np.add.at(self.count, labels_n, 1)
        np.add.at(self.total, labels_n, x_nf)
        np.add.at(self.squares, labels_n, np.square(x_nf).sum(axis=1))

    def merge(self, other: "ClassSpread") -> None:
        """Takes in what another one has seen."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def variance(self) -> np.ndarray:
        """Trace of each class's unbiased covariance `[C]`; NaN for fewer than 2 images."""
        n = np.where(self.count > 1, self.count, np.nan)
        return (self.squares - np.square(self.total).sum(axis=1) / n) / (n - 1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything, by name."""
        return {"count": self.count, "total": self.total, "squares": self.squares}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "ClassSpread":
        """The inverse of `to_arrays`."""
        spread = cls(*arrays["total"].shape)
        for name, array in arrays.items():
            setattr(spread, name, np.array(array))
        return spread


def diversity(generated: ClassSpread, real: ClassSpread) -> np.ndarray:
    """Generated variance over real variance of each class `[C]`; NaN where either is unknown."""
    spread = real.variance
    return generated.variance / np.where(spread > 0, spread, np.nan)
