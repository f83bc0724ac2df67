"""Images that tests can make again from their number, and how they open them."""

import numpy as np
from PIL import Image

from inr_gan_jax.data.sources import Source, open_source

LABELS = [["0.png", 2], ["1.png", 0], ["b/2.png", 2], ["b/3.png", 1], ["c/4.png", 4]]


def pixels(index: int, height: int = 6, width: int = 6, channels: int = 3) -> np.ndarray:
    """Distinct noise for each index: uint8 [H, W, C]."""
    return np.random.default_rng(index).integers(0, 256, (height, width, channels), np.uint8)


def picture(index: int, *size_and_channels: int) -> Image.Image:
    """The same as an image; the arguments are those of `pixels`."""
    array = pixels(index, *size_and_channels)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def open_rgb(path, **changes) -> Source:
    """Opens 6x6 RGB without labels, or what `changes` says instead."""
    return open_source(
        str(path), **({"height": 6, "width": 6, "channels": 3, "labels": False} | changes)
    )
