"""The published systems: a configuration of the generator for each, and its coordinate network.

One builder per system: `inr_gan`, `inr_gan_bil`, `cips` (Skorokhodov et al. 2021, released code),
`cips_skip` and `cips_res` (CIPS as its own authors released it: Anokhin et al. 2021), `paper` (the
paper's own FFHQ 1024 generator) and `stylegan2` (the baseline, no coordinate function).
"""

import itertools
from dataclasses import dataclass, replace

from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.modulation import KINDS
from inr_gan_jax.models.nodes import READS
from inr_gan_jax.models.parameters import Block, InrSpec, Layer
from inr_gan_jax.models.places import UPSAMPLING
from inr_gan_jax.models.sizes import check_size
from inr_gan_jax.models.sizes import nominal as nominal_of

COARSE = Embedding(log=64, diagonal=True, cosine=True, table=128)
FINE = Embedding(log=32, cosine=True, random=32, table=64)


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that decides a generator's shape. Sizes are in pixels, `num_classes` 0 is none.

    Blocks run at `input_resolution` (0: the final one) and above; those that run at `fine_from` or
    above use `embedding_fine` and have `extra_layers` more layers. Resolutions count along the
    side that is a power of two. `paper_blocks` (family `paper`): resolution, width, features,
    layers, RGB or not. `channels_at`, `extra_at`: rows of (resolution, channels) or (resolution,
    extra layers) that are other than `channel_base`, `channel_max` and `extra_layers` say.
    `nodes`: how levels are read where upsampling is continuous, bilinear or spline (models.nodes).
    `aspect` ("4:3", width first): one side is the power of two of `width` and `height`, the other
    follows (see models.sizes); "auto": that of the pictures (see data.patches), "": as `width` and
    `height` say.
    """

    family: str = "inr_gan"
    height: int = 256
    width: int = 256
    channels: int = 3
    num_classes: int = 0
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    channel_base: int = 32768
    channel_max: int = 512
    input_resolution: int = 32
    upsampling: str = "nearest"
    modulation: str = "fmm_demod"
    rank: int = 10
    instance_norm: bool = False
    fine_from: int = 128
    extra_layers: int = 1
    embedding_coarse: Embedding = COARSE
    embedding_fine: Embedding = FINE
    paper_blocks: tuple = ()
    channels_at: tuple = ()
    extra_at: tuple = ()
    aspect: str = ""
    nodes: str = "bilinear"

    def channels_of(self, nominal: int) -> int:
        """Channels of the block that is named after a resolution."""
        usual = min(self.channel_base // nominal, self.channel_max)
        return dict(self.channels_at).get(nominal, usual)

    def extra_of(self, running: int) -> int:
        """How many more layers the block has that runs at a resolution."""
        usual = self.extra_layers if running >= self.fine_from else 0
        return dict(self.extra_at).get(running, usual)

    @property
    def has_noise(self) -> bool:
        """Whether training draws noise."""
        return self.family in ("stylegan2", "cips_skip", "cips_res")

    @property
    def w_avg_shape(self) -> tuple[int, ...]:
        """Of the running mean of w: `[w_dim]`, or one for each class, `[num_classes, w_dim]`."""
        return (self.num_classes, self.w_dim) if self.num_classes else (self.w_dim,)


def inr_gan(**overrides) -> GeneratorConfig:
    """INR-GAN, the released 256x256 architecture."""
    return replace(GeneratorConfig(), **overrides)


def inr_gan_bil(**overrides) -> GeneratorConfig:
    """INR-GAN-bil: bilinear upsampling and instance norm; its pixels depend on each other."""
    return inr_gan(
        **{"family": "inr_gan_bil", "upsampling": "bilinear", "instance_norm": True, **overrides}
    )


def inr_gan_any(**overrides) -> GeneratorConfig:
    """INR-GAN as one continuous function, sharp at any size (ours; see models.nodes).

    Without tables, which overfit the grid, and with waves that fall off with their frequency, on
    other axes in every octave: on common ones they draw a lattice (docs/any_scale.md).
    """
    defaults = {
        "family": "inr_gan_any",
        "upsampling": "continuous",
        "embedding_coarse": replace(COARSE, table=0, falloff=1.0, turned=True),
        "embedding_fine": replace(FINE, table=0, falloff=1.0, turned=True),
    }
    return inr_gan(**{**defaults, **overrides})


def cips(**overrides) -> GeneratorConfig:
    """CIPS: every layer at full resolution, weight modulation."""
    embedding = Embedding(shared=256, table=256, distribution="uniform", scale=3.0)
    defaults = {
        "family": "cips",
        "input_resolution": 0,
        "modulation": "style_demod",
        "extra_layers": 0,
        "embedding_coarse": embedding,
        "embedding_fine": embedding,
    }
    return inr_gan(**{**defaults, **overrides})


def cips_skip(**overrides) -> GeneratorConfig:
    """CIPS as its authors released it, with RGB from every second layer (Anokhin et al. 2021)."""
    embedding = Embedding(
        shared=512, shifted=True, table=512, distribution="uniform", scale=1.5 * 2**0.5
    )
    defaults = {
        "family": "cips_skip",
        "mapping_layers": 8,
        "input_resolution": 0,
        "modulation": "style_demod",
        "extra_layers": 0,
        "embedding_coarse": embedding,
        "embedding_fine": embedding,
    }
    return inr_gan(**{**defaults, **overrides})


def cips_res(**overrides) -> GeneratorConfig:
    """The same with residual blocks and one RGB layer at the end."""
    return cips_skip(**{"family": "cips_res", **overrides})


def stylegan2(**overrides) -> GeneratorConfig:
    """The StyleGAN2 baseline (3x3 convolutions, noise; Karras et al. 2020)."""
    defaults = {"family": "stylegan2", "input_resolution": 4, "extra_layers": 0}
    return inr_gan(**{**defaults, **overrides})


def paper(**overrides) -> GeneratorConfig:
    """The paper's own generator at 1024x1024, whose hypernetwork emits every INR parameter."""
    blocks = (
        (128, 512, 256, 4, True),
        (256, 256, 128, 4, True),
        (512, 64, 32, 2, True),
        (1024, 32, 8, 1, True),
    )
    defaults = {
        "family": "paper",
        "height": 1024,
        "width": 1024,
        "w_dim": 1024,
        "mapping_layers": 3,
        "modulation": "fmm_paper",
        "paper_blocks": blocks,
    }
    return inr_gan(**{**defaults, **overrides})


