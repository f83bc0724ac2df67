"""The structure of coordinate networks, and their parameters: what a hypernetwork emits."""

import dataclasses
from dataclasses import dataclass, field

import jax

from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.modulation import effective_weight


@dataclass(frozen=True)
class Layer:
    """One modulated layer: `outputs` channels from `h` features and `e` embedding channels.

    With both inputs, `joint` layers modulate one matrix over [h; e]; others one matrix for each.
    With `noise` training adds some, one number per position, times a strength that is learned.
    """

    name: str
    modulation: str
    outputs: int
    h: int = 0
    e: int = 0
    joint: bool = True
    instance_norm: bool = False
    noise: bool = False

    @property
    def parts(self) -> dict[str, int]:
        """Separately modulated matrices: name -> number of inputs."""
        if self.joint:
            return {"w": self.h + self.e}
        return {"h": self.h, "e": self.e}


@dataclass(frozen=True)
class Block:
    """Layers at one resolution; `upsample` is the factor by which features grow before the first.

    `embedding` is None where no layer takes coordinates; `rgb` is None where nothing is emitted. A
    `residual` block adds what came in, through shared weights "skip" where the width changes, and
    divides by sqrt 2.
    """

    name: str
    size: tuple[int, int]
    upsample: int
    embedding: Embedding | None
    layers: tuple[Layer, ...]
    rgb: Layer | None
    residual: bool = False

    @property
    def modulated(self) -> tuple[Layer, ...]:
        """The layers and, where there is one, the RGB layer."""
        return (*self.layers, self.rgb) if self.rgb else self.layers


@dataclass(frozen=True)
class InrSpec:
    """The shape of a coordinate network: everything about it that is not an array.

    `upsampling`: nearest or bilinear of grids; of nodes continuous, between four, or spline.
    """

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
    def rgb_levels(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the grids below the last after which there is a sum of RGB."""
        if self.has_nodes:  # they are no grids of pixels
            return ()
        first = next(i for i, block in enumerate(self.blocks) if block.rgb)
        sizes = dict.fromkeys(block.size for block in self.blocks[first:])
        return tuple(size for size in sizes if size != self.size)

    @property
    def fusible(self) -> bool:
        """Whether kernels/ can evaluate it: block by block, on grids whose tables lie on them."""
        return self.pixel_independent and not self.continuous

    @property
    def continuous(self) -> bool:
        """Whether points never snap: it has no grid of cells."""
        return self.frame in ("corners", "nodes")

    @property
    def has_nodes(self) -> bool:
        """Whether levels below the last are known at nodes, and read between them."""
        return self.frame == "nodes"

    @property
    def tables(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the learned table of each level, if it has one."""
        found = {size: size for size in self.levels}
        for block in self.blocks:
            if block.embedding:
                found[block.size] = block.embedding.table_size(block.size)
        return tuple(found.values())

    @property
    def align(self) -> str:
        """Where in a pixel its point lies by default (see render.view.View)."""
        return {"corners": "corners", "nodes": "center"}.get(self.frame, "edge")

    @property
    def pixel_independent(self) -> bool:
        """Whether a pixel is a function of its own coordinates alone (not so for INR-GAN-bil)."""
        norms = any(layer.instance_norm for block in self.blocks for layer in block.layers)
        return self.upsampling != "bilinear" and not norms


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
