"""Distances between sets of features: FID, KID, Inception score, perceptual path length.

Everything is float64 on the host. Precision and recall are in `neighbours.py`.
"""

import math

import numpy as np
from scipy.linalg.blas import dsyrk
from tqdm import tqdm


class Moments:
    """Mean and covariance of features `[n, F]`, gathered batch by batch in float64.

    `count` and `mean` `[F]` are of what was seen so far. Parts are joined by the rule of Chan,
    Golub and LeVeque (1979), so that neither their order nor a mean far from 0 costs precision.
    """

    def __init__(self, features: int):
        self.count, self.mean = 0, np.zeros(features)
        # The sum of outer products of samples less their mean, above the diagonal. BLAS grows it
        # in place: a temporary matrix would take longer than the product with a small batch.
        self._scatter = np.zeros((features, features), order="F")

    def add(self, features_nf: np.ndarray) -> None:
        """Takes in a batch, of any size; raises ValueError for other shapes and for NaN or inf."""
        x_nf = np.asarray(features_nf, np.float64)
        if x_nf.ndim != 2 or x_nf.shape[1] != len(self.mean):
            raise ValueError(f"features must be [n, {len(self.mean)}], not {x_nf.shape}")
        if len(x_nf):
            mean = x_nf.mean(axis=0)
            if not np.isfinite(mean).all():
                raise ValueError("features must be finite")
            self._grow(np.vstack([x_nf - mean, self._move(len(x_nf), mean)]))

    def merge(self, other: "Moments") -> None:
        """Takes in all that `other` has seen, which may be nothing."""
        if other.count:
            self._scatter += other._scatter
            self._grow(self._move(other.count, other.mean)[None])

    def _move(self, count: int, mean: np.ndarray) -> np.ndarray:
        """Moves count and mean; returns the row whose outer product the scatter grows by."""
        total, step = self.count + count, mean - self.mean
        row = math.sqrt(self.count * count / total) * step
        self.mean = self.mean + step * (count / total)
        self.count = total
        return row

    def _grow(self, rows_nf: np.ndarray) -> None:
        self._scatter = dsyrk(1.0, rows_nf.T, beta=1.0, c=self._scatter, overwrite_c=True)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased (n - 1), `[F, F]`; raises ValueError for fewer than 2 samples."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, not {self.count}")
        upper = np.triu(self._scatter) / (self.count - 1)
        return upper + np.triu(upper, 1).T

    def to_arrays(self) -> dict[str, np.ndarray]:
        """`count` `[]`, int64; `mean` `[F]` and `scatter` `[F, F]`, float64."""
        return {"count": np.asarray(self.count), "mean": self.mean, "scatter": self._scatter.copy()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Moments":
        """The inverse of `to_arrays`; the arrays are copied."""
        moments = cls(len(arrays["mean"]))
        moments.count = np.asarray(arrays["count"]).item()
        moments.mean = np.array(arrays["mean"], np.float64)
        moments._scatter = np.array(arrays["scatter"], np.float64, order="F")
        return moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 sqrt(S_a S_b)): FID (Heusel et al. 2017) on Inception's.

    With S = B B', the trace of the root is the sum of the singular values of B_a' B_b, which is
    exact to rounding for covariances without full rank, too (fewer samples than features).

    Raises ValueError for fewer than 2 samples.
    """
    covariances = a.covariance, b.covariance
    factor_a, factor_b = map(_factor, covariances)
    root = np.linalg.svd(factor_a.T @ factor_b, compute_uv=False).sum()
    distance = np.square(a.mean - b.mean).sum() + sum(map(np.trace, covariances)) - 2 * root
    return max(float(distance), 0.0)  # rounding may take it below


def _factor(covariance_ff: np.ndarray) -> np.ndarray:
    """B `[F, rank]` with B B' = covariance."""
    values, vectors = np.linalg.eigh(covariance_ff)
    # What is less than this is rounding, whose many square roots would add up.
    real = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, real] * np.sqrt(values[real])


def mmd2(x_nf: np.ndarray, y_mf: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / F + 1)^3.

    Diagonals are left out of the means over xx and yy, not of that over xy. May be negative.
    Raises ValueError for fewer than 2 samples.
    """
    x_nf, y_mf = np.asarray(x_nf, np.float64), np.asarray(y_mf, np.float64)
    if min(len(x_nf), len(y_mf)) < 2:
        raise ValueError(f"each set needs at least 2 samples, not {len(x_nf)} and {len(y_mf)}")

    def kernel(products):
        base = products / x_nf.shape[1] + 1
        return base * base * base  # ** is slow

    def within(x):
        k = kernel(x @ x.T)
        return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))

    return float(within(x_nf) + within(y_mf) - 2 * kernel(x_nf @ y_mf.T).mean())


KID_SUBSET = 1000  # images


def kernel_distance(
    real_nf: np.ndarray,
    generated_nf: np.ndarray,
    *,
    subsets: int = 100,
    size: int = KID_SUBSET,
    seed: int = 0,
) -> float:
    """KID (Binkowski et al. 2018): mean of `mmd2` over subsets drawn without replacement.

    Each has min(size, n_real, n_generated) samples of either set; `seed` draws them. Raises
    ValueError for fewer than 2 samples.
    """
    size = min(size, len(real_nf), len(generated_nf))
    rng = np.random.default_rng(seed)

    def subset(features_nf):
        return features_nf[rng.choice(len(features_nf), size, replace=False, shuffle=False)]

    bar = tqdm(range(subsets), desc="KID", unit="subset", delay=5)
    return float(np.mean([mmd2(subset(real_nf), subset(generated_nf)) for _ in bar]))


def inception_score(probabilities_nc: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """(mean, standard deviation with ddof 0) of the score over contiguous splits.

    A split's score is exp of the mean over its images of KL(p(y | x) || p(y)), p(y) being the
    split's mean (Salimans et al. 2016). Rows of `probabilities_nc` sum to 1; to be comparable they
    are a softmax of Inception's logits without the output bias. Raises ValueError for fewer images
    than splits.
    """
    n = len(probabilities_nc)
    if n < splits:
        raise ValueError(f"{splits} splits need at least {splits} images, not {n}")
    scores = []
    for i in range(splits):
        p_nc = np.asarray(probabilities_nc[i * n // splits : (i + 1) * n // splits], np.float64)
        # Where p is 0 the product is 0: whatever the logarithm, it must be finite.
        ratio_nc = np.where(p_nc > 0, p_nc, 1) / np.where(p_nc > 0, p_nc.mean(axis=0), 1)
        scores.append(np.exp((p_nc * np.log(ratio_nc)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def ppl(distances_n: np.ndarray) -> float:
    """Perceptual path length (Karras et al. 2019): the mean without the outermost hundredths.

    `distances_n` are perceptual distances of neighbours on paths, divided by epsilon^2. Kept is
    what lies between the 1st percentile (rounded down to a sample) and the 99th (rounded up), both
    inclusive. Raises ValueError if there are none.
    """
    distances_n = np.asarray(distances_n, np.float64)
    if not distances_n.size:
        raise ValueError("the path length needs at least one distance")
    low = np.percentile(distances_n, 1, method="lower")
    high = np.percentile(distances_n, 99, method="higher")
    return float(distances_n[(distances_n >= low) & (distances_n <= high)].mean())
