"""The StyleGAN2 discriminator (Karras et al. 2020), conditioned on labels by projection (2020b)."""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models import folded as folding
from inr_gan_jax.models import resample
from inr_gan_jax.models.convolution import add_bias, conv2d
from inr_gan_jax.models.layers import Conv, Dense, lrelu, one_by_one
from inr_gan_jax.models.mapping import Mapping
from inr_gan_jax.models.products import at_least_float32
from inr_gan_jax.models.sizes import nominal as nominal_of

ARCHITECTURES = ("resnet", "skip", "orig")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of a discriminator; `group` is the minibatch standard deviation's group size.

    `levels`: (height, width) of smaller images that it sees too (Karnewar and Wang 2020). `fixup`:
    residual branches begin as nothing and end without an activation (Zhang et al. 2019, as in
    Huang et al. 2024). `san`: the last layer is a direction and a scale (Takida et al. 2024).
    """

    architecture: str = "resnet"
    height: int = 256
    width: int = 256
    channels: int = 3
    num_classes: int = 0
    channel_base: int = 32768
    channel_max: int = 512
    group: int = 4
    mapping_layers: int = 8
    levels: tuple = ()
    fixup: bool = False
    san: bool = False

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"discriminator.architecture = {self.architecture!r} is not one of "
                + ", ".join(ARCHITECTURES)
            )
        for field in ("channel_base", "channel_max", "group", "mapping_layers"):
            if getattr(self, field) < 1:
                raise ValueError(f"discriminator.{field} must be 1 or more")
        if self.fixup and self.architecture != "resnet":
            raise ValueError(
                f"discriminator.fixup needs architecture resnet, not {self.architecture}"
            )
        if self.channel_base < self.nominal:
            raise ValueError(
                f"discriminator.channel_base = {self.channel_base} leaves no channels at "
                f"{self.nominal}: there are channel_base // resolution of them"
            )

    @property
    def nominal(self) -> int:
        """The resolution by which its first block is named and as wide."""
        return nominal_of(self.height, self.width)

    @property
    def seen(self) -> list[int]:
        """The resolutions of `levels`."""
        return [nominal_of(*size) for size in self.levels]


def minibatch_std(x_bhwc: jax.Array, group: int) -> jax.Array:
    """Appends one channel: how much a group of consecutive images differs (Karras et al. 2018).

    Mean over positions and channels of the biased standard deviation over the group. Groups are
    `group` consecutive images (the whole batch if it is smaller); ValueError if they do not fit.
    """
    b, h, w, c = x_bhwc.shape
    group = min(group, b)
    if b % group:
        raise ValueError(f"a batch of {b} images cannot be cut into groups of {group}")
    x = x_bhwc.astype(at_least_float32(x_bhwc.dtype)).reshape(-1, group, h, w, c)
    std = jnp.mean(jnp.sqrt(jnp.var(x, axis=1) + 1e-8), axis=(1, 2, 3))
    channel = jnp.broadcast_to(jnp.repeat(std, group)[:, None, None, None], (b, h, w, 1))
    return jnp.concatenate([x_bhwc, channel.astype(x_bhwc.dtype)], axis=-1)


class DiscriminatorBlock(nnx.Module):
    """Two 3x3 convolutions, the second after a blur and with stride 2; halves the resolution."""

    def __init__(self, config, nominal: int, inputs, outputs, first, *, rngs: nnx.Rngs):
        self.architecture = config.architecture
        if first or config.architecture == "skip":
            self.from_rgb = Conv(config.channels, inputs, 1, rngs=rngs)
        if nominal in config.seen:
            self.from_level = Conv(config.channels, inputs, 1, rngs=rngs)
        self.conv0 = Conv(inputs, inputs, 3, rngs=rngs)
        self.conv1 = Conv(inputs, outputs, 3, rngs=rngs)
        if config.architecture == "resnet":
            self.skip = Conv(inputs, outputs, 1, rngs=rngs, bias=False)
        self.fixup = config.fixup
        if self.fixup:  # L branches of two layers: L^(-1/2), and 0
            branches = math.log2(config.nominal / 4)
            self.conv0.weight[...] *= branches**-0.5
            self.conv1.weight[...] *= 0

    def __call__(self, x, rgb, level=None, folded=False):
        if folded and self._folds:
            return self._folded(x, rgb, level), None
        if hasattr(self, "from_rgb"):
            y = lrelu(self.from_rgb(rgb))
            x = y if x is None else x + y
            rgb = resample.downsample(rgb) if self.architecture == "skip" else None
        if hasattr(self, "from_level"):
            x = (x + lrelu(self.from_level(level))) * jnp.asarray(0.5**0.5, x.dtype)
        y = lrelu(self.conv0(x))
        y = self.conv1(resample.blur(y, 2), stride=2, padding=0)
        if self.architecture != "resnet":
            return lrelu(y), rgb
        return self._joined(y, self.skip(resample.downsample(x))), rgb

    def _joined(self, y, around):
        if self.fixup:
            return y + around
        return (lrelu(y) + around) * jnp.asarray(0.5**0.5, y.dtype)

    @property
    def _folds(self) -> bool:
        """Whether its channels leave half a TPU's lanes or more empty."""
        few = self.conv0.weight.shape[2] <= folding.LANES // 2
        return few and self.architecture == "resnet"

    def _folded(self, x, rgb, level):
        """The same on folded grids (see models.folded)."""
        if x is None:
            rgb = folding.fold(rgb)
            x = conv2d(rgb, folding.at_pixels(self.from_rgb.scaled))
            x = lrelu(add_bias(x, jnp.tile(self.from_rgb.bias[...], 4)))
        else:
            if level is not None:
                x = (x + lrelu(self.from_level(level))) * jnp.asarray(0.5**0.5, x.dtype)
            x = folding.fold(x)
        y = conv2d(x, folding.same(self.conv0.scaled), padding=1)
        y = lrelu(add_bias(y, jnp.tile(self.conv0.bias[...], 4)))
        y = conv2d(y, folding.halving(self.conv1.scaled), padding=1)
        y = add_bias(y, self.conv1.bias[...])
        return self._joined(y, conv2d(x, folding.halving(self.skip.scaled), padding=1))


