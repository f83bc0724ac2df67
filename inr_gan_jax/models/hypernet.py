"""The hypernetwork: styles -> parameters of the coordinate network.

`Hypernet` has one affine head per modulated layer (released code); `FlatHypernet` emits every
parameter of the paper's own generator as one flat vector. Both own the weights that all images
share and return `InrParams`.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.layers import Buffer, Dense
from inr_gan_jax.models.parameters import Block, InrParams, InrSpec, Layer


def num_styles(spec: InrSpec) -> int:
    """L: one style per layer and one more for the last block's RGB (16 for INR-GAN at 256)."""
    return sum(len(block.layers) for block in spec.blocks) + 1


class FmmHead(nnx.Module):
    """A layer with factorised multiplicative modulation: style -> A, B; owns W_s and the bias."""

    def __init__(self, layer: Layer, w_dim: int, rank: int, rngs: nnx.Rngs):
        inputs = layer.h + layer.e
        self.weight = nnx.Param(rngs.normal((layer.outputs, inputs)))
        self.bias = nnx.Param(jnp.zeros((layer.outputs,)))
        self.affine = Dense(w_dim, rank * (inputs + layer.outputs), rngs=rngs)
        self.rank = rank

    def shared(self) -> dict:
        """{"w": {"weight": [out, in], "bias": [out]}}."""
        return {"w": {"weight": self.weight[...], "bias": self.bias[...]}}

    def image(self, w_bw: jax.Array) -> dict:
        """Styles `[B, w_dim]` -> {"w": {"a": [B, out, k], "b": [B, k, in]}}."""
        outputs, inputs = self.weight.shape
        a, b = jnp.split(self.affine(w_bw), [self.rank * outputs], axis=-1)
        return {
            "w": {"a": a.reshape(-1, outputs, self.rank), "b": b.reshape(-1, self.rank, inputs)}
        }


class StyleHead(nnx.Module):
    """A layer with weight modulation: style -> one scale per input, times `gain`."""

    def __init__(self, layer: Layer, w_dim: int, rngs: nnx.Rngs):
        inputs = layer.h + layer.e
        self.weight = nnx.Param(rngs.normal((layer.outputs, inputs)))
        self.bias = nnx.Param(jnp.zeros((layer.outputs,)))
        self.affine = Dense(w_dim, inputs, rngs=rngs, bias=1.0)
        self.gain = 1.0 if layer.modulation == "style_demod" else inputs**-0.5
        if layer.noise:
            self.noise = nnx.Param(jnp.zeros((1,)))

    def shared(self) -> dict:
        """{"w": {"weight": [out, in], "bias": [out]}}, and "noise" `[1]`, its strength, if any."""
        names = ("weight", "bias", "noise") if hasattr(self, "noise") else ("weight", "bias")
        return {"w": {name: getattr(self, name)[...] for name in names}}

    def image(self, w_bw: jax.Array) -> dict:
        """Styles `[B, w_dim]` -> {"w": {"style": [B, in]}}."""
        return {"w": {"style": self.affine(w_bw) * self.gain}}


