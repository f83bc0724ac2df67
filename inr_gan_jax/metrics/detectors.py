"""Detectors: fixed networks whose features stand for what an eye sees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from inr_gan_jax.metrics import cache, inception, pixel, vgg
from inr_gan_jax.metrics.images import Real

FITTED = 10_000  # real images that the pixel detector looks at
BATCH = 256


@dataclass(frozen=True)
class Detector:
    """`apply(params, uint8 images [B, H, W, C]) -> {"features": [B, F], ...}`.

    `identity`: a hash of what decides its features.
    """

    name: str
    identity: str
    params: object
    apply: Callable[[object, jax.Array], dict[str, jax.Array]]


def open_detector(name: str, source, load: Callable[[str], tuple[dict, str]]) -> Detector:
    """`inception`, `vgg16` or `pixel` (fitted to the source); `load(name)` gives (arrays, hash)."""
    if name == "pixel":
        key = {"what": "pixel basis", "data": source.content_hash, "images": FITTED}
        params = cache.cached(key, lambda: pixel.fit(_batches(source)))
        return Detector(name, f"pca of {source.content_hash}", params, _pixel)
    arrays, identity = load(name)
    if name == "inception":
        return Detector(name, identity, inception.from_torch(arrays), _inception)
    return Detector(name, identity, vgg.from_torch(arrays), _vgg)


def _pixel(params, images: jax.Array) -> dict[str, jax.Array]:
    return {"features": pixel.features(params, images)}


def _inception(params, images: jax.Array) -> dict[str, jax.Array]:
    made = inception.features(params, images)
    return {"features": made["2048"], "logits": made["logits_unbiased"]}


def _vgg(params, images: jax.Array) -> dict[str, jax.Array]:
    return {"features": vgg.features(params, images)}


def _batches(source) -> Iterator[np.ndarray]:
    real = Real(source, FITTED)
    for start in range(0, real.count, BATCH):
        yield real.read(np.arange(start, min(start + BATCH, real.count)))["image"]
