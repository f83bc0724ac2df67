"""Convolutions, quick on every backend, and differentiable as often as one likes.

A convolution is bilinear: what its derivatives are made of are two more bilinear maps, the gradient
of its input and that of its weights, and the derivatives of the three are the three again. XLA
derives them well for TPUs and GPUs. For CPUs it does not: a weight gradient takes ten times as long
as the convolution, an input gradient of a strided one up to 35 times. There each of the three is
written as matrix products:

  gathered   what a window sees is laid side by side, then one product (any kernel and stride);
  phases     the gradient of a strided one's input: for each residue of the stride a small product;
  winograd   3x3, stride 1: 16 products for four outputs instead of 36 (Lavin and Gray 2016, F(2x2,
             3x3)), where the channels are many enough to pay for the sums around them.

Which is used depends on shapes alone (`_pays`), as `benchmarks.run --suite=convolution` found.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_WINDOW = ("NHWC", "HWIO", "NHWC")


class Shape(NamedTuple):
    """What a convolution does, but for its arrays: `size` (height, width) is its input's."""

    stride: int
    padding: int
    size: tuple[int, int]
    kernel: tuple[int, int]


def conv2d(x_bhwi, w_hwio, *, stride=1, padding=0) -> jax.Array:
    """Correlation, NHWC by HWIO; `padding` zeros on every side; float32 sums, x's type."""
    shape = Shape(stride, padding, x_bhwi.shape[1:3], w_hwio.shape[:2])
    return convolution_p.bind(x_bhwi, w_hwio.astype(x_bhwi.dtype), shape=shape)


def transposed_conv2d(y_bhwo, w_hwio, *, stride: int) -> jax.Array:
    """The transpose of a `conv2d` without padding: NHWC of (n - 1) * stride + kernel pixels.

    Weights are that convolution's, `[k, k, out, in]` as seen from here.
    """
    kernel = w_hwio.shape[:2]
    size = tuple((n - 1) * stride + k for n, k in zip(y_bhwo.shape[1:3], kernel, strict=True))
    shape = Shape(stride, 0, size, kernel)
    return input_gradient_p.bind(y_bhwo, w_hwio.astype(y_bhwo.dtype), shape=shape)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """`[..., C] + [C]`, in x's type."""
    return x + bias.astype(x.dtype)


add_bias.defvjp(
    lambda x, bias: (add_bias(x, bias), bias),
    lambda bias, dy: (dy, channel_sums_p.bind(dy).astype(bias.dtype)),
)


# What XLA derives: for every backend but CPUs.


def _convolved(x, w, shape: Shape):
    return jax.lax.conv_general_dilated(
        x, w, (shape.stride,) * 2, [(shape.padding,) * 2] * 2, dimension_numbers=_WINDOW
    )


def _input_gradient(dy, w, shape: Shape):
    x = jax.ShapeDtypeStruct((len(dy), *shape.size, w.shape[2]), dy.dtype)
    return jax.linear_transpose(lambda x: _convolved(x, w, shape), x)(dy)[0]


def _weight_gradient(x, dy, shape: Shape):
    w = jax.ShapeDtypeStruct((*shape.kernel, x.shape[3], dy.shape[3]), x.dtype)
    return jax.linear_transpose(lambda w: _convolved(x, w, shape), w)(dy)[0]


def _channel_sums(x):
    return jnp.sum(x, range(x.ndim - 1))


# On CPUs.


def _channel_sums_on_cpu(x):
    """Images pairwise, then pixels by a product with ones.

    A tenth of the time of XLA's sum over rows within a program; and what cancels within a group of
    the discriminator's minibatch statistics does so before it is rounded.
    """
    x = x.reshape(-1, *x.shape[-3:]) if x.ndim > 3 else x[None]
    while (n := len(x)) > 1:
        pairs = x[0 : n - 1 : 2] + x[1:n:2]
        x = pairs if n % 2 == 0 else jnp.concatenate([pairs, x[-1:]])
    rows = x.reshape(-1, x.shape[-1])
    return _matmul(jnp.ones((1, len(rows)), x.dtype), rows)[0]


def _convolved_on_cpu(x, w, shape: Shape):
    if shape.kernel == (1, 1) and shape.stride == 1 and not shape.padding:
        return _matmul(x, w[0, 0])
    if _pays(x, w.shape[3], shape):
        return _winograd(x, w)
    if shape.stride == 1:
        return _convolved(x, w, shape)
    return _matmul(_gathered(x, shape), w.reshape(-1, w.shape[3]))


def _input_gradient_on_cpu(dy, w, shape: Shape):
    if shape.stride > 1:
        return _phases(dy, w, shape)
    # A convolution with the weights turned by half a turn.
    size = dy.shape[1:3]
    padding = shape.kernel[0] - 1 - shape.padding
    if padding < 0:
        return _phases(dy, w, shape)
    back = Shape(1, padding, size, shape.kernel)
    return _convolved_on_cpu(dy, w[::-1, ::-1].swapaxes(2, 3), back)


