"""Averages chosen afterwards: profiles against quadrature, sums against averages kept directly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import shallow
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.model import load
from inr_gan_jax.storage.averages import (
    PART,
    Profile,
    combination,
    exponent_of,
    inner,
    key_of,
    widths_of,
)
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train import loop
from inr_gan_jax.train.optim import power_decay

WIDTHS = st.floats(0.01, 0.28)


@given(WIDTHS)
def test_a_width_is_a_deviation_of_the_profile(width):
    g = exponent_of(width)
    mean, square = (g + 1) / (g + 2), (g + 1) / (g + 3)
    np.testing.assert_allclose(np.sqrt(square - mean**2), width, rtol=1e-6)


@given(WIDTHS, WIDTHS, st.floats(0.2, 1), st.floats(0.2, 1))
def test_inner_products_are_integrals(width_a, width_b, end_a, end_b):
    a, b = Profile(exponent_of(width_a), end_a), Profile(exponent_of(width_b), end_b)

    def product(t):
        return np.prod([(p.exponent + 1) / p.end * (t / p.end) ** p.exponent for p in (a, b)])

    expected, _ = quad(product, 0, min(end_a, end_b), epsabs=1e-12)
    np.testing.assert_allclose(inner(a, b), expected, rtol=1e-5, atol=1e-9)


def test_what_is_saved_is_itself():
    saved = [Profile(exponent_of(w), end) for end in (50, 100) for w in (0.05, 0.1)]
    factors, missing = combination(saved, saved[3])
    np.testing.assert_allclose(factors, [0, 0, 0, 1], atol=1e-5)
    assert missing < 1e-5


@pytest.mark.parametrize("width, snapshots", [(0.08, 16), (0.06, 16), (0.12, 32)])
def test_an_average_kept_directly_is_met(width, snapshots):
    """Of a path that moves and jitters as parameters do: within 1e-5 of their size."""
    steps, rng = 3200, np.random.default_rng(0)
    t = np.linspace(0, 1, steps)[:, None]
    slow = np.sin(t * rng.uniform(1, 6, 50) + rng.uniform(0, 6, 50))
    path = rng.standard_normal(50) + 0.03 * slow + 0.001 * rng.standard_normal((steps, 50))
    averages = {w: 0 for w in (0.05, 0.1, width)}
    saved, kept = [], []
    for i, x in enumerate(path):
        for w in averages:
            beta = np.float64(power_decay(32, np.float64(32 * i), exponent_of(w)))
            averages[w] = x + (averages[w] - x) * beta
        if (i + 1) % (steps // snapshots) == 0:
            for w in (0.05, 0.1):
                saved.append(averages[w])
                kept.append(Profile(exponent_of(w), 32.0 * (i + 1)))
    factors, missing = combination(kept, Profile(exponent_of(width), 32.0 * steps))
    got = factors @ np.stack(saved)
    error = np.sqrt(np.mean((got - averages[width]) ** 2) / np.mean(averages[width] ** 2))
    assert error < 1e-5, (error, missing)
    worse = np.sqrt(np.mean((averages[0.05] - averages[width]) ** 2))
    assert worse > 1e-4  # so it is no other average's error


def test_a_run_keeps_averages_and_models_open_with_any(tmp_path):
    config = shallow(8, kimg=0.064, power_ema="0.05,0.1")
    config.log.checkpoint_kimg, config.log.keep, config.log.grid_kimg = 0.016, 20, 0.0
    config.log.metrics_kimg = 0.0
    source = open_source("digits", height=8, width=8, channels=1, labels=False)
    loop.train(parse(config), source, tmp_path)
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        step = checkpoints.steps()[-1]
    plain, ours = load(tmp_path), load(tmp_path, ema=0.05)
    first = ours.arrays[0]["mapping"]["dense0"]["weight"]
    assert np.abs(first - plain.arrays[0]["mapping"]["dense0"]["weight"]).max() > 1e-5
    shape = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), ours.arrays[0])
    shapes = {PART: {key_of(w): shape for w in (0.05, 0.1)}}
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        there = checkpoints.restore(shapes, step, part=f"{PART}/")[0][PART]["width_0_05"]
    np.testing.assert_allclose(first, there["mapping"]["dense0"]["weight"], rtol=1e-5, atol=1e-6)
    between = load(tmp_path, ema=0.07).arrays[0]["mapping"]["dense0"]["weight"]
    assert np.isfinite(between).all() and not np.allclose(between, first, atol=1e-6)
    for width, why in ((0.4, "below 0.289"), (0.001, "cannot be made")):
        with pytest.raises(UserError, match=why):
            load(tmp_path, ema=width)


def test_widths():
    assert widths_of("") == () and widths_of("0.05,0.1") == (0.05, 0.1)
    assert key_of(0.05) == "width_0_05"
    for text in ("0.05,0.05", "0.3", "0", "x", "0.05,"):
        with pytest.raises(ValueError):
            widths_of(text)
    assert float(power_decay(32, jnp.zeros(()), 5.0)) == 0
