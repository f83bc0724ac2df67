"""Arrays of pixels: from a generator's range to 8 bits, over white, side by side."""

import numpy as np


def to_uint8(images: np.ndarray) -> np.ndarray:
    """[-1, 1] floats -> uint8, rounded and clipped."""
    return np.clip(np.rint(np.asarray(images) * 127.5 + 127.5), 0, 255).astype(np.uint8)


def opaque(frame: np.ndarray, alpha: bool = False) -> np.ndarray:
    """uint8 `[H, W, 1|3|4]` -> RGB `[H, W, 3]`, transparency over white; RGBA with `alpha`."""
    if frame.shape[-1] == 1:
        return np.repeat(frame, 3, axis=-1)
    if frame.shape[-1] == 4 and not alpha:
        part = frame[..., 3:].astype(np.uint16)
        mixed = frame[..., :3] * part + 255 * (255 - part)
        return ((mixed + 127) // 255).astype(np.uint8)
    return frame


def tile(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """uint8 images `[n, H, W, C]` -> one picture, row by row, with grey lines between them."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    picture = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 128, np.uint8)
    for k, image in enumerate(images):
        top, left = gap + (k // columns) * (h + gap), gap + (k % columns) * (w + gap)
        picture[top : top + h, left : left + w] = image
    return picture
