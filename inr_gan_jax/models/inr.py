"""The coordinate network: an image as a function, and the two ways to evaluate it.

`InrParams` are its parameters; `grid` evaluates it on its training grid, `points` anywhere. Both
are pure functions of (parameters, coordinates): no module, no state. The batch is a vmap over the
single-image functions `grid_one` and `points_one`, which may also be used directly.

A network is a stack of blocks at growing resolutions (multi-scale INR, paper section 3.2). A point
takes, at each block, the features of the grid cell that it lies in: that is nearest upsampling.
Upsampling commutes with a per-position linear layer, so an upsampled layer multiplies first, at the
low resolution: W [up(h); e] = up(W_h h) + W_e e, a quarter of the work for the same result.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inr_gan_jax.models import nodes, places
from inr_gan_jax.models.fourier import embed
from inr_gan_jax.models.layers import lrelu
from inr_gan_jax.models.parameters import Block, InrParams, InrSpec, weights
from inr_gan_jax.models.places import Place
from inr_gan_jax.models.products import at_least_float32, wide_product

# Bytes of one image's float32 features: above WHOLE they pass in strips (docs/benchmarks.md).
WHOLE, STRIP = 2**23, 2**21
FEW = 2**25  # of the images that `grid_by_few` evaluates at once

ACTIVATIONS = {"lrelu": lrelu, "relu": jax.nn.relu}


class BlockOutput(NamedTuple):
    """After a block: features `[C, N]`, the same before the first layer's activation, RGB `[c, N]`.

    `deviations` are the standard deviations `[C]` by which instance norm divided, by layer.
    """

    features: jax.Array
    first: jax.Array
    rgb: jax.Array | None
    deviations: dict[str, jax.Array]


def _product(w_oi: jax.Array, x_in: jax.Array, dtype) -> jax.Array:
    """`W x` in `dtype` with float32 sums: `[out, in] x [in, N] -> [out, N]` float32."""
    return wide_product(w_oi.astype(dtype), x_in.astype(dtype))


def _deviations(h_cn: jax.Array) -> jax.Array:
    """Standard deviations over positions, unbiased: `[C, N] -> [C]`."""

    def folded(h):  # the sum of 16 parts first: XLA's sums on CPUs take six times as long
        n = h.shape[-1]
        squares = jnp.square(h - jnp.mean(h, -1, keepdims=True))
        for _ in range(4):
            if (m := squares.shape[-1]) % 2 == 0:
                squares = squares[:, : m // 2] + squares[:, m // 2 :]
        return jnp.sqrt(jnp.sum(squares, -1) / (n - 1))

    plain = functools.partial(jnp.std, axis=-1, ddof=1)
    return jax.lax.platform_dependent(h_cn, cpu=folded, default=plain)


def evaluate(
    params: InrParams,
    place_of: Callable[[Block], Place],
    dtype=jnp.float32,
    deviations: dict[str, dict[str, jax.Array]] | None = None,
    *,
    made: dict | None = None,
    after: BlockOutput | None = None,
    noise: Callable[[int], jax.Array] | None = None,
) -> list[BlockOutput]:
    """The coordinate network of one image, block by block, each at the place that it is given.

    `deviations[block][layer]` replace instance norm's own statistics, which mean nothing where
    only a part of the training grid is evaluated. `made` are its `weights`, if they are known;
    `after` is what the level below the first block gave, if there is one. `noise` (number of a
    layer -> `[N]`) is drawn in training.
    """
    activation = ACTIVATIONS[params.spec.activation]
    made = weights(params) if made is None else made
    h, rgb, outputs = (after.features, after.rgb, []) if after else (None, None, [])
    drawn = 0  # layers whose noise was added
    for block in params.spec.blocks:
        place, e, first, norms = place_of(block), None, None, {}
        if block.embedding:
            s = params.shared.get(block.name, {}).get("embedding", {})
            i = params.image[block.name].get("embedding", {})
            table = place.table(s["table"]) if "table" in s else None
            at = (place.x, place.y)
            e = embed(block.embedding, s, i, *at, block.size, table, place.sides, place.footprint)
        entered = h
        for number, layer in enumerate(block.layers):
            w, terms = made[block.name][layer.name], []
            if "h" in w:
                if layer.instance_norm:  # dividing h by its deviation is scaling W's columns
                    if deviations is None:
                        norms[layer.name] = _deviations(h.astype(at_least_float32(dtype)))
                    else:
                        norms[layer.name] = deviations[block.name][layer.name]
                    w = w | {"h": w["h"] / (norms[layer.name] + 1e-8)}
                product = _product(w["h"], h, dtype)
                grows = number == 0 and block.upsample > 1
                terms.append(place.upsample(product) if grows else product)
            if "e" in w:
                terms.append(_product(w["e"], e, dtype))
            before = sum(terms[1:], terms[0]) + w["bias"][:, None]
            if layer.noise and noise is not None:
                strength = params.shared[block.name][layer.name]["w"]["noise"]
                before = before + strength * noise(drawn)
                drawn += 1
            first = before if number == 0 else first
            h = activation(before).astype(dtype)
        if block.residual:
            skip = params.shared[block.name].get("skip")
            around = _product(skip["weight"], entered, dtype) if skip else entered
            h = ((h + around) * 0.5**0.5).astype(dtype)
        if rgb is not None and block.upsample > 1:
            rgb = place.upsample(rgb)
        if block.rgb:
            w = made[block.name][block.rgb.name]
            emitted = _product(w["h"], h, dtype) + w["bias"][:, None]
            rgb = emitted if rgb is None else rgb + emitted
        outputs.append(BlockOutput(h, first, rgb, norms))
    return outputs


def final_rgb(params: InrParams, outputs: list[BlockOutput]) -> jax.Array:
    """The image's channels `[C, N]` after the last block."""
    rgb = outputs[-1].rgb
    return jnp.tanh(rgb) if params.spec.output == "tanh" else rgb


