"""FIR resampling by two with the binomial filter [1, 3, 3, 1] (Karras et al. 2020, appendix B).

The filter is separable and has four taps: shifted sums of slices are exact, quick on every backend
and differentiable twice, where a depthwise convolution is slow (on CPU by an order of magnitude).
"""

import functools

import jax
import jax.numpy as jnp

TAPS = (0.125, 0.375, 0.375, 0.125)


def _filter_axis(x: jax.Array, axis: int, stride: int) -> jax.Array:
    count = x.shape[axis] - len(TAPS) + 1
    parts = [
        tap * jax.lax.slice_in_dim(x, i, i + count, stride, axis) for i, tap in enumerate(TAPS)
    ]
    return sum(parts[1:], parts[0])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def blur(x_bhwc: jax.Array, padding: int, gain: float = 1.0) -> jax.Array:
    """Pads with `padding` zeros on every side and filters: NHWC."""
    return _filtered(x_bhwc, padding, 1, gain)


# The filter is symmetric, so blurring is its own transpose, but for the margin.
blur.defvjp(
    lambda x, padding, gain: (blur(x, padding, gain), None),
    lambda padding, gain, _, dy: (blur(dy, len(TAPS) - 1 - padding, gain),),
)


def _filtered(x, padding: int, stride: int, gain: float):
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y = _filter_axis(_filter_axis(x, 1, stride), 2, stride)
    return y * gain if gain != 1 else y


@jax.custom_vjp
def downsample(x_bhwc: jax.Array) -> jax.Array:
    """`[B, H, W, C] -> [B, H/2, W/2, C]`: filter, then decimate."""
    return _filtered(x_bhwc, 1, 2, 1.0)


def _upsample_axis(x: jax.Array, axis: int) -> jax.Array:
    """Zero insertion, padding (2, 1) and the filter with gain 2, without the zeros.

    Output 2i is (1 x[i-1] + 3 x[i]) / 4, output 2i + 1 is (3 x[i] + 1 x[i+1]) / 4.
    """
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 1)
    n = x.shape[axis]
    padded = jnp.pad(x, pad)
    before = jax.lax.slice_in_dim(padded, 0, n, axis=axis)
    after = jax.lax.slice_in_dim(padded, 2, n + 2, axis=axis)
    pairs = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


@jax.custom_vjp
def upsample(x_bhwc: jax.Array) -> jax.Array:
    """`[B, H, W, C] -> [B, 2H, 2W, C]`: zeros inserted, filtered with gain 4."""
    return _upsample_axis(_upsample_axis(x_bhwc, 1), 2)


# Each is the other's transpose, but for the gain of 4.
downsample.defvjp(lambda x: (downsample(x), None), lambda _, dy: (upsample(dy) * 0.25,))
upsample.defvjp(lambda x: (upsample(x), None), lambda _, dy: (downsample(dy) * 4.0,))