class EmbeddingHead(nnx.Module):
    """A block's coordinate embedding: owns bases and table; style -> predicted basis and phase."""

    def __init__(self, embedding: Embedding, size: tuple[int, int], w_dim: int, rngs: nnx.Rngs):
        def directions(n):
            is_normal = embedding.distribution == "normal"
            drawn = rngs.normal((n, 2)) if is_normal else rngs.uniform((n, 2), minval=-1.0)
            return drawn * embedding.scale

        if embedding.random:
            self.random = Buffer(directions(embedding.random))
        if embedding.shared:
            self.shared_basis = nnx.Param(directions(embedding.shared))
        if embedding.shifted:  # as PyTorch starts the bias of a layer with two inputs
            bound = 2**-0.5
            shifts = rngs.uniform((embedding.shared,), minval=-bound, maxval=bound)
            self.shared_shift = nnx.Param(shifts)
        if embedding.table:
            self.table = nnx.Param(rngs.normal((embedding.table, *embedding.table_size(size))))
        if embedding.predicted:
            self.affine = Dense(w_dim, 3 * embedding.predicted, rngs=rngs)
        self.embedding = embedding

    def shared(self) -> dict:
        """Bases `[n, 2]`, shifts `[n]` and table `[C, h, w]`, those that there are."""
        names = {"random": "random", "shared": "shared_basis", "shift": "shared_shift",
                 "table": "table"}  # fmt: skip
        return {key: getattr(self, name)[...] for key, name in names.items() if hasattr(self, name)}

    def image(self, w_bw: jax.Array) -> dict:
        """Styles `[B, w_dim]` -> predicted {"basis": [B, n, 2], "phase": [B, n]}, if any."""
        n = self.embedding.predicted
        if not n:
            return {}
        m = self.affine(w_bw)
        return {
            "basis": m[:, : 2 * n].reshape(-1, n, 2) * self.embedding.scale,
            "phase": m[:, 2 * n :],
        }


class SkipHead(nnx.Module):
    """The way around a residual block whose width changes: an equalised layer without bias."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.weight = nnx.Param(rngs.normal((outputs, inputs)))

    def shared(self) -> dict:
        """{"weight": [out, in]}, as it multiplies."""
        return {"weight": self.weight[...] / self.weight.shape[1] ** 0.5}


class BlockHeads(nnx.Module):
    """The heads of one block, by layer name (attributes, so that state has string keys)."""

    def __init__(self, block: Block, w_dim: int, rank: int, rngs: nnx.Rngs):
        if block.embedding:
            self.embedding = EmbeddingHead(block.embedding, block.size, w_dim, rngs)
        if block.residual and block.layers[0].h != block.layers[-1].outputs:
            self.skip = SkipHead(block.layers[0].h, block.layers[-1].outputs, rngs)
        for layer in block.modulated:
            fmm = layer.modulation.startswith("fmm")
            head = FmmHead(layer, w_dim, rank, rngs) if fmm else StyleHead(layer, w_dim, rngs)
            setattr(self, layer.name, head)


class Hypernet(nnx.Module):
    """Styles `[B, L, w_dim]` -> `InrParams`, one affine head per layer (model of the release).

    Each layer takes the next style; a block's RGB takes the one that the next block's first layer
    also takes; a block's embedding takes the style of its first layer.
    """

    def __init__(self, spec: InrSpec, *, w_dim: int, rank: int, rngs: nnx.Rngs):
        self.spec = spec
        for block in spec.blocks:
            setattr(self, block.name, BlockHeads(block, w_dim, rank, rngs))

    def __call__(self, ws_blw: jax.Array) -> InrParams:
        shared, image, style = {}, {}, 0
        for block in self.spec.blocks:
            heads = getattr(self, block.name)
            names = {layer.name: style + i for i, layer in enumerate(block.layers)}
            if block.rgb:
                names[block.rgb.name] = style + len(block.layers)
            if block.embedding:
                names["embedding"] = style
            shared[block.name] = {name: getattr(heads, name).shared() for name in names}
            image[block.name] = {
                name: getattr(heads, name).image(ws_blw[:, i]) for name, i in names.items()
            }
            if hasattr(heads, "skip"):
                shared[block.name]["skip"] = heads.skip.shared()
            style += len(block.layers)
        return InrParams(shared, image, self.spec)


class SharedWeight(nnx.Module):
    """W_s of one FMM matrix of the paper's generator, N(0, gain^2)."""

    def __init__(self, outputs: int, inputs: int, gain: float, rngs: nnx.Rngs):
        self.weight = nnx.Param(rngs.normal((outputs, inputs)) * gain)