def layer_paths(config: DiscriminatorConfig) -> list[tuple[str, ...]]:
    """Where the layers' parameters lie, in the order in which an image passes them."""
    paths, nominal = [], config.nominal
    while nominal > 4:
        first = nominal == config.nominal
        names = ["from_rgb"] * (first or config.architecture == "skip")
        names += ["from_level"] * (nominal in config.seen) + ["conv0", "conv1"]
        names += ["skip"] * (config.architecture == "resnet")
        paths += [(f"block{nominal}", name) for name in names]
        nominal //= 2
    last = ["from_rgb"] * (config.architecture == "skip") + ["conv", "dense", "out"]
    return [*paths, *((name,) for name in last)]


class Discriminator(nnx.Module):
    """Images `[B, H, W, C]` in [-1, 1] (and one-hot classes `[B, num_classes]`) -> logits `[B]`."""

    def __init__(self, config: DiscriminatorConfig, *, rngs: nnx.Rngs):
        self.config = config
        nominal = config.nominal
        size = (config.height * 4 // nominal, config.width * 4 // nominal)
        names, first = [], True

        def width(resolution):
            return min(config.channel_base // resolution, config.channel_max)

        while nominal > 4:
            block = DiscriminatorBlock(
                config, nominal, width(nominal), width(nominal // 2), first, rngs=rngs
            )
            names.append(f"block{nominal}")
            setattr(self, names[-1], block)
            nominal, first = nominal // 2, False
        self.blocks, last = tuple(names), width(4)
        if config.architecture == "skip":
            self.from_rgb = Conv(config.channels, last, 1, rngs=rngs)
        self.conv = Conv(last + 1, last, 3, rngs=rngs)
        self.dense = Dense(last * size[0] * size[1], last, rngs=rngs)
        self.out = Dense(last, last if config.num_classes else 1, rngs=rngs)
        if config.san:
            self.scale = nnx.Param(jnp.ones(()))
        if config.num_classes:
            self.mapping = Mapping(0, config.num_classes, last, config.mapping_layers, rngs=rngs)

    def _blocks(self, rgb, levels, *, folded):
        x, left = None, list(levels)  # coarse to fine
        for name in self.blocks:
            block = getattr(self, name)
            level = left.pop() if hasattr(block, "from_level") else None
            x, rgb = block(x, rgb, level, folded=folded)
        return x, rgb

    def __call__(
        self,
        images_bhwc,
        classes_bc=None,
        levels=(),
        *,
        dtype=jnp.float32,
        remat: bool = False,
        folded: bool = False,
        largest_group: int | None = None,
        along: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Logits; with `remat` of one image at a time, whose insides gradients compute again.

        `along` (with `san`): also how far features, held, lie along the last layer's direction.
        `folded`: blocks of few channels on folded grids, for TPUs; the same but for rounding.
        `levels`: the images of `config.levels`, coarse to fine, `[B, h, w, C]` each.
        `largest_group`: of images that minibatch_std compares, where not the whole batch may be.
        """
        inputs = jax.tree.map(lambda x: x.astype(dtype), (images_bhwc, tuple(levels)))
        if remat:  # images meet in the minibatch's deviation only
            x, rgb = one_by_one(functools.partial(self._blocks, folded=folded), inputs)
        else:
            x, rgb = self._blocks(*inputs, folded=folded)
        if self.config.architecture == "skip":
            x = x + lrelu(self.from_rgb(rgb))
        group = min(self.config.group, largest_group or len(x))
        x = minibatch_std(x.astype(at_least_float32(dtype)), group)
        x = lrelu(self.conv(x))
        x = lrelu(self.dense(x.transpose(0, 3, 1, 2).reshape(len(x), -1)))  # in C, H, W order
        if self.config.san:
            logits, distance = self._by_direction(x, classes_bc)
            return (logits, distance) if along else logits
        x = self.out(x)
        if not self.config.num_classes:
            return x[:, 0]
        label = self.mapping(None, classes_bc)
        return jnp.sum(x * label, axis=-1) / x.shape[-1] ** 0.5

    def _by_direction(self, x, classes_bc):
        """(logits, of which the direction learns nothing; features along it, which learn nothing).

        Takida et al. 2024, section 5: features learn D's loss, the direction the difference of
        means of real and generated ones.
        """
        bias = 0.0
        if self.config.num_classes:
            x, direction = self.out(x), self.mapping(None, classes_bc)
        else:
            direction, bias = self.out.weight[...], self.out.bias[...][0]
        direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
        logits = self.scale[...] * jnp.sum(x * jax.lax.stop_gradient(direction), axis=-1) + bias
        return logits, jnp.sum(jax.lax.stop_gradient(x) * direction, axis=-1)
