"""Convolutions of few channels on a grid that is folded: 2x2 pixels as one of four times as many.

A TPU pads channels to 128 lanes: 32 of them at 1024x1024 take four times their memory and sixteen
times their work. Folded (space to depth), the same sums are convolutions of 128 channels at
512x512: a fifth of the cycles that its compiler expects (docs/benchmarks.md). Weights are arranged
anew by linear maps, so every derivative exists and means the same.
"""

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models.resample import TAPS

LANES = 128  # of a TPU's vectors


def fold(x_bhwc: jax.Array) -> jax.Array:
    """`[B, H, W, C] -> [B, H/2, W/2, 4 C]`: rows of a cell, then columns, then channels."""
    b, h, w, c = x_bhwc.shape
    cells = x_bhwc.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(b, h // 2, w // 2, 4 * c)


def at_pixels(w_hwio: jax.Array) -> jax.Array:
    """1x1 -> 1x1 of folded inputs and outputs."""
    i, o = w_hwio.shape[2:]
    return jnp.einsum("ab,io->aibo", jnp.eye(4), w_hwio[0, 0]).reshape(1, 1, 4 * i, 4 * o)


def _places() -> np.ndarray:
    """`[p, c, a, u]`: whether pixel a of a cell has pixel c of cell p - 1 as neighbour u - 1."""
    places = np.zeros((3, 2, 2, 3))
    for a in range(2):
        for u in range(3):
            p, c = divmod(a + u - 1, 2)
            places[p + 1, c, a, u] = 1
    return places


def same(w_hwio: jax.Array) -> jax.Array:
    """3x3, padded by 1 -> 3x3 of folded inputs and outputs, padded by 1."""
    i, o = w_hwio.shape[2:]
    places = jnp.asarray(_places(), w_hwio.dtype)
    w = jnp.einsum("pcau,qdbv,uvio->pqcdiabo", places, places, w_hwio)
    return w.reshape(3, 3, 4 * i, 4 * o)


def halving(w_hwio: jax.Array) -> jax.Array:
    """A blur and every second pixel of a 3x3 or a 1x1 -> 3x3 of folded inputs, padded by 1.

    The blur is that of resample, padded so that the grid is halved (by 2 before 3x3, 1 before 1x1).
    Outputs are not folded: a cell of the input is one of their pixels.
    """
    n, _, i, o = w_hwio.shape
    first = (6 - (n + len(TAPS) - 1)) // 2
    taps = np.zeros((6, n))
    for u in range(n):
        taps[first + u : first + u + len(TAPS), u] = TAPS
    taps = jnp.asarray(taps, w_hwio.dtype)
    w = jnp.einsum("xu,yv,uvio->xyio", taps, taps, w_hwio)
    return w.reshape(3, 2, 3, 2, i, o).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * i, o)
