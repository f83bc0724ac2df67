"""One block of a coordinate network as one kernel: what lies between its layers stays on chip.

A step takes a strip of rows of one image through all layers of a block: the product below the
upsampling, upsampling, coordinates, activation, and RGB. Features lie as `[N, C]` here, channels in
a TPU's 128 lanes. The effective weights are made on chip, once per image and outer strip. The
backward kernel makes everything again instead of storing it. `inr.evaluate` is the plain version.
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from inr_gan_jax.kernels.tiling import Operand, Tiling, moved_bytes, tiling
from inr_gan_jax.models import inr
from inr_gan_jax.models.parameters import Block, layer_weights

VMEM = 100 * 2**20  # of 128 MiB (TPU v5e, v5p, v6e)


@dataclass(frozen=True)
class Fused:
    """A block as a kernel: everything about it that is not an array.

    `keeps`: its features are wanted (not so in the last block). `own_embedding`: each image has its
    own coordinate features. `interpret` runs the kernel step by step on any device, slowly.
    """

    block: Block
    activation: str
    dtype: str
    keeps: bool
    own_embedding: bool
    interpret: bool = False

    @property
    def tiling(self) -> Tiling:
        """How it walks over the level."""
        has_one = self.block.embedding is not None
        return tiling(self.block, shared_embedding=has_one and not self.own_embedding)

    def __call__(self, h, e, shared: dict, image: dict) -> tuple:
        """Features `[B, N, C]` (or None) and RGB `[B, c, N]` float32 (or None).

        `h` `[B, N', C']` are the features of the level below (or None), `e` the coordinate features
        `[N, E]`, of own ones `[B, E, N]` (or None). `shared` and `image` are the block's parameters
        `{layer: {part: arrays}}`, arrays of an image with a batch axis.
        """
        return _fused(self, h, e, _rows(shared), _rows(image))

    def make(self, shared: dict, image: dict) -> dict:
        """Effective weights of one image: {layer: {"h", "e", "bias"}}."""
        image = {
            name: {part: _restored(arrays) for part, arrays in parts.items()}
            for name, parts in image.items()
        }
        return {
            layer.name: layer_weights(layer, shared.get(layer.name, {}), image[layer.name])
            for layer in self.block.modulated
        }

    def apply(self, weights: dict, h, e) -> tuple:
        """One strip: features below `[N', C']` and embedding -> features `[N, C]`, RGB `[c, N]`."""
        factor, width = self.block.upsample, self.block.size[1]
        activation, dtype = inr.ACTIVATIONS[self.activation], jnp.dtype(self.dtype)
        e = e.T if self.own_embedding and e is not None else e
        for number, layer in enumerate(self.block.layers):
            w, terms = weights[layer.name], []
            if layer.h:
                product = _product(h, w["h"], dtype)
                grows = number == 0 and factor > 1
                terms.append(_upsampled(product, width // factor, factor) if grows else product)
            if layer.e:
                terms.append(_product(e, w["e"], dtype))
            h = activation(sum(terms[1:], terms[0]) + w["bias"]).astype(dtype)
        rgb = None
        if self.block.rgb:
            w = weights[self.block.rgb.name]
            rgb = _product(w["h"], h, dtype) + w["bias"].T
        return (h if self.keeps else None), rgb


def _rows(parameters: dict) -> dict:
    """Vectors as rows, and A `[out, k]` as `[k, out]`: a TPU pads the last axis to 128."""

    def row(path, x):
        name = path[-1].key
        if name == "a":
            return x.swapaxes(-1, -2)
        return x[..., None, :] if name in ("bias", "style") else x

    return jax.tree_util.tree_map_with_path(row, parameters)


def _restored(arrays: dict) -> dict:
    return {name: x.T if name == "a" else x for name, x in arrays.items()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x, y, dtype):
    """`x y^T` in `dtype` with float32 sums: `[n, in] x [m, in] -> [n, m]`; gradients likewise."""
    return _dot(x, y, ((1,), (1,)), dtype)


def _dot(x, y, axes, dtype):
    return jax.lax.dot_general(
        x.astype(dtype), y.astype(dtype), (axes, ((), ())), preferred_element_type=jnp.float32
    )


def _product_bwd(dtype, inputs, g):
    x, y = inputs
    dx, dy = _dot(g, y, ((1,), (0,)), dtype), _dot(g, x, ((0,), (0,)), dtype)
    return dx.astype(x.dtype), dy.astype(y.dtype)


_product.defvjp(lambda x, y, dtype: (_product(x, y, dtype), (x, y)), _product_bwd)


def _upsampled(x, width: int, factor: int):
    """Nearest upsampling of rows of `width`: `[n, C] -> [n f^2, C]`."""
    n, c = x.shape
    x = jnp.broadcast_to(x[:, None], (n, factor, c)).reshape(-1, 1, factor * width, c)
    return jnp.broadcast_to(x, (len(x), factor, factor * width, c)).reshape(-1, c)


# The kernels. Grid: (outer strip, image, inner strip).


def _operands(fused: Fused, h, e, shared, image) -> tuple:
    """The kernels' inputs as Operands, in the same structure."""
    walk, block = fused.tiling, fused.block
    step = walk.rows * block.size[1]
    below = step // block.upsample**2
    return (
        None if h is None else Operand(h, (1, below, h.shape[-1]), walk.strip),
        None if e is None else _embedding(fused, e),
        jax.tree.map(lambda x: Operand(x, x.shape, walk.whole), shared),
        jax.tree.map(lambda x: Operand(x, (1, *x.shape[1:]), walk.image), image),
    )


