"""Affine maps of images without aliasing (Karras et al. 2020, "Training generative adversarial
networks with limited data", appendix B.2): reflect, upsample by two, sample, downsample by two.

Reflection makes an image of n pixels periodic, with period 2 (n - 1) along each axis. One period of
the doubled image therefore holds every value that sampling can meet, in less than half the memory
of an image padded by n - 1 pixels per side, and a position finds its place in it by a modulo.

The filter is the orthonormal sym6: its downsampling is the transpose, and the inverse, of its
upsampling, so that the identity is exact to rounding (images of 4 pixels or more per side).
"""

import jax
import jax.numpy as jnp
import numpy as np

# The low-pass taps of the wavelet sym6 (Daubechies 1992, "least asymmetric", 6 moments).
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_EVEN = np.asarray(SYM6[0::2]) / sum(SYM6)  # taps that meet even positions of the doubled image
_ODD = np.asarray(SYM6[1::2]) / sum(SYM6)
_REACH = 5  # doubled samples beyond the image that downsampling looks at, below; above: one more


def _period(size: int) -> int:
    return max(2 * (size - 1), 1)


def reflected(size: int, before: int, after: int) -> np.ndarray:
    """Indices of an axis of `size` pixels, reflected about its outermost pixels' centres."""
    return np.pad(np.arange(size), (before, after), mode="reflect")


def _correlate(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    count = x.shape[axis] - len(taps) + 1
    parts = [
        float(tap) * jax.lax.slice_in_dim(x, i, i + count, axis=axis) for i, tap in enumerate(taps)
    ]
    return sum(parts[1:], parts[0])


def _upsample(x: jax.Array, axis: int) -> jax.Array:
    """One period of the reflected, doubled axis, and two samples more: 2 * period + 2 samples.

    The filter's weight is centred on its tap 5: sample k lies at pixel k / 2.
    """
    size = x.shape[axis]
    period = _period(size)
    x = jnp.take(x, reflected(size, 3, period + 4 - size), axis=axis)
    even = _correlate(x, 2 * _ODD[::-1], axis)
    odd = _correlate(x, 2 * _EVEN[::-1], axis)
    even = jax.lax.slice_in_dim(even, 0, period + 1, axis=axis)
    odd = jax.lax.slice_in_dim(odd, 1, period + 2, axis=axis)
    pairs = jnp.stack([even, odd], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


def _downsample(x: jax.Array, axis: int) -> jax.Array:
    """`2 n + 10` samples -> `n`: the filter reversed, of every second place."""
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    # Even and odd samples apart: strided slices are exact too, but slow to differentiate on CPU.
    even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    return _correlate(even, _EVEN, axis) + _correlate(odd, _ODD, axis)


def _positions(size: int) -> np.ndarray:
    """Where the doubled output's samples lie, in pixels from the image's centre."""
    return (np.arange(2 * size + 2 * _REACH) - _REACH - (size - 1)) / 2


def _locate(centred: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(sample of the doubled period, fraction up to the next one, whether the padding holds it)."""
    inside = jnp.abs(centred) <= 1.5 * (size - 1)
    position = jnp.mod(2 * centred + (size - 1), 2 * _period(size))
    sample = jnp.floor(position)
    return sample.astype(int), position - sample, inside


def _sample(x_hwc: jax.Array, rows: tuple, columns: tuple) -> jax.Array:
    """Bilinear interpolation of a doubled image at the places that `_locate` gave, `[..., C]`."""
    (y, y_fraction, y_inside), (x, x_fraction, x_inside) = rows, columns

    def cell(y, x):
        return jax.lax.dynamic_slice(x_hwc, (y, x, 0), (2, 2, x_hwc.shape[2]))

    # One gather of whole cells: four of single pixels take twice as long to differentiate on CPU.
    cells = jax.vmap(jax.vmap(cell))(y, x)
    y_fraction, x_fraction = y_fraction[..., None, None], x_fraction[..., None]
    lines = (1 - y_fraction) * cells[..., 0, :, :] + y_fraction * cells[..., 1, :, :]
    values = (1 - x_fraction) * lines[..., 0, :] + x_fraction * lines[..., 1, :]
    return jnp.where((y_inside & x_inside)[..., None], values, 0)


def warp(x_hwc: jax.Array, inverse: jax.Array) -> jax.Array:
    """Resamples an image `[H, W, C]` by an affine map; linear in the image.

    `inverse` is `[3, 3]` and takes a place of the output to the place of the input that is seen
    there: homogeneous (x, y, 1), in pixels from the image's centre, y down. The image is reflected
    about its outermost pixels, once: what lies size pixels or more beyond them is 0.
    """
    height, width, _ = x_hwc.shape
    x, y = jnp.meshgrid(_positions(width), _positions(height))
    x, y = (row[0] * x + row[1] * y + row[2] for row in inverse[:2])
    doubled = _upsample(_upsample(x_hwc, 0), 1)
    sampled = _sample(doubled, _locate(y, height), _locate(x, width))
    return _downsample(_downsample(sampled, 0), 1)