def _weight_gradient_on_cpu(x, dy, shape: Shape):
    kernel = (*shape.kernel, x.shape[3], dy.shape[3])
    if _pays(x, dy.shape[3], shape):
        return _winograd_weights(x, dy)
    seen = functools.partial(_gathered, shape=shape)
    return _summed(lambda x, dy: _rows_product(seen(x), dy), x, dy).reshape(kernel).astype(x.dtype)


def _pays(x, outputs: int, shape: Shape) -> bool:
    """Whether Winograd's way is the quicker one."""
    even = all(n % 2 == 0 for n in shape.size)
    usual = shape.kernel == (3, 3) and shape.stride == 1 and shape.padding == 1 and even
    exact = jnp.finfo(x.dtype).bits >= 32  # its sums would cost bfloat16 too many digits
    return usual and exact and min(x.shape[3], outputs) >= 32 and min(shape.size) >= 8


def _sums(dtype):
    return jnp.promote_types(dtype, jnp.float32)


def _matmul(x, w):
    """`[..., i] x [i, o]`, sums in float32."""
    return jnp.matmul(x, w, preferred_element_type=_sums(x.dtype)).astype(x.dtype)


def _rows_product(x, dy):
    """`[..., i], [..., o] -> [i, o]`, summed over all else."""
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return jax.lax.dot_general(
        x, dy, (((0,), (0,)), ((), ())), preferred_element_type=_sums(x.dtype)
    )


_LARGE = 1 << 10  # pixels of an image from which on images are taken one by one


def _summed(function: Callable, x, dy):
    """function(x, dy), which sums over images."""
    if dy.shape[1] * dy.shape[2] < _LARGE or len(x) == 1:
        return function(x, dy)

    def add(total, pair):
        return total + function(pair[0][None], pair[1][None]), None

    zero = jax.eval_shape(function, x[:1], dy[:1])
    return jax.lax.scan(add, jnp.zeros(zero.shape, zero.dtype), (x, dy))[0]


def _padded(x, padding: int):
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _gathered(x, shape: Shape):
    """What each window sees, side by side: `[B, h, w, kernel * i]`."""
    x, step = _padded(x, shape.padding), shape.stride
    rows, columns = (x.shape[axis + 1] - shape.kernel[axis] + 1 for axis in (0, 1))
    offsets = np.ndindex(*shape.kernel)
    return jnp.concatenate(
        [x[:, i : i + rows : step, j : j + columns : step] for i, j in offsets], -1
    )


