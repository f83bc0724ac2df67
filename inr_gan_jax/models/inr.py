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
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inr_gan_jax.models import places
from inr_gan_jax.models.fourier import Embedding, embed
from inr_gan_jax.models.layers import at_least_float32, lrelu
from inr_gan_jax.models.modulation import effective_weight
from inr_gan_jax.models.places import Place

# Bytes of one image's float32 features: above WHOLE they pass in strips (docs/benchmarks.md).
WHOLE, STRIP = 2**23, 2**21

ACTIVATIONS = {"lrelu": lrelu, "relu": jax.nn.relu}


@dataclass(frozen=True)
class Layer:
    """One modulated layer: `outputs` channels from `h` features and `e` embedding channels.

    With both inputs, `joint` layers modulate one matrix over [h; e]; others one matrix for each.
    """

    name: str
    modulation: str
    outputs: int
    h: int = 0
    e: int = 0
    joint: bool = True
    instance_norm: bool = False

    @property
    def parts(self) -> dict[str, int]:
        """Separately modulated matrices: name -> number of inputs."""
        if self.joint:
            return {"w": self.h + self.e}
        return {"h": self.h, "e": self.e}


@dataclass(frozen=True)
class Block:
    """Layers at one resolution; `upsample` is the factor by which features grow before the first.

    `embedding` is None where no layer takes coordinates; `rgb` is None where nothing is emitted.
    """

    name: str
    size: tuple[int, int]
    upsample: int
    embedding: Embedding | None
    layers: tuple[Layer, ...]
    rgb: Layer | None

    @property
    def modulated(self) -> tuple[Layer, ...]:
        """The layers and, where there is one, the RGB layer."""
        return (*self.layers, self.rgb) if self.rgb else self.layers


