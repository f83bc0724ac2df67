"""VGG16: features for precision and recall, and LPIPS, the perceptual distance of two images.

The network of Simonyan and Zisserman 2015 (arXiv 1409.1556, configuration D) with the weights and
the names of torchvision.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import weights
from inr_gan_jax.metrics.inception import rgb
from inr_gan_jax.models.convolution import conv2d

_SIZE, _PLACES = 224, 7  # pixels a side; places a side that are left before the dense layers
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of [0, 1]
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS' own, of [-1, 1]
_LEAST = 16  # pixels a side that four halvings need
LARGEST = 256  # pixels a side that LPIPS is shown


def _param(array: np.ndarray) -> nnx.Param:
    return nnx.Param(jnp.asarray(array))


class Trunk(nnx.Module):
    """13 convolutions in 5 stages; the widths are those of the arrays (64 to 512)."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        inputs = 3
        for i in sum(weights.VGG16_CONVOLUTIONS, ()):
            kernel = weights.tensor(arrays, f"features.{i}.weight", (None, inputs, 3, 3))
            inputs = kernel.shape[0]
            setattr(self, f"weight{i}", _param(kernel.transpose(2, 3, 1, 0)))
            bias = weights.tensor(arrays, f"features.{i}.bias", (inputs,))
            setattr(self, f"bias{i}", _param(bias))

    def __call__(self, x_bhwc: jax.Array) -> list[jax.Array]:
        """What the last ReLU of each stage gives: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
        taps = []
        for stage in weights.VGG16_CONVOLUTIONS:
            x_bhwc = nnx.max_pool(x_bhwc, (2, 2), (2, 2)) if taps else x_bhwc
            for i in stage:
                x_bhwc = conv2d(x_bhwc, getattr(self, f"weight{i}")[...], padding=1)
                x_bhwc = nnx.relu(x_bhwc + getattr(self, f"bias{i}")[...])
            taps.append(x_bhwc)
        return taps


class Vgg16(nnx.Module):
    """The trunk and the first two dense layers. It is a pytree and may pass through jit."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.trunk = Trunk(arrays)
        channels = self.trunk.bias28.shape[0]
        flat = channels * _PLACES**2
        dense0 = weights.tensor(arrays, "classifier.0.weight", (None, flat))
        hidden = dense0.shape[0]
        dense0 = dense0.reshape(hidden, channels, _PLACES, _PLACES).transpose(2, 3, 1, 0)
        dense3 = weights.tensor(arrays, "classifier.3.weight", (None, hidden))
        self.weight0 = _param(dense0.reshape(flat, hidden))
        self.bias0 = _param(weights.tensor(arrays, "classifier.0.bias", (hidden,)))
        self.weight3 = _param(dense3.T)
        self.bias3 = _param(weights.tensor(arrays, "classifier.3.bias", dense3.shape[:1]))

    def __call__(self, x_bhwc: jax.Array) -> jax.Array:
        """Normalised images `[B, 224, 224, 3]` -> the second dense layer after its ReLU."""
        x_bhwc = nnx.max_pool(self.trunk(x_bhwc)[-1], (2, 2), (2, 2))
        x_bf = x_bhwc.reshape(x_bhwc.shape[0], -1)
        x_bf = nnx.relu(x_bf @ self.weight0[...] + self.bias0[...])
        return nnx.relu(x_bf @ self.weight3[...] + self.bias3[...])


class Lpips(nnx.Module):
    """The trunk and a weight for each channel of its five taps. A pytree, too."""

    def __init__(self, vgg16: Mapping[str, np.ndarray], lpips: Mapping[str, np.ndarray]):
        self.trunk = Trunk(vgg16)
        for i, (*_, last) in enumerate(weights.VGG16_CONVOLUTIONS):
            channels = getattr(self.trunk, f"bias{last}").shape[0]
            linear = weights.tensor(lpips, f"lin{i}.model.1.weight", (1, channels, 1, 1))
            setattr(self, f"weight{i}", _param(linear.reshape(channels)))

    def __call__(self, x_bhwc: jax.Array, y_bhwc: jax.Array) -> jax.Array:
        """Two batches of scaled images -> distances `[B]`."""
        distance_b = 0.0
        for i, taps in enumerate(zip(self.trunk(x_bhwc), self.trunk(y_bhwc), strict=True)):
            x, y = map(_unit_length, taps)
            distance_b += (jnp.square(x - y) @ getattr(self, f"weight{i}")[...]).mean((1, 2))
        return distance_b