def grid_blocks(params: InrParams, dtype=jnp.float32) -> list[BlockOutput]:
    """Every block of one image on the training grid; features `[C, h * w]` row by row."""
    return evaluate(params, on_grid(params.spec), dtype)


def on_grid(spec: InrSpec, strip: tuple = (0, 1)) -> Callable[[Block], Place]:
    """Where each block is evaluated on the training grid, or on a `strip` of its rows."""
    if spec.has_nodes:
        return nodes.on_grid(spec)

    def place_of(block):
        if spec.continuous:
            return places.between_corners(block.size, strip)
        return places.on_grid(block.size, block.upsample, spec.frame, spec.upsampling, strip)

    return place_of


def drawn_one(
    params: InrParams, dtype=jnp.float32, noise_key: jax.Array | None = None, *, training: bool
) -> jax.Array:
    """One image `[H, W, C]` of a `continuous` network (CIPS), with noise, or as training makes it.

    In training, entries of a table of the grid's own size are taken as they lie: that is to read it
    with its first and last centres, not its outer edges, at the frame's. With `noise_key` noise is
    added, one draw for each layer that has it.
    """
    spec = params.spec

    def place_of(block):
        side = block.embedding.table_side if block.embedding else 0
        if not training or side not in (0, max(block.size)):
            return places.between_corners(block.size)
        return places.on_grid(block.size, 1, spec.frame, spec.upsampling)

    outputs = evaluate(params, place_of, dtype, noise=noise_of(noise_key, math.prod(spec.size)))
    return final_rgb(params, outputs).reshape(-1, *spec.size).transpose(1, 2, 0)


def noise_of(key: jax.Array | None, count: int) -> Callable[[int], jax.Array] | None:
    """The normal noise `[count]` of each layer, by its number; None without a key."""
    if key is None:
        return None
    return lambda number: jax.random.normal(jax.random.fold_in(key, number), (count,))


def grid_one(params: InrParams, dtype=jnp.float32) -> jax.Array:
    """One image on its training grid: `[H, W, C]` float32, about [-1, 1], unclipped.

    `params` has no batch axis; `dtype` (float32 or bfloat16) is that of features and products,
    while sums, coordinates and RGB stay float32. Blocks whose features are large are evaluated in
    strips of rows, one after the other, so that what lies between layers stays in a near memory.
    """
    spec = params.spec
    whole, strips = division(spec)

    def at_once(params):
        return final_rgb(params, grid_blocks(params, dtype))

    if strips == 1:
        image_cn = at_once(params)
    else:  # a GPU wants all the work it can get at once
        cut = functools.partial(_in_strips, whole=whole, strips=strips, dtype=dtype)
        image_cn = jax.lax.platform_dependent(params, cuda=at_once, rocm=at_once, default=cut)
    return image_cn.reshape(-1, *spec.size).transpose(1, 2, 0)


def _in_strips(params: InrParams, whole: int, strips: int, dtype) -> jax.Array:
    """RGB `[C, H * W]`: the first `whole` blocks as whole levels, the others strip by strip."""
    spec, made, below = params.spec, weights(params), None
    first, rest = (
        dataclasses.replace(params, spec=dataclasses.replace(spec, blocks=blocks))
        for blocks in (spec.blocks[:whole], spec.blocks[whole:])
    )
    if whole:
        last = evaluate(first, on_grid(spec), dtype, made=made)[-1]
        below = BlockOutput(last.features, None, last.rgb, {})

    def strip(number):
        def cut(x):
            n = x.shape[-1] // strips
            return jax.lax.dynamic_slice_in_dim(x, number * n, n, -1)

        place_of, after = on_grid(spec, (number, strips)), jax.tree.map(cut, below)
        return final_rgb(rest, evaluate(rest, place_of, dtype, made=made, after=after))

    image_tcn = jax.lax.map(strip, jnp.arange(strips))
    return image_tcn.swapaxes(0, 1).reshape(image_tcn.shape[1], -1)