class SharedBlock(nnx.Module):
    """The W_s of one block of the paper's generator, named `layer_part`."""

    def __init__(self, block: Block, rngs: nnx.Rngs):
        for layer in block.layers:
            for part, inputs in layer.parts.items():
                gain = math.sqrt((2 if layer.joint else 1) / inputs)
                weight = SharedWeight(layer.outputs, inputs, gain, rngs)
                setattr(self, f"{layer.name}_{part}", weight)

    def shared(self, block: Block) -> dict:
        """{layer: {part: {"weight": [out, in]}}}."""
        return {
            layer.name: {
                part: {"weight": getattr(self, f"{layer.name}_{part}").weight[...]}
                for part in layer.parts
            }
            for layer in block.layers
        }


class FlatHypernet(nnx.Module):
    """The paper's hypernetwork: `[B, 1, w_dim]` -> one flat vector `[B, P]` -> `InrParams`.

    The vector holds, block by block in the order of use: the Fourier basis, then for each FMM
    matrix A, B and the bias, then the RGB layer's weight and bias.
    """

    FOURIER_SCALE = 10.0

    def __init__(self, spec: InrSpec, *, w_dim: int, rank: int, rngs: nnx.Rngs):
        self.spec, self.rank = spec, rank
        for block in spec.blocks:
            setattr(self, block.name, SharedBlock(block, rngs))
        outputs = sum(math.prod(shape) for _, shape, _ in self.layout())
        bound = w_dim**-0.5  # plain PyTorch default initialisation of a linear layer
        self.weight = nnx.Param(rngs.uniform((outputs, w_dim), minval=-bound, maxval=bound))
        bias = rngs.uniform((outputs,), minval=-bound, maxval=bound)
        self.bias = nnx.Param(bias * bound)

    def layout(self) -> list[tuple[tuple[str, ...], tuple[int, ...], float]]:
        """(path, shape, scale) of each array in the flat vector, in its order."""
        rgbs = sum(block.rgb is not None for block in self.spec.blocks)
        rows = []
        for block in self.spec.blocks:
            n = block.embedding.predicted
            rows.append(((block.name, "embedding", "basis"), (n, 2), self.FOURIER_SCALE))
            for layer in block.layers:
                for part, inputs in layer.parts.items():
                    path = (block.name, layer.name, part)
                    bias = 0.2 * math.sqrt(2 / inputs) if layer.joint else math.sqrt(1 / inputs)
                    rows.append(((*path, "a"), (layer.outputs, self.rank), 1.0))
                    rows.append(((*path, "b"), (self.rank, inputs), 1.0))
                    rows.append(((*path, "bias"), (layer.outputs,), bias))
            if block.rgb:
                path, gain = (block.name, block.rgb.name, "w"), math.sqrt(2 / block.rgb.h / rgbs)
                rows.append(((*path, "weight"), (block.rgb.outputs, block.rgb.h), gain))
                rows.append(((*path, "bias"), (block.rgb.outputs,), 0.2 * gain))
        return rows

    def flat(self, ws_blw: jax.Array) -> jax.Array:
        """The emitted vector `[B, P]`, as it leaves the last linear layer."""
        return ws_blw[:, 0] @ self.weight[...].T + self.bias[...]

    def __call__(self, ws_blw: jax.Array) -> InrParams:
        layout, image = self.layout(), {}
        ends = itertools.accumulate(math.prod(shape) for _, shape, _ in layout)
        # One split: the gradient is one concatenation, where that of slices is a sum of many pads.
        pieces = jnp.split(self.flat(ws_blw), list(ends)[:-1], axis=-1)
        for (path, shape, scale), piece_bp in zip(layout, pieces, strict=True):
            node = image
            for key in path[:-1]:
                node = node.setdefault(key, {})
            piece = piece_bp.reshape(-1, *shape)
            node[path[-1]] = piece * scale if scale != 1 else piece
        shared = {block.name: getattr(self, block.name).shared(block) for block in self.spec.blocks}
        return InrParams(shared, image, self.spec)
