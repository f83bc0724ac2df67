"""Metrics: the Frechet distance's square root against a general one."""

import numpy as np
import scipy.linalg

from benchmarks.timing import medians
from inr_gan_jax.metrics.statistics import Moments, frechet_distance

FEATURES, SAMPLES = 2048, 5000


def rows() -> list[dict]:
    """Seconds of scipy's `sqrtm` of the product over those of `frechet_distance`, and agreement."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.1, 1, (FEATURES, 1)) * rng.standard_normal((FEATURES, FEATURES))
    sets = []
    for shift in (0.0, 0.1):
        moments = Moments(FEATURES)
        moments.add(rng.standard_normal((SAMPLES, FEATURES)) @ spread / FEATURES**0.5 + shift)
        sets.append(moments)
    a, b = sets
    found = {}

    def general():
        root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
        traces = np.trace(a.covariance) + np.trace(b.covariance)
        found["general"] = np.square(a.mean - b.mean).sum() + traces - 2 * np.trace(root)

    def ours():
        found["ours"] = frechet_distance(a, b)

    seconds = medians({"general": general, "ours": ours}, 3)
    apart = abs(found["ours"] / found["general"] - 1)
    return [
        {
            "what": f"Frechet distance of {FEATURES} features: general square root / ours",
            "ratio": seconds["general"] / seconds["ours"],
            "detail": f"{seconds['general']:.1f} s / {seconds['ours']:.1f} s, {apart:.0e} apart",
        }
    ]