def _embedding(fused: Fused, e) -> Operand:
    walk = fused.tiling
    step = walk.rows * fused.block.size[1]
    if fused.own_embedding:
        return Operand(e, (1, e.shape[1], step), walk.columns)
    return Operand(e, (walk.inner * step, e.shape[1]), walk.outer_strip)


def _results(fused: Fused, images: int) -> tuple:
    """Features and RGB as Operands; None where there are none."""
    walk, block = fused.tiling, fused.block
    n, step, channels = math.prod(block.size), walk.rows * block.size[1], block.layers[-1].outputs
    features = rgb = None
    if fused.keeps:
        array = jax.ShapeDtypeStruct((images, n, channels), fused.dtype)
        features = Operand(array, (1, step, channels), walk.strip)
    if block.rgb:
        array = jax.ShapeDtypeStruct((images, block.rgb.outputs, n), jnp.float32)
        rgb = Operand(array, (1, block.rgb.outputs, step), walk.columns)
    return features, rgb


def _scratch(fused: Fused, dtype) -> dict:
    """Room for one image's effective weights."""

    def room(layer):
        sizes = {"h": layer.h, "e": layer.e}
        found = {k: pltpu.VMEM((layer.outputs, n), dtype) for k, n in sizes.items() if n}
        return found | {"bias": pltpu.VMEM((1, layer.outputs), jnp.float32)}

    return {layer.name: room(layer) for layer in fused.block.modulated}


def _read(refs):
    return jax.tree.map(lambda ref: ref[...], refs)


def _inputs(fused: Fused, h, e) -> tuple:
    """What a step sees of the features below, and of the embedding: its inner strip."""
    walk = fused.tiling
    if e is not None:
        if fused.own_embedding:
            e = e[0]
        else:
            step = walk.rows * fused.block.size[1]
            e = e[pl.ds(pl.program_id(2) * step, step), :]
    return (None if h is None else h[0]), e


def _make_weights(fused: Fused, shared, image, weights) -> None:
    """At the first inner strip of an image."""

    @pl.when(pl.program_id(2) == 0)
    def _():
        made = fused.make(_read(shared), jax.tree.map(lambda ref: ref[0], image))
        jax.tree.map(lambda ref, x: ref.__setitem__(..., x.astype(ref.dtype)), weights, made)


def _forward_kernel(fused: Fused, h, e, shared, image, features, rgb, weights):
    _make_weights(fused, shared, image, weights)
    made = fused.apply(_read(weights), *_inputs(fused, h, e))
    for ref, x in zip((features, rgb), made, strict=True):
        if ref is not None:
            ref[0] = x


