"""Convolutions, quick on every backend, and differentiable as often as one likes.

A convolution is bilinear: what its derivatives are made of are two more bilinear maps, the gradient
of its input and that of its weights, and the derivatives of the three are the three again. XLA
derives them well for TPUs and GPUs. For CPUs it does not: a weight gradient takes ten times as long
as the convolution, an input gradient of a strided one up to 35 times. There each of the three is
written as matrix products:

  gathered   what a window sees is laid side by side, then one product (any kernel and stride);
  phases     the gradient of a strided one's input: for each residue of the stride a small product;
  winograd   3x3, stride 1: 16 products for four outputs instead of 36, where `winograd.pays`.

Which is used depends on shapes alone; `benchmarks.run --suite=convolution` compares them.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from inr_gan_jax.models import winograd
from inr_gan_jax.models.products import at_least_float32, fitting, matmul, product_over_rows

_WINDOW = ("NHWC", "HWIO", "NHWC")


class Shape(NamedTuple):
    """What a convolution does, but for its arrays: `size` (height, width) is its input's.

    `precision`: what jax.default_matmul_precision says where it is called, not where it is lowered.
    """

    stride: int
    padding: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    precision: str | None = None

    @property
    def usual(self) -> bool:
        """3x3, of every pixel, its output as large as its input."""
        return (self.kernel, self.stride, self.padding) == ((3, 3), 1, 1)


def conv2d(x_bhwi, w_hwio, *, stride=1, padding=0) -> jax.Array:
    """Correlation, NHWC by HWIO; `padding` zeros on every side; float32 sums, x's type."""
    precision = jax.config.jax_default_matmul_precision
    shape = Shape(stride, padding, x_bhwi.shape[1:3], w_hwio.shape[:2], precision)
    return convolution_p.bind(x_bhwi, w_hwio.astype(x_bhwi.dtype), shape=shape)


def transposed_conv2d(y_bhwo, w_hwio, *, stride: int) -> jax.Array:
    """The transpose of a `conv2d` without padding: NHWC of (n - 1) * stride + kernel pixels.

    Weights are that convolution's, `[k, k, out, in]` as seen from here.
    """
    kernel = w_hwio.shape[:2]
    size = tuple((n - 1) * stride + k for n, k in zip(y_bhwo.shape[1:3], kernel, strict=True))
    shape = Shape(stride, 0, size, kernel, jax.config.jax_default_matmul_precision)
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
        x,
        w,
        (shape.stride,) * 2,
        [(shape.padding,) * 2] * 2,
        dimension_numbers=_WINDOW,
        precision=shape.precision,
    )


def _input_gradient(dy, w, shape: Shape):
    x = jax.ShapeDtypeStruct((dy.shape[0], *shape.size, w.shape[2]), dy.dtype)
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
    dtype, x = x.dtype, x.astype(at_least_float32(x.dtype))
    x = x.reshape(-1, *x.shape[-3:]) if x.ndim > 3 else x[None]
    while (n := len(x)) > 1:
        pairs = x[0 : n - 1 : 2] + x[1:n:2]
        x = pairs if n % 2 == 0 else jnp.concatenate([pairs, x[-1:]])
    rows = x.reshape(-1, x.shape[-1])
    return matmul(jnp.ones((1, len(rows)), x.dtype), rows)[0].astype(dtype)


def _convolved_on_cpu(x, w, shape: Shape):
    if shape.kernel == (1, 1) and shape.stride == 1 and not shape.padding:
        return matmul(x, w[0, 0])
    if shape.usual and winograd.pays(x, w.shape[3]):
        return winograd.convolution(x, w)
    if shape.stride == 1:
        return _convolved(x, w, shape)
    product, few = functools.partial(_gathered_product, w=w, shape=shape), _few(x, shape)
    if few == x.shape[0]:
        return product(x)
    y = jax.lax.map(product, _in_groups(x, few))
    return y.reshape(-1, *y.shape[2:])