def _unit_length(x_bhwc: jax.Array) -> jax.Array:
    """Each place's vector of channels, divided by its length + 1e-10."""
    # The length has no derivative at 0, but there all ReLUs before it are shut and drop the NaN.
    return x_bhwc / (jnp.linalg.norm(x_bhwc, axis=-1, keepdims=True) + 1e-10)


def from_torch(arrays: Mapping[str, np.ndarray]) -> Vgg16:
    """The network with the tensors of `weights.load("vgg16")`, those of the last layer aside.

    Raises UserError if a tensor is missing or has another shape.
    """
    return Vgg16(arrays)


def features(network: Vgg16, images_bhwc: jax.Array) -> jax.Array:
    """Features of uint8 images for precision and recall, in float32 whatever the device prefers.

    What Kynkaanniemi et al. 2019 (arXiv 1904.06991, section 2) compare: the activations after the
    second dense layer, its ReLU included.

    Args:
      network: from `from_torch`.
      images_bhwc: uint8 `[B, H, W, C]`, C of 1, 3 or 4 (see `inception.rgb`), of any size: they are
        resized to 224x224, bilinearly, smoothed where they shrink.

    Returns:
      `[B, 4096]`.
    """
    x_bhwc = rgb(images_bhwc)
    with jax.default_matmul_precision("highest"):
        x_bhwc = jax.image.resize(x_bhwc, (x_bhwc.shape[0], _SIZE, _SIZE, 3), "linear")
        return network((x_bhwc / 255 - jnp.asarray(_MEAN)) / jnp.asarray(_STD))


def lpips_from_torch(vgg16: Mapping[str, np.ndarray], lpips: Mapping[str, np.ndarray]) -> Lpips:
    """The distance with the tensors of `weights.load("vgg16")` and `weights.load("lpips")`.

    Of the former only the convolutions are read. Raises UserError if a tensor is missing or has
    another shape.
    """
    return Lpips(vgg16, lpips)


def shown(images_bhwc: jax.Array) -> jax.Array:
    """Images `[B, H, W, C]` in [-1, 1], C of 1, 3 or 4, as `lpips` takes them: `[B, h, w, 3]`.

    Transparency lies over white; images of more than about LARGEST pixels a side are averaged down
    by a whole number.
    """
    if images_bhwc.shape[-1] == 4:
        part = (images_bhwc[..., 3:] + 1) / 2
        images_bhwc = images_bhwc[..., :3] * part + (1 - part)
    b, h, w, c = images_bhwc.shape
    factor = max(1, max(h, w) // LARGEST)
    h, w = h // factor, w // factor
    cells = images_bhwc[:, : h * factor, : w * factor].reshape(b, h, factor, w, factor, c)
    return jnp.broadcast_to(cells.mean(axis=(2, 4)), (b, h, w, 3))


def lpips(network: Lpips, x_bhwc: jax.Array, y_bhwc: jax.Array) -> jax.Array:
    """LPIPS, version 0.1 with VGG (Zhang et al. 2018, arXiv 1801.03924): how unlike images look.

    Args:
      network: from `lpips_from_torch`.
      x_bhwc, y_bhwc: in [-1, 1], `[B, H, W, 3]`, of 16x16 pixels or more. They are not resized.

    Returns:
      Distances `[B]`, float32 and differentiable; 0 for equal images. Raises UserError for smaller
      images.
    """
    if min(x_bhwc.shape[1:3]) < _LEAST:
        size = "x".join(map(str, x_bhwc.shape[1:3]))
        raise UserError(f"LPIPS needs images of {_LEAST}x{_LEAST} pixels or more, not {size}")
    shift, scale = jnp.asarray(_SHIFT), jnp.asarray(_SCALE)
    with jax.default_matmul_precision("highest"):
        return network((x_bhwc - shift) / scale, (y_bhwc - shift) / scale)