FAMILIES = {
    "inr_gan": inr_gan,
    "inr_gan_bil": inr_gan_bil,
    "inr_gan_any": inr_gan_any,
    "cips": cips,
    "cips_skip": cips_skip,
    "cips_res": cips_res,
    "stylegan2": stylegan2,
    "paper": paper,
}
# Functions without a grid of their own, which any window of any size can be trained on.
CONTINUOUS = ("inr_gan_any", "cips_skip", "cips_res")


def check(config: GeneratorConfig) -> None:
    """Raises ValueError, one line, where no such generator can be built."""
    check_size(config.height, config.width, beside=config.family == "inr_gan_any")
    final = nominal_of(config.height, config.width)
    if config.channels not in (1, 3, 4):
        raise ValueError(f"images have 1, 3 or 4 channels, not {config.channels}")
    for field in ("z_dim", "w_dim", "rank", "channel_base", "channel_max", "mapping_layers"):
        if getattr(config, field) < 1:
            raise ValueError(f"model.{field} = {getattr(config, field)} must be 1 or more")
    if config.channel_base < final:
        raise ValueError(
            f"model.channel_base = {config.channel_base} leaves no channels at "
            f"{final}: there are channel_base // resolution of them"
        )
    if config.upsampling not in UPSAMPLING:
        raise ValueError(
            f"model.upsampling = {config.upsampling!r} is not one of {', '.join(UPSAMPLING)}"
        )
    if config.modulation not in KINDS:
        raise ValueError(
            f"model.modulation = {config.modulation!r} is not one of {', '.join(KINDS)}"
        )
    if config.nodes not in READS:
        raise ValueError(f"model.nodes = {config.nodes!r} is not one of {', '.join(READS)}")
    if config.nodes == "spline" and config.upsampling != "continuous":
        raise ValueError("model.nodes=spline needs nodes: model.upsampling=continuous")
    r = config.input_resolution or final
    if config.upsampling == "continuous" and min(_size(config, r)) < 2:
        raise ValueError(
            f"model.input_resolution = {r} leaves one node along the shorter side: use {2 * r}"
        )
    if r & (r - 1) or not 4 <= r <= final:
        raise ValueError(
            f"model.input_resolution = {r} must be a power of two from 4 to {final} (0: {final})"
        )
    if config.family == "paper":
        resolutions = [block[0] for block in config.paper_blocks]
        growing = all(b > a and b % a == 0 for a, b in itertools.pairwise(resolutions))
        if not resolutions or resolutions[-1] != final or not growing:
            raise ValueError(
                f"model.paper_blocks at {resolutions} must grow by whole factors up to {final}"
            )
        if config.num_classes:
            raise ValueError(
                "the paper's generator is not class-conditional; use model.family=inr_gan"
            )


