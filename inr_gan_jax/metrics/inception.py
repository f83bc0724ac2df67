"""The Inception network of 2015-12-05, whose features FID, KID and the Inception score compare.

The network of Szegedy et al. 2016 (arXiv 1512.00567) as TensorFlow's `classify_image` graph has it,
with 1008 outputs. It differs from the paper: averages at the border leave the padding out, and the
last block takes maxima. Names of layers are those of its usual PyTorch port.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from inr_gan_jax.metrics import weights

NAMES = ("64", "192", "768", "2048", "logits_unbiased", "logits")

_SIZE = 299
_OUTPUTS = 1008
_EPSILON = 0.001  # of batch normalisation
_STATISTICS = ("weight", "bias", "running_mean", "running_var")

# A convolution is (output channels, kernel height, kernel width).
_FAN = {"a": (384, 1, 3), "b": (384, 3, 1)}  # two side by side


def rgb(images_bhwc: jax.Array) -> jax.Array:
    """uint8 images of 1, 3 or 4 channels -> float32 `[B, H, W, 3]` in 0..255.

    Grey is repeated; RGBA is laid over white (without rounding). Raises ValueError for other types
    and channels: floats, say in [-1, 1], would give features of nothing.
    """
    channels = images_bhwc.shape[-1]
    if images_bhwc.dtype != jnp.uint8 or channels not in (1, 3, 4):
        raise ValueError(f"{images_bhwc.dtype} images of {channels} channels, not uint8 of 1, 3, 4")
    x_bhwc = jnp.asarray(images_bhwc, jnp.float32)
    if channels == 4:
        alpha = x_bhwc[..., 3:] / 255
        return x_bhwc[..., :3] * alpha + 255 * (1 - alpha)
    return jnp.broadcast_to(x_bhwc, (*x_bhwc.shape[:-1], 3))


def resize(x_bhwc: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear as in TensorFlow 1: output i lies at i * inputs / outputs; nothing is smoothed."""
    for axis, outputs in ((1, height), (2, width)):
        inputs = x_bhwc.shape[axis]
        at = np.arange(outputs, dtype=np.float32) * (np.float32(inputs) / np.float32(outputs))
        low = at.astype(np.int32)
        t = np.float32(at - low).reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        a, b = (jnp.take(x_bhwc, i, axis, mode="clip") for i in (low, low + 1))
        x_bhwc = a + (b - a) * t
    return x_bhwc


def _max_pool(x_bhwc: jax.Array) -> jax.Array:
    return nnx.max_pool(x_bhwc, (3, 3), (2, 2))


def _max_beside(x_bhwc: jax.Array) -> jax.Array:
    return nnx.max_pool(x_bhwc, (3, 3), padding="SAME")


def _average_beside(x_bhwc: jax.Array) -> jax.Array:
    return nnx.avg_pool(x_bhwc, (3, 3), padding="SAME", count_include_pad=False)


