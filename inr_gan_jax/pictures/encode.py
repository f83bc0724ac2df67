"""Pixels as the bytes of PNG, JPEG and WebP files."""

import io
from typing import IO

import numpy as np
from PIL import Image

# What a file's suffix asks for: its kind as Pillow calls it, and the longest side it can have.
PICTURES = {
    ".png": ("PNG", 2**31 - 1),
    ".jpg": ("JPEG", 65535),
    ".jpeg": ("JPEG", 65535),
    ".webp": ("WEBP", 16383),
}


def encode(pixels: np.ndarray, file: IO[bytes], kind: str, quality: int) -> None:
    """Writes uint8 pixels `[H, W, C]`, C in 1, 3, 4, as a Pillow `kind`: PNG, JPEG or WEBP."""
    options = {} if kind == "PNG" else {"quality": quality}
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(file, kind, **options)


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image `[H, W, C]`, C in 1, 3, 4 -> PNG bytes."""
    buffer = io.BytesIO()
    encode(image, buffer, "PNG", quality=0)
    return buffer.getvalue()