@dataclass(frozen=True)
class InrSpec:
    """The shape of a coordinate network: everything about it that is not an array."""

    blocks: tuple[Block, ...]
    frame: str = "symmetric"
    activation: str = "lrelu"
    upsampling: str = "nearest"
    output: str = "linear"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the training grid."""
        return self.blocks[-1].size

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """The distinct grids, coarse to fine: (height, width) of each level."""
        return tuple(dict.fromkeys(block.size for block in self.blocks))

    @property
    def pixel_independent(self) -> bool:
        """Whether a pixel is a function of its own coordinates alone (not so for INR-GAN-bil)."""
        norms = any(layer.instance_norm for block in self.blocks for layer in block.layers)
        return self.upsampling == "nearest" and not norms


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class InrParams:
    """Parameters of coordinate networks, one per image: what a hypernetwork emits.

    `shared[block][layer][part]` (shared weights, biases; `shared[block]["embedding"]`: bases and
    tables) has no batch axis. `image[block][layer][part]` (low-rank factors, styles, per-image
    weights, biases, bases) has one, `[B, ...]`, or none for a single image.
    """

    shared: dict
    image: dict
    spec: InrSpec = field(metadata={"static": True})

    @property
    def axes(self) -> "InrParams":
        """`in_axes` for vmapping over images: shared leaves unbatched, image leaves at axis 0."""
        return dataclasses.replace(self, shared=None, image=0)

    def of(self, block: Block, layer: Layer) -> tuple[dict, dict]:
        """(shared, image) arrays of one layer, `{part: {name: array}}` each."""
        shared = self.shared.get(block.name, {}).get(layer.name, {})
        return shared, self.image[block.name][layer.name]

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.image)[0])

    def __getitem__(self, index) -> "InrParams":
        """One image (an integer: no batch axis left) or several (a slice or an array)."""
        return dataclasses.replace(self, image=jax.tree.map(lambda a: a[index], self.image))


class BlockOutput(NamedTuple):
    """After a block: features `[C, N]`, the same before the first layer's activation, RGB `[c, N]`.

    `deviations` are the standard deviations `[C]` by which instance norm divided, by layer.
    """

    features: jax.Array
    first: jax.Array
    rgb: jax.Array | None
    deviations: dict[str, jax.Array]


def layer_weights(layer: Layer, shared: dict, image: dict) -> dict[str, jax.Array]:
    """Effective weights of one layer of one image: `h` [out, h], `e` [out, e], `bias` [out].

    These are the network's real weights, after modulation and demodulation, float32.
    """
    parts, bias = {}, 0.0
    for part in layer.parts:
        s, i = shared.get(part, {}), image[part]
        parts[part] = effective_weight(layer.modulation, s, i)
        bias = bias + (i["bias"] if "bias" in i else s["bias"])
    if layer.joint:
        w = parts["w"]
        parts = {"h": w[:, : layer.h], "e": w[:, layer.h :]}
    return {k: w for k, w in parts.items() if w.shape[-1]} | {"bias": bias}


def weights(params: InrParams) -> dict:
    """Effective weights of one image: {block: {layer: {"h", "e", "bias"}}} (see layer_weights)."""
    return {
        block.name: {
            layer.name: layer_weights(layer, *params.of(block, layer)) for layer in block.modulated
        }
        for block in params.spec.blocks
    }


def _product(w_oi: jax.Array, x_in: jax.Array, dtype) -> jax.Array:
    """`W x` in `dtype` with float32 sums: `[out, in] x [in, N] -> [out, N]` float32."""
    sums = at_least_float32(dtype)
    return jnp.matmul(w_oi.astype(dtype), x_in.astype(dtype), preferred_element_type=sums)


def evaluate(
    params: InrParams,
    place_of: Callable[[Block], Place],
    dtype=jnp.float32,
    deviations: dict[str, dict[str, jax.Array]] | None = None,
    *,
    made: dict | None = None,
    after: BlockOutput | None = None,
) -> list[BlockOutput]:
    """The coordinate network of one image, block by block, each at the place that it is given.

    `deviations[block][layer]` replace instance norm's own statistics, which mean nothing where
    only a part of the training grid is evaluated. `made` are its `weights`, if they are known;
    `after` is what the level below the first block gave, if there is one.
    """
    activation = ACTIVATIONS[params.spec.activation]
    made = weights(params) if made is None else made
    h, rgb, outputs = (after.features, after.rgb, []) if after else (None, None, [])
    for block in params.spec.blocks:
        place, e, first, norms = place_of(block), None, None, {}
        if block.embedding:
            s = params.shared.get(block.name, {}).get("embedding", {})
            i = params.image[block.name].get("embedding", {})
            table = place.table(s["table"]) if "table" in s else None
            e = embed(block.embedding, s, i, place.x, place.y, block.size, table)
        for number, layer in enumerate(block.layers):
            w, terms = made[block.name][layer.name], []
            if "h" in w:
                if layer.instance_norm:  # dividing h by its deviation is scaling W's columns
                    if deviations is None:
                        wide = h.astype(at_least_float32(dtype))
                        norms[layer.name] = jnp.std(wide, axis=-1, ddof=1)
                    else:
                        norms[layer.name] = deviations[block.name][layer.name]
                    w = w | {"h": w["h"] / (norms[layer.name] + 1e-8)}
                product = _product(w["h"], h, dtype)
                grows = number == 0 and block.upsample > 1
                terms.append(place.upsample(product) if grows else product)
            if "e" in w:
                terms.append(_product(w["e"], e, dtype))
            before = sum(terms[1:], terms[0]) + w["bias"][:, None]
            first = before if number == 0 else first
            h = activation(before).astype(dtype)
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
    return evaluate(params, _on_grid(params.spec), dtype)


def _on_grid(spec: InrSpec, strip: tuple = (0, 1)) -> Callable[[Block], Place]:
    def place_of(block):
        return places.on_grid(block.size, block.upsample, spec.frame, spec.upsampling, strip)

    return place_of


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
        last = evaluate(first, _on_grid(spec), dtype, made=made)[-1]
        below = BlockOutput(last.features, None, last.rgb, {})

    def strip(number):
        def cut(x):
            n = x.shape[-1] // strips
            return jax.lax.dynamic_slice_in_dim(x, number * n, n, -1)

        place_of, after = _on_grid(spec, (number, strips)), jax.tree.map(cut, below)
        return final_rgb(rest, evaluate(rest, place_of, dtype, made=made, after=after))

    image_tcn = jax.lax.map(strip, jnp.arange(strips))
    return image_tcn.swapaxes(0, 1).reshape(image_tcn.shape[1], -1)


def division(spec: InrSpec) -> tuple[int, int]:
    """(blocks that are evaluated as whole levels, strips in which all others are)."""

    blocks = spec.blocks
    sizes = [4 * math.prod(b.size) * max(layer.outputs for layer in b.layers) for b in blocks]
    whole = next((i for i, size in enumerate(sizes) if size > WHOLE), len(blocks))
    if whole == len(blocks) or not spec.pixel_independent:
        return len(blocks), 1
    rows = math.gcd(*(block.size[0] // block.upsample for block in blocks[whole:]))
    legal = [n for n in range(1, rows + 1) if rows % n == 0]  # all levels are cut alike
    strips = next((n for n in legal if n >= max(sizes) / STRIP), rows)
    return (whole, strips) if strips > 1 else (len(blocks), 1)


def points_one(
    params: InrParams,
    points: jax.Array,
    dtype=jnp.float32,
    *,
    superres_from: int | None = None,
    density: float = math.inf,
    reflect: bool = False,
) -> jax.Array:
    """One image at points `[N, 2]`, (x, y) in the frame (-1, -1, 1, 1), y upwards: `[N, C]`.

    Nothing but the given points is computed. They snap to the cells of the training grids; from
    level `superres_from` on to grids `density` times finer, or not at all (inf): there the function
    is continuous and has derivatives. Beyond the frame it is extrapolated, learned tables are
    clamped or reflected. Raises ValueError for networks that are not pixel-independent.
    """
    spec = params.spec
    if not spec.pixel_independent:
        raise ValueError(
            "this network (bilinear upsampling, instance norm) is not pixel-independent: "
            "its pixels exist only as a whole grid; use grid"
        )
    finer = spec.levels[len(spec.levels) if superres_from is None else superres_from :]

    def place_of(block):
        if block.size in finer:
            return places.between_cells(points, block.size, spec.frame, density, reflect)
        return places.in_cells(points, spec.size, block.size, spec.frame)

    return final_rgb(params, evaluate(params, place_of, dtype)).T


def grid(params: InrParams, dtype=jnp.float32) -> jax.Array:
    """Images on their training grid: `[B, H, W, C]` (see grid_one)."""
    return jax.vmap(lambda one: grid_one(one, dtype), in_axes=(params.axes,))(params)


def points(params: InrParams, points: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Images at points `[N, 2]` (common) or `[B, N, 2]` (of each image): `[B, N, C]`."""
    axes = (params.axes, 0 if points.ndim == 3 else None)
    return jax.vmap(lambda one, p: points_one(one, p, dtype), in_axes=axes)(params, points)