def inr_spec(config: GeneratorConfig) -> InrSpec:
    """The coordinate network of a configuration; ValueError where it cannot be built."""
    check(config)
    if config.family == "stylegan2":
        raise ValueError(
            "the StyleGAN2 baseline is no coordinate function: no INR parameters, points or windows"
        )
    return SPECS.get(config.family, _released_spec)(config)


def _size(config: GeneratorConfig, resolution: int) -> tuple[int, int]:
    final = nominal_of(config.height, config.width)
    return config.height * resolution // final, config.width * resolution // final


def _released_spec(config: GeneratorConfig) -> InrSpec:
    final = nominal_of(config.height, config.width)
    start = config.input_resolution or final
    blocks, before, nominal = [], 0, 4
    while nominal <= final:
        running, grows = max(nominal, start), nominal > start
        fine = running >= config.fine_from
        size, width = _size(config, running), config.channels_of(nominal)
        embedding = None
        if grows or nominal == 4:
            embedding = config.embedding_fine if fine else config.embedding_coarse
            if running < final:  # finer detail than the grid's lives in the last level alone
                embedding = replace(embedding, finest=0)
        e = embedding.features(size) if embedding else 0
        norm = config.instance_norm and nominal > 4
        layers = [Layer("layer0", config.modulation, width, before, e)]
        for i in range((nominal > 4) + config.extra_of(running)):
            layers.append(
                Layer(f"layer{i + 1}", config.modulation, width, width, instance_norm=norm)
            )
        rgb = Layer("rgb", "style", config.channels, width)
        blocks.append(
            Block(f"block{nominal}", size, 2 if grows else 1, embedding, tuple(layers), rgb)
        )
        before, nominal = width, nominal * 2
    if config.upsampling == "continuous":
        how = "spline" if config.nodes == "spline" else "continuous"
        return InrSpec(tuple(blocks), "nodes", upsampling=how)
    return InrSpec(tuple(blocks), "symmetric", upsampling=config.upsampling)


def _paper_spec(config: GeneratorConfig) -> InrSpec:
    blocks, before, resolution_before = [], 0, 0
    for resolution, width, features, count, emits in config.paper_blocks:
        size = _size(config, resolution)
        embedding = Embedding(predicted=features, cosine=True)
        e = embedding.features(size)
        layers = []
        if before:
            layers.append(Layer("connector", "fmm_paper", width, before, e, joint=False))
        for i in range(count):
            h = width if layers else 0
            layers.append(Layer(f"layer{i}", "fmm_paper", width, h, e))
        rgb = Layer("rgb", "full", config.channels, width) if emits else None
        factor = resolution // resolution_before if before else 1
        blocks.append(Block(f"block{resolution}", size, factor, embedding, tuple(layers), rgb))
        before, resolution_before = width, resolution
    return InrSpec(tuple(blocks), frame="unit", activation="relu", output="tanh")


def _cips_spec(config: GeneratorConfig) -> InrSpec:
    """Two layers a block, all on one grid; the first block has one more, which sees the embedding.

    `cips_res` has that one alone in a block, then residual blocks, and one RGB layer at the end.
    """
    size, embedding = (config.height, config.width), config.embedding_coarse
    residual = config.family == "cips_res"

    def layer(name: str, outputs: int, h: int, e: int = 0) -> Layer:
        return Layer(name, config.modulation, outputs, h, e, noise=True)

    width = config.channels_of(4)
    first = layer("layer0", width, 0, embedding.features(size))
    blocks = [Block("block0", size, 1, embedding, (first,), None)] if residual else []
    nominal = 4
    while nominal <= max(size):
        before, width = width, config.channels_of(nominal)
        pair = layer("layer1", width, before), layer("layer2", width, width)
        emits = not residual or 2 * nominal > max(size)
        rgb = Layer("rgb", "style", config.channels, width) if emits else None
        begins = nominal == 4 and not residual
        layers, sees = ((first, *pair), embedding) if begins else (pair, None)
        blocks.append(Block(f"block{nominal}", size, 1, sees, layers, rgb, residual))
        nominal *= 2
    return InrSpec(tuple(blocks), frame="corners")


# The coordinate networks that are not the released code's.
SPECS = {"paper": _paper_spec, "cips_skip": _cips_spec, "cips_res": _cips_spec}