class Unit(nnx.Module):
    """Convolution and ReLU; its batch normalisation is folded into weight and bias.

    Strides come without padding. The weight is HWIO.
    """

    def __init__(self, inputs: int, outputs: int, *kernel: int, stride=1, padding="SAME"):
        self.weight = nnx.Param(jnp.zeros((*kernel, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))
        self.stride, self.padding = stride, "VALID" if stride > 1 else padding

    def __call__(self, x_bhwi: jax.Array) -> jax.Array:
        y_bhwo = jax.lax.conv_general_dilated(
            x_bhwi,
            self.weight[...],
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return nnx.relu(y_bhwo + self.bias[...])


class Block(nnx.Module):
    """Chains of units side by side; their outputs are joined in channels.

    Args:
      inputs: channels of the input.
      pool: comes before the chain `branch_pool`.
      chains: by name, convolutions one after another. Several are numbered from 1, and those of a
        fan have letters, too.
      stride: of the last unit of each chain.
    """

    def __init__(self, inputs: int, pool: Callable, chains: Mapping[str, list], *, stride=1):
        plan = []
        for branch, chain in chains.items():
            channels, steps = inputs, []
            for i, step in enumerate(chain, 1):
                last, names = i == len(chain), []
                for letter, (outputs, *kernel) in step.items() if step is _FAN else [("", step)]:
                    names.append(branch + (f"_{i}{letter}" if len(chain) > 1 else ""))
                    unit = Unit(channels, outputs, *kernel, stride=stride if last else 1)
                    setattr(self, names[-1], unit)
                channels = outputs
                steps.append(tuple(names))
            plan.append((branch, tuple(steps)))
        self.pool, self.plan = pool, tuple(plan)

    def __call__(self, x_bhwc: jax.Array) -> jax.Array:
        joined = []
        for branch, steps in self.plan:
            y_bhwc = self.pool(x_bhwc) if branch == "branch_pool" else x_bhwc
            for names in steps:
                y_bhwc = jnp.concatenate([getattr(self, name)(y_bhwc) for name in names], -1)
            joined.append(y_bhwc)
        return jnp.concatenate(joined, -1)


def _block_5(inputs: int, pooled: int) -> Block:
    chains = {
        "branch1x1": [(64, 1, 1)],
        "branch5x5": [(48, 1, 1), (64, 5, 5)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
        "branch_pool": [(pooled, 1, 1)],
    }
    return Block(inputs, _average_beside, chains)


def _block_6a() -> Block:
    chains = {
        "branch3x3": [(384, 3, 3)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
        "branch_pool": [],
    }
    return Block(288, _max_pool, chains, stride=2)


def _block_6(c: int) -> Block:
    chains = {
        "branch1x1": [(192, 1, 1)],
        "branch7x7": [(c, 1, 1), (c, 1, 7), (192, 7, 1)],
        "branch7x7dbl": [(c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)],
        "branch_pool": [(192, 1, 1)],
    }
    return Block(768, _average_beside, chains)


def _block_7a() -> Block:
    chains = {
        "branch3x3": [(192, 1, 1), (320, 3, 3)],
        "branch7x7x3": [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)],
        "branch_pool": [],
    }
    return Block(768, _max_pool, chains, stride=2)


def _block_7(inputs: int, pool: Callable) -> Block:
    chains = {
        "branch1x1": [(320, 1, 1)],
        "branch3x3": [(384, 1, 1), _FAN],
        "branch3x3dbl": [(448, 1, 1), (384, 3, 3), _FAN],
        "branch_pool": [(192, 1, 1)],
    }
    return Block(inputs, pool, chains)


class Inception(nnx.Module):
    """The network; as made here its weights are zeros. It is a pytree and may pass through jit."""

    def __init__(self):
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, 3, padding="VALID")
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, 3, padding="VALID")
        self.Mixed_5b = _block_5(192, 32)
        self.Mixed_5c = _block_5(256, 64)
        self.Mixed_5d = _block_5(288, 64)
        self.Mixed_6a = _block_6a()
        self.Mixed_6b = _block_6(128)
        self.Mixed_6c = _block_6(160)
        self.Mixed_6d = _block_6(160)
        self.Mixed_6e = _block_6(192)
        self.Mixed_7a = _block_7a()
        self.Mixed_7b = _block_7(1280, _average_beside)
        self.Mixed_7c = _block_7(2048, _max_beside)
        self.weight = nnx.Param(jnp.zeros((2048, _OUTPUTS)))
        self.bias = nnx.Param(jnp.zeros((_OUTPUTS,)))

    def __call__(self, x_bhwc: jax.Array) -> dict[str, jax.Array]:
        """Images in [-1, 1], `[B, 299, 299, 3]` -> all of NAMES."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x_bhwc)))
        x_64 = _max_pool(x)
        x_192 = _max_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x_64)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x_192))))
        x_768 = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x_2048 = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x_768)))
        features = {str(x.shape[-1]): x.mean((1, 2)) for x in (x_64, x_192, x_768, x_2048)}
        logits = features["2048"] @ self.weight[...]
        return features | {"logits_unbiased": logits, "logits": logits + self.bias[...]}


def _units(network: Inception) -> Iterator[tuple[str, Unit]]:
    for path, module in nnx.iter_modules(network):
        if isinstance(module, Unit):
            yield ".".join(map(str, path)), module


def tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that `from_torch` needs, in PyTorch's layout."""
    shapes = {"fc.weight": (_OUTPUTS, 2048), "fc.bias": (_OUTPUTS,)}
    for name, unit in _units(nnx.eval_shape(Inception)):
        *kernel, inputs, outputs = unit.weight.shape
        shapes[f"{name}.conv.weight"] = (outputs, inputs, *kernel)
        shapes |= {f"{name}.bn.{part}": (outputs,) for part in _STATISTICS}
    return shapes


def from_torch(arrays: Mapping[str, np.ndarray]) -> Inception:
    """The network with the tensors of `weights.load("inception")`; others are left alone.

    Raises UserError if a tensor is missing or has another shape.
    """
    arrays = {name: weights.tensor(arrays, name, shape) for name, shape in tensors().items()}
    network = nnx.eval_shape(Inception)
    for name, unit in _units(network):
        gain, bias, mean, variance = (np.float64(arrays[f"{name}.bn.{p}"]) for p in _STATISTICS)
        scale = gain / np.sqrt(variance + _EPSILON)
        weight = arrays[f"{name}.conv.weight"].transpose(2, 3, 1, 0) * scale
        unit.weight = nnx.Param(jnp.asarray(weight, jnp.float32))
        unit.bias = nnx.Param(jnp.asarray(bias - mean * scale, jnp.float32))
    network.weight = nnx.Param(jnp.asarray(arrays["fc.weight"].T))
    network.bias = nnx.Param(jnp.asarray(arrays["fc.bias"]))
    return network


def features(
    network: Inception, images_bhwc: jax.Array, names: Sequence[str] = NAMES
) -> dict[str, jax.Array]:
    """Features of uint8 images, in float32 whatever the device prefers.

    Args:
      network: from `from_torch`.
      images_bhwc: uint8 `[B, H, W, C]`, C of 1, 3 or 4 (see `rgb`), of any size: they are resized
        to 299x299.
      names: which features. Under `jit` the others are not computed.

    Returns:
      By name: `64`, `192`, `768`, means over all places after the two poolings and before the last
      three blocks; `2048`, of FID and KID; `logits_unbiased` (without the bias, of the Inception
      score) and `logits`, `[B, 1008]`.
    """
    with jax.default_matmul_precision("highest"):
        every = network((resize(rgb(images_bhwc), _SIZE, _SIZE) - 128) / 128)
    return {name: every[name] for name in names}