def _phases(dy, w, shape: Shape):
    """The input's gradient: input pixels of one residue see the same taps of the kernel."""
    step, b = shape.stride, len(dy)
    size = [n + 2 * shape.padding for n in shape.size]
    counts = [-(-n // step) for n in size]  # of each residue, enough for the first
    most = [-(-k // step) for k in shape.kernel]
    front = [n - 1 for n in most]
    behind = [max(0, count - n) for count, n in zip(counts, dy.shape[1:3], strict=True)]
    dy = jnp.pad(dy, ((0, 0), *zip(front, behind, strict=True), (0, 0)))
    made = []
    for residue in np.ndindex(step, step):
        # (tap, where its pixels of dy begin) along both axes.
        rows, columns = (
            [(tap, front[axis] - k) for k, tap in enumerate(range(r, shape.kernel[axis], step))]
            for axis, r in enumerate(residue)
        )
        pairs = list(itertools.product(rows, columns))
        if not pairs:
            made.append(jnp.zeros((b, *counts, w.shape[2]), dy.dtype))
            continue
        seen = [dy[:, i : i + counts[0], j : j + counts[1]] for (_, i), (_, j) in pairs]
        weights = jnp.concatenate([w[i, j].T for (i, _), (j, _) in pairs])
        made.append(_matmul(jnp.concatenate(seen, -1), weights))
    x = jnp.stack(made, 3).reshape(b, *counts, step, step, -1).swapaxes(2, 3)
    x = x.reshape(b, counts[0] * step, counts[1] * step, -1)
    rows, columns = (slice(shape.padding, shape.padding + n) for n in shape.size)
    return x[:, rows, columns]


# Winograd's F(2x2, 3x3). Along one axis: four inputs d, three weights g, two outputs
# A^T [(G g) * (B^T d)].


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


def _winograd(x, w):
    """The convolution of `[b, h, w, i]` with `[3, 3, i, o]`."""
    pieces, columns, outputs = _pieces(x, w.shape[3]), x.shape[2], w.shape[3]
    u = _g(_g(w, 0), 1)

    def piece(x):
        v = _transformed(x)
        m = [[_matmul(v[i][j], u[i, j]) for j in range(4)] for i in range(4)]
        y = _both(_a, m)
        shape = (pieces.images, pieces.rows // 2, columns // 2, outputs)
        return jnp.stack([jnp.stack([part.reshape(shape) for part in row], 3) for row in y], 2)

    x = _with_halo(x, pieces)
    y = jax.lax.map(lambda k: piece(_cut(x, pieces, k, 1)), jnp.arange(pieces.count))
    return y.reshape(-1, pieces.bands * pieces.rows, columns, outputs)


def _winograd_weights(x, dy):
    """The gradient of the weights, `[3, 3, i, o]`."""
    pieces, outputs = _pieces(x, dy.shape[3]), dy.shape[3]

    def piece(x, dy):
        y = [[dy[:, i::2, j::2].reshape(-1, outputs) for j in range(2)] for i in range(2)]
        v, m = _transformed(x), _both(_a_transposed, y)
        return jnp.stack(
            [jnp.stack([_rows_product(v[i][j], m[i][j]) for j in range(4)]) for i in range(4)]
        )

    def add(k, total):
        return total + piece(_cut(x, pieces, k, 1), _cut(dy, pieces, k, 0))

    zero = jnp.zeros((4, 4, x.shape[3], outputs), _sums(x.dtype))
    x = _with_halo(x, pieces)
    u = jax.lax.fori_loop(0, pieces.count, add, zero)
    return _g_transposed(_g_transposed(u, 0), 1).astype(x.dtype)


class _Pieces(NamedTuple):
    """A batch in pieces that stay in the cache: so many images, or of one so many rows."""

    images: int
    rows: int
    bands: int  # of an image
    count: int  # of all


_CACHED = 1 << 19  # values of a piece


def _pieces(x, outputs: int) -> _Pieces:
    b, height, width, inputs = x.shape
    most = _CACHED // (max(inputs, outputs) * width)  # rows
    fitting = [n for n in range(1, b + 1) if b % n == 0 and n * height <= most]
    if fitting:
        return _Pieces(fitting[-1], height, 1, b // fitting[-1])
    rows = max(n for n in range(2, height + 1, 2) if height % n == 0 and (n == 2 or n <= most))
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


# As primitives: each backend lowers them its own way, and the derivatives of the three bilinear
# maps are each other. (Within scans jax.custom_vjp fails around jax.lax.platform_dependent.)


def _primitive(name: str, derived: Callable, on_cpu: Callable, batched: Callable) -> Primitive:
    """`batched`: (primitive, arrays, axes, parameters) -> the result, its batch in front."""
    made = Primitive(f"inr_gan_jax.{name}")
    made.def_impl(lambda *arrays, **p: jax.jit(functools.partial(made.bind, **p))(*arrays))

    def abstract(*arrays, **parameters):
        structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        out = jax.eval_shape(functools.partial(derived, **parameters), *structs)
        return jax.core.ShapedArray(out.shape, out.dtype)

    made.def_abstract_eval(abstract)
    batching.primitive_batchers[made] = lambda *args, **p: (batched(made, *args, **p), 0)
    mlir.register_lowering(made, mlir.lower_fun(derived, multiple_results=False))
    mlir.register_lowering(made, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    DERIVED[made.name] = derived
    return made


def _as_one_batch(primitive, arrays, axes, shape: Shape):
    """Of many batches of images with common weights; else what XLA makes of it."""
    a, b = arrays
    if axes[1] is not None or primitive is weight_gradient_p:
        derived = functools.partial(DERIVED[primitive.name], shape=shape)
        return jax.vmap(derived, axes)(a, b)
    a = jnp.moveaxis(a, axes[0], 0)
    out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, shape=shape)
    return out.reshape(*a.shape[:2], *out.shape[1:])


DERIVED: dict[str, Callable] = {}  # what each means, in operations of XLA
convolution_p = _primitive("convolution", _convolved, _convolved_on_cpu, _as_one_batch)
input_gradient_p = _primitive(
    "input_gradient", _input_gradient, _input_gradient_on_cpu, _as_one_batch
)
weight_gradient_p = _primitive(
    "weight_gradient", _weight_gradient, _weight_gradient_on_cpu, _as_one_batch
)
channel_sums_p = _primitive(
    "channel_sums",
    _channel_sums,
    _channel_sums_on_cpu,
    lambda _, arrays, axes: jax.vmap(_channel_sums, axes)(*arrays),
)

# (cotangent, the two factors, of which the one asked for is unknown) -> its cotangent.
ad.defbilinear(
    convolution_p,
    lambda dy, x, w, shape: input_gradient_p.bind(dy, w, shape=shape),
    lambda dy, x, w, shape: weight_gradient_p.bind(x, dy, shape=shape),
)
ad.defbilinear(
    input_gradient_p,
    lambda dx, dy, w, shape: convolution_p.bind(dx, w, shape=shape),
    lambda dx, dy, w, shape: weight_gradient_p.bind(dx, dy, shape=shape),
)
ad.defbilinear(
    weight_gradient_p,
    lambda dw, x, dy, shape: input_gradient_p.bind(dy, dw, shape=shape),
    lambda dw, x, dy, shape: convolution_p.bind(x, dw, shape=shape),
)
ad.deflinear2(channel_sums_p, lambda sums, x: [jnp.broadcast_to(sums, x.aval.shape)])
