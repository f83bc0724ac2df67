"""One encoded image: what its header says, whether it is whole, and its pixels."""

import io
from typing import BinaryIO

import numpy as np
from PIL import Image

from inr_gan_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Kinds that preparation reads and training does not.
OTHERS = (
    (".gif", ".apng", ".jfif", ".jpe", ".jp2", ".avif", ".heic", ".heif", ".hif")
    + (".tif", ".tiff", ".ico", ".ppm", ".pgm", ".tga", ".psd")
)  # fmt: skip
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}

Image.MAX_IMAGE_PIXELS = None  # People's panoramas, and what we render, are no bombs.

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_IEND = b"\0\0\0\0IEND\xaeB`\x82"
_EXIF_ORIENTATION = 0x0112
_TAIL = 1 << 16


def require_plain(file: BinaryIO, format_: str, mode: str, rotated: bool, where: str) -> None:
    """Raises UserError unless training reads a seekable file as it lies: whole, upright, 8 bits."""
    if format_ not in (*_FORMATS, "MPO"):  # an MPO begins as a JPEG
        raise UserError(
            f"{where} is {format_}, which training does not read: "
            "python -m inr_gan_jax.data.prepare does"
        )
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(32)
    refuse_deep(head, mode, where)
    if not _is_whole(file, format_, head, size):
        raise UserError(f"{where} is truncated: copy or download it again")
    if rotated:
        raise UserError(
            f"{where} is stored rotated (EXIF orientation): "
            "write upright images with python -m inr_gan_jax.data.prepare"
        )


def decode(data: bytes, where: str) -> Image.Image:
    """Decodes the bytes of a file to an image whose palette, if any, is resolved.

    Raises UserError, naming the file by `where`, if they cannot be decoded.
    """
    with _named(where), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        refuse_deep(data[:32], image.mode, where)
        image.load()
        mode = plain_mode(image)
        return image if image.mode == mode else image.convert(mode)


def plain_mode(image: Image.Image) -> str:
    """The mode an image counts as: palettes as RGB or RGBA by their transparency, 1 bit as L."""
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return "L" if image.mode == "1" else image.mode


def orientation(image: Image.Image) -> int:
    """How an opened, unread image is stored rotated (EXIF, 1 to 8; 1 is upright)."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1  # Pillow would decode the whole image in search of it
    return image.getexif().get(_EXIF_ORIENTATION, 1)


def refuse_deep(head: bytes, mode: str, where: str) -> None:
    """Raises UserError for more than 8 bits a channel: Pillow would silently drop the low ones."""
    deep_png = head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] > 8
    if deep_png or mode.startswith(("I", "F")):
        raise UserError(f"{where} has more than 8 bits a channel: convert it to 8 bits first")


def to_pixels(image: Image.Image, channels: int, where: str) -> np.ndarray:
    """Returns uint8 [H, W, channels] in 0..255; UserError if the image has other channels."""
    if image.mode != MODES[channels]:
        raise UserError(wrong_channels(where, image.mode, channels))
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def wrong_channels(where: str, mode: str, channels: int) -> str:
    """The message for an image whose mode is not that of a model with so many channels."""
    return (
        f"{where} is {mode}, but the model has {channels} channel{'s' * (channels > 1)} "
        f"({MODES[channels]}): prepare the data with "
        f"python -m inr_gan_jax.data.prepare --channels={channels}"
    )


def to_image(pixels: np.ndarray) -> Image.Image:
    """The inverse of `to_pixels`: uint8 [H, W, C] with C of 1, 3 or 4 to an image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


class _named:
    """Turns whatever Pillow raises on bad bytes into a UserError that names the file."""

    def __init__(self, where: str):
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        # Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...: any of them
        # means that the bytes are no image.
        if isinstance(error, Exception) and not isinstance(error, UserError):
            if isinstance(error, Image.UnidentifiedImageError):
                reason = "not a PNG, JPEG, WebP or BMP image"
            else:
                reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{self._where} cannot be decoded ({reason}): replace or remove it"
            ) from error


def _is_whole(file: BinaryIO, format_: str, head: bytes, size: int) -> bool:
    """Whether the file reaches its format's end. Bytes after the end (cameras) are allowed."""
    if format_ == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if format_ == "BMP":
        return int.from_bytes(head[2:6], "little") <= size
    end = _IEND if format_ == "PNG" else b"\xff\xd9"
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    if tail.endswith(end):
        return True
    file.seek(0)
    if end not in tail and end not in file.read():  # a film may follow the image
        return False
    file.seek(0)  # The mark may belong to a thumbnail: only decoding tells.
    try:
        Image.open(file, formats=_FORMATS).load()
    except OSError:
        return False
    return True