def _gathered_product(x, w, shape: Shape):
    return matmul(_gathered(x, shape), w.reshape(-1, w.shape[3]))


def _gathered_weights(x, dy, shape: Shape):
    """The gradient of weights, in the type of the sums."""
    total = product_over_rows(_gathered(x, shape), dy)
    return total.reshape(*shape.kernel, x.shape[3], dy.shape[3])


def _input_gradient_on_cpu(dy, w, shape: Shape):
    rows, columns = shape.kernel
    padding = rows - 1 - shape.padding
    if shape.stride > 1 or padding < 0 or rows != columns:
        return _phases(dy, w, shape)
    # A convolution with the weights turned by half a turn.
    back = Shape(1, padding, dy.shape[1:3], shape.kernel, shape.precision)
    return _convolved_on_cpu(dy, w[::-1, ::-1].swapaxes(2, 3), back)


def _weight_gradient_on_cpu(x, dy, shape: Shape):
    if shape.usual and winograd.pays(x, dy.shape[3]):
        return winograd.weight_gradient(x, dy)

    product, few = functools.partial(_gathered_weights, shape=shape), _few(x, shape)
    if few == x.shape[0]:
        return product(x, dy).astype(x.dtype)
    zero = jax.eval_shape(product, x[:1], dy[:1])
    total, _ = jax.lax.scan(
        lambda total, group: (total + product(*group), None),
        jnp.zeros(zero.shape, zero.dtype),
        (_in_groups(x, few), _in_groups(dy, few)),
    )
    return total.astype(x.dtype)


def _few(x, shape: Shape) -> int:
    """How many images are gathered at once, so that what is gathered stays in the cache."""
    images, inputs = x.shape[0], x.shape[3]
    seen = math.prod(shape.size) // shape.stride**2 * math.prod(shape.kernel) * inputs
    return fitting(images, seen) if isinstance(images, int) else images  # an export: unknown


def _in_groups(x, few: int):
    return x.reshape(-1, few, *x.shape[1:])


def _gathered(x, shape: Shape):
    """What each window sees, side by side: `[B, h, w, kernel * i]`."""
    step, margin = shape.stride, (shape.padding, shape.padding)
    x = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))
    rows, columns = (x.shape[axis + 1] - shape.kernel[axis] + 1 for axis in (0, 1))
    offsets = np.ndindex(*shape.kernel)
    return jnp.concatenate(
        [x[:, i : i + rows : step, j : j + columns : step] for i, j in offsets], -1
    )


def _phases(dy, w, shape: Shape):
    """The input's gradient: input pixels of one residue see the same taps of the kernel."""
    step, b = shape.stride, dy.shape[0]
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
        made.append(matmul(jnp.concatenate(seen, -1), weights))
    x = jnp.stack(made, 3).reshape(b, *counts, step, step, -1).swapaxes(2, 3)
    x = x.reshape(b, counts[0] * step, counts[1] * step, -1)
    rows, columns = (slice(shape.padding, shape.padding + n) for n in shape.size)
    return x[:, rows, columns]


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
    made.meaning = derived  # in XLA's operations; costs.flops counts them
    return made


def _as_one_batch(primitive, arrays, axes, shape: Shape):
    """Of many batches of images with common weights; with weights each their own, as products.

    For those XLA would convolve in groups.
    """
    a, b = arrays
    if axes[1] is not None or primitive is weight_gradient_p:
        return jax.vmap(functools.partial(_BY_PRODUCTS[primitive], shape=shape), axes)(a, b)
    a = jnp.moveaxis(a, axes[0], 0)
    out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, shape=shape)
    return out.reshape(*a.shape[:2], *out.shape[1:])


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

# For members of a batch that have weights of their own.
_BY_PRODUCTS = {
    convolution_p: _gathered_product,
    input_gradient_p: _phases,
    weight_gradient_p: lambda x, dy, shape: _gathered_weights(x, dy, shape).astype(x.dtype),
}

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