def _backward_kernel(
    fused: Fused, h, e, shared, image, g_features, g_rgb, to_h, to_e, to_shared, to_image,
    weights, to_weights,
):  # fmt: skip
    """Gradients `to_...` from those of the results, `g_...`; the rest is made again."""
    t, b, i = (pl.program_id(axis) for axis in range(3))
    _make_weights(fused, shared, image, weights)

    @pl.when(i == 0)
    def _():
        jax.tree.map(lambda ref: ref.__setitem__(..., jnp.zeros_like(ref)), to_weights)

    _, pull = jax.vjp(fused.apply, _read(weights), *_inputs(fused, h, e))
    found, found_h, found_e = pull(tuple(g if g is None else g[0] for g in (g_features, g_rgb)))
    jax.tree.map(lambda ref, x: ref.__setitem__(..., ref[...] + x), to_weights, found)
    if h is not None:
        to_h[0] = found_h
    if e is not None and fused.own_embedding:
        to_e[0] = found_e.astype(to_e.dtype)
    elif e is not None:
        rows = pl.ds(i * len(found_e), len(found_e))
        _add(to_e, (rows, slice(None)), found_e, b == 0)

    @pl.when(i == fused.tiling.inner - 1)
    def _():
        _, pull = jax.vjp(fused.make, _read(shared), jax.tree.map(lambda ref: ref[0], image))
        found_shared, found_image = pull(_read(to_weights))
        first = jnp.logical_and(t == 0, b == 0)
        jax.tree.map(lambda ref, x: _add(ref, ..., x, first), to_shared, found_shared)
        jax.tree.map(lambda ref, x: ref.__setitem__((0, 0), x), to_image, found_image)


def _add(ref, place, x, is_first) -> None:
    """Sums up over steps."""
    before = jnp.where(is_first, 0.0, ref[place])  # what is there at first is nothing
    ref[place] = before + x.astype(ref.dtype)


def _call(fused: Fused, kernel, images: int, inputs, results, scratch, passes: int):
    """A kernel over (outer strip, image, inner strip) that goes `passes` times through a block."""
    walk, layers = fused.tiling, fused.block.modulated
    operands = jax.tree.leaves((inputs, results), is_leaf=_is_operand)
    grid = (walk.outer, images, walk.inner)
    products = sum(layer.outputs * (layer.h + layer.e) for layer in layers)
    return pl.pallas_call(
        functools.partial(kernel, fused),
        grid=grid,
        in_specs=_map(lambda one: one.spec, inputs),
        out_specs=_map(lambda one: one.spec, results),
        out_shape=_map(lambda one: one.array, results),
        scratch_shapes=scratch,
        interpret=fused.interpret,
        name=f"inr_{fused.block.name}",
        cost_estimate=pl.CostEstimate(
            flops=2 * passes * images * math.prod(fused.block.size) * products,
            transcendentals=0,
            bytes_accessed=moved_bytes(operands, grid),
        ),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("arbitrary",) * 3, vmem_limit_bytes=VMEM
        ),
    )


def _is_operand(x) -> bool:
    return isinstance(x, Operand)


def _map(function, operands):
    return jax.tree.map(function, operands, is_leaf=_is_operand)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fused(fused: Fused, h, e, shared, image):
    inputs = (h, _typed(fused, e), shared, image)
    results = _results(fused, _count(image))
    scratch = (_scratch(fused, fused.dtype),)
    operands = _operands(fused, *inputs)
    return _call(fused, _forward_kernel, _count(image), operands, results, scratch, 1)(*inputs)


def _fused_fwd(fused: Fused, h, e, shared, image):
    return _fused(fused, h, e, shared, image), (h, e, shared, image)


def _fused_bwd(fused: Fused, inputs, cotangents):
    h, e, shared, image = inputs
    inputs = (h, _typed(fused, e), shared, image)
    walk, operands = fused.tiling, _operands(fused, *inputs)
    to_h, to_e, to_shared, _ = operands

    def wide(one: Operand) -> Operand:
        return Operand(_float32(one.array.shape), one.block, one.index)

    def of_visit(x) -> Operand:  # summed over an image's outer strips below
        return Operand(_float32((walk.outer, *x.shape)), (1, 1, *x.shape[1:]), walk.visit)

    results = (to_h, _map(wide, to_e), _map(wide, to_shared), jax.tree.map(of_visit, image))
    scratch = (_scratch(fused, jnp.float32), _scratch(fused, jnp.float32))
    operands += _results(fused, _count(image))
    call = _call(fused, _backward_kernel, _count(image), operands, results, scratch, 3)
    to_h, to_e, to_shared, to_image = call(*inputs, *cotangents)
    return to_h, to_e, to_shared, jax.tree.map(lambda x: jnp.sum(x, 0), to_image)


_fused.defvjp(_fused_fwd, _fused_bwd)


def _typed(fused: Fused, e):
    return None if e is None else e.astype(fused.dtype)


def _float32(shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _count(image: dict) -> int:
    return len(jax.tree.leaves(image)[0])
