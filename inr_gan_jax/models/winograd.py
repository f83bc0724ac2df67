"""3x3 convolutions with fewer products, for CPUs: Winograd's F(2x2, 3x3) (Lavin and Gray 2016).

Along one axis it makes two outputs of four inputs d and three weights g, A^T [(G g) * (B^T d)], by
four products instead of six; along both, of 16 instead of 36. A batch passes in pieces that stay in
the cache, 16 matrix products each. Its sums round a little more: 1e-5 where outputs are about 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inr_gan_jax.models import products
from inr_gan_jax.models.products import at_least_float32, fitting, matmul, product_over_rows


def pays(x_bhwi: jax.Array, outputs: int) -> bool:
    """Whether it can be used, and is quicker by more than its longer compilation costs.

    `benchmarks.run --suite=convolution` measures where it is.
    """
    images, height, width, inputs = x_bhwi.shape
    known = isinstance(images, int)  # exports leave it open
    even = height % 2 == width % 2 == 0
    exact = jnp.finfo(x_bhwi.dtype).bits >= 32  # its sums would cost bfloat16 too many digits
    channels, side = min(inputs, outputs), min(height, width)
    large = (channels >= 64 and side >= 8) or (channels >= 32 and side >= 32)
    return known and even and exact and large


def convolution(x, w):
    """The convolution of `[b, h, w, i]` with `[3, 3, i, o]`."""
    pieces, columns, outputs = _pieces(x, w.shape[3]), x.shape[2], w.shape[3]
    u = _g(_g(w, 0), 1)

    def piece(x):
        v = _transformed(x)
        m = [[matmul(v[i][j], u[i, j]) for j in range(4)] for i in range(4)]
        y = _both(_a, m)
        shape = (pieces.images, pieces.rows // 2, columns // 2, outputs)
        return jnp.stack([jnp.stack([part.reshape(shape) for part in row], 3) for row in y], 2)

    x = _with_halo(x, pieces)
    y = jax.lax.map(lambda k: piece(_cut(x, pieces, k, 1)), jnp.arange(pieces.count))
    return y.reshape(-1, pieces.bands * pieces.rows, columns, outputs)


def weight_gradient(x, dy):
    """The gradient of the weights, `[3, 3, i, o]`."""
    pieces, outputs = _pieces(x, dy.shape[3]), dy.shape[3]

    def piece(x, dy):
        y = [[dy[:, i::2, j::2].reshape(-1, outputs) for j in range(2)] for i in range(2)]
        v, m = _transformed(x), _both(_a_transposed, y)
        return jnp.stack(
            [jnp.stack([product_over_rows(v[i][j], m[i][j]) for j in range(4)]) for i in range(4)]
        )

    def add(k, total):
        return total + piece(_cut(x, pieces, k, 1), _cut(dy, pieces, k, 0))

    zero = jnp.zeros((4, 4, x.shape[3], outputs), at_least_float32(x.dtype))
    x = _with_halo(x, pieces)
    u = jax.lax.fori_loop(0, pieces.count, add, zero)
    return _g_transposed(_g_transposed(u, 0), 1).astype(x.dtype)


class _Pieces(NamedTuple):
    """A batch in pieces that stay in the cache: so many images, or of one so many rows."""

    images: int
    rows: int
    bands: int  # of an image
    count: int  # of all


def _pieces(x, outputs: int) -> _Pieces:
    b, height, width, inputs = x.shape
    row = width * max(inputs, outputs)
    if height * row <= products.CACHED:
        images = fitting(b, height * row)
        return _Pieces(images, height, 1, b // images)
    rows = 2 * fitting(height // 2, 2 * row)
    return _Pieces(1, rows, height // rows, b * height // rows)


def _with_halo(x, pieces: _Pieces):
    """Zeros above and below, where images are cut into bands that see them."""
    return x if pieces.bands == 1 else jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))


def _cut(x, pieces: _Pieces, k, margin: int):
    """The k-th piece, with a margin; made of zeros here where it can be, which takes half."""
    halo = margin if pieces.bands > 1 else 0
    begin = (k // pieces.bands * pieces.images, k % pieces.bands * pieces.rows, 0, 0)
    size = (pieces.images, pieces.rows + 2 * halo, *x.shape[2:])
    rest = margin - halo
    return jnp.pad(
        jax.lax.dynamic_slice(x, begin, size), ((0, 0), (rest, rest), (margin, margin), (0, 0))
    )


def _b(d):
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _g(w, axis: int):
    a, b, c = (jax.lax.index_in_dim(w, k, axis, keepdims=False) for k in range(3))
    return jnp.stack([a, (a + b + c) / 2, (a - b + c) / 2, c], axis)


def _g_transposed(u, axis: int):
    a, b, c, d = (jax.lax.index_in_dim(u, k, axis, keepdims=False) for k in range(4))
    return jnp.stack([a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d], axis)


def _a(m):
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _a_transposed(y):
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _both(function: Callable, grid: list[list]) -> list[list]:
    """A map of lists along both axes of a grid."""
    columns = [function(list(column)) for column in zip(*grid, strict=True)]
    return [function(list(row)) for row in zip(*columns, strict=True)]


def _transformed(x):
    """Each 4x4 tile of images with their margin, transformed: 4 by 4 of `[tiles, i]`."""
    rows, columns, channels = x.shape[1] - 2, x.shape[2] - 2, x.shape[3]
    tiles = [
        [x[:, i : i + rows : 2, j : j + columns : 2].reshape(-1, channels) for j in range(4)]
        for i in range(4)
    ]
    return _both(_b, tiles)