def division(spec: InrSpec) -> tuple[int, int]:
    """(blocks that are evaluated as whole levels, strips in which all others are)."""
    blocks, sizes = spec.blocks, _sizes(spec)
    whole = next((i for i, size in enumerate(sizes) if size > WHOLE), len(blocks))
    if whole == len(blocks) or not spec.pixel_independent or spec.has_nodes:
        return len(blocks), 1
    rows = math.gcd(*(block.size[0] // block.upsample for block in blocks[whole:]))
    legal = [n for n in range(1, rows + 1) if rows % n == 0]  # all levels are cut alike
    strips = next((n for n in legal if n >= max(sizes) / STRIP), rows)
    return (whole, strips) if strips > 1 else (len(blocks), 1)


def _sizes(spec: InrSpec) -> list[int]:
    """Bytes of each block's features of one image, float32."""
    return [4 * math.prod(b.size) * max(layer.outputs for layer in b.layers) for b in spec.blocks]


def points_one(
    params: InrParams,
    points: jax.Array,
    dtype=jnp.float32,
    *,
    superres_from: int | None = None,
    density: float = math.inf,
    reflect: bool = False,
    footprint: jax.Array | None = None,
    reach: float = 1.0,
) -> jax.Array:
    """One image at points `[N, 2]`, (x, y) in the frame (-1, -1, 1, 1), y upwards: `[N, C]`.

    Nothing but the given points is computed. They snap to the cells of the training grids; from
    level `superres_from` on to grids `density` times finer, or not at all (inf): there the function
    is continuous and has derivatives. Beyond the frame it is extrapolated, learned tables are
    clamped or reflected. Of a network with nodes `footprint` is the (width, height) of what a point
    stands for (None: nothing is weakened), and `reach` how far from the middle its nodes go. Raises
    ValueError for networks that are not pixel-independent.
    """
    spec = params.spec
    if not spec.pixel_independent:
        raise ValueError(
            "this network (bilinear upsampling, instance norm) is not pixel-independent: "
            "its pixels exist only as a whole grid; use grid"
        )
    if spec.has_nodes:
        place = functools.partial(nodes.among, points, footprint=footprint, reflect=reflect)
        outputs = evaluate(params, nodes.place_of(spec, place, reach, reflect), dtype)
        return final_rgb(params, outputs).T
    finer = spec.levels[len(spec.levels) if superres_from is None else superres_from :]

    def place_of(block):
        if spec.continuous:
            return places.anywhere(points, reflect)
        if block.size in finer:
            return places.between_cells(points, block.size, spec.frame, density, reflect)
        return places.in_cells(points, spec.size, block.size, spec.frame)

    return final_rgb(params, evaluate(params, place_of, dtype)).T


def grid(params: InrParams, dtype=jnp.float32) -> jax.Array:
    """Images on their training grid: `[B, H, W, C]` (see grid_one)."""
    return jax.vmap(lambda one: grid_one(one, dtype), in_axes=(params.axes,))(params)


def grid_by_few(params: InrParams, dtype=jnp.float32) -> jax.Array:
    """`grid`, on a CPU a few images at a time, whose features stay in its cache.

    Half the time of an image of 64 at once, but gradients take longer: for making images only.
    """
    few = FEW // min(WHOLE, max(_sizes(params.spec)))
    if len(params) <= few:
        return grid(params, dtype)

    def grouped(params):
        def one(image):
            return grid_one(dataclasses.replace(params, image=image), dtype)

        return jax.lax.map(one, params.image, batch_size=few)

    plain = functools.partial(grid, dtype=dtype)
    return jax.lax.platform_dependent(params, cpu=grouped, default=plain)


def drawn(params: InrParams, dtype, noise_keys: jax.Array | None, *, training: bool) -> jax.Array:
    """Images `[B, H, W, C]` (see drawn_one); `noise_keys` `[B]`, or None for no noise."""
    one = functools.partial(drawn_one, dtype=dtype, training=training)
    axes = (params.axes, None if noise_keys is None else 0)
    return jax.vmap(lambda p, key: one(p, noise_key=key), in_axes=axes)(params, noise_keys)


def points(params: InrParams, points: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Images at points `[N, 2]` (common) or `[B, N, 2]` (of each image): `[B, N, C]`."""
    axes = (params.axes, 0 if points.ndim == 3 else None)
    return jax.vmap(lambda one, p: points_one(one, p, dtype), in_axes=axes)(params, points)
