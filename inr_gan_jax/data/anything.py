"""Any file that Pillow reads: what its header says, and its upright 8-bit image in sRGB.

Training reads what `images` decodes: upright PNG, JPEG, WebP and BMP of 8 bits. Here is what people
have: rotated, 16-bit, wide-gamut, animated, of other formats.
"""

import functools
import io
import warnings
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from inr_gan_jax.data import images
from inr_gan_jax.errors import UserError

HEIC = (".heic", ".heif", ".hif")
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # An MPO's or TIFF's further images are no animation.
_GREY = ("1", "L", "LA", "La")
_LARGEST_PROFILE = 1 << 27  # bytes, decompressed


@dataclass(frozen=True)
class Found:
    """What a header says of its image."""

    format: str  # Pillow's: "PNG", "TIFF", ...
    mode: str  # Pillow's: "P", "I;16", "CMYK", ...
    plain: str  # the mode that it counts as: palettes as RGB or RGBA
    size: tuple[int, int]  # (height, width), upright
    rotated: bool  # it is stored otherwise
    grey: bool
    alpha: bool
    deep: bool  # more than 8 bits a channel
    frames: int  # 1, or those of an animation
    bytes: int

    @property
    def channels(self) -> int:
        """Of a model that takes it as it is; 0: none does."""
        return next((count for count, mode in images.MODES.items() if mode == self.plain), 0)


def look(file: BinaryIO, where: str) -> Found:
    """Reads the header of a seekable file; UserError, naming it, for what is no image."""
    with _opened(file, where) as image:
        width, height = image.size
        orientation = images.orientation(image)
        if orientation >= 5:
            width, height = height, width
        deep = image.mode.startswith(("I", "F")) or _declared_bits(image) > 8
        return Found(
            image.format,
            image.mode,
            images.plain_mode(image),
            (height, width),
            orientation != 1,
            grey=image.mode in _GREY or image.mode.startswith(("I", "F")),
            alpha=image.has_transparency_data,
            deep=deep,
            frames=getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1,
            bytes=file.seek(0, io.SEEK_END),
        )


def inspect(file: BinaryIO, where: str) -> Found:
    """`look` at a file that training is to read as it lies; UserError, naming it, if it cannot."""
    try:
        found = look(file, where)
    except UserError as error:
        raise UserError(f"{error}: replace or remove it") from error
    images.require_plain(file, found.format, found.plain, found.rotated, where)
    return found


def decode(data: bytes, where: str, frame: int = 0, at_least: int = 0) -> Image.Image:
    """One frame, upright, L, RGB or RGBA, in sRGB; UserError, naming the file, if it is bad.

    16 bits become 8 by the range that they can have, floats of [0, 1] likewise; of 16-bit colour
    Pillow takes the high byte. A colour profile that is damaged is left out; it never costs the
    image. `at_least`: so many pixels a side are enough, and a JPEG of several times as many is
    decoded at a half, a quarter or an eighth of its size, which takes as much less time.
    """
    with _opened(io.BytesIO(data), where) as image:
        if at_least and image.format == "JPEG":
            image.draft(None, (at_least, at_least))
        if frame:
            image.seek(frame)
        image.load()
        profile = image.info.get("icc_profile")
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith(("I", "F")):
            return _to_8_bits(shown, where)
        alpha = shown.has_transparency_data
        if shown.mode not in ("L", "RGB", "RGBA", "CMYK", "LAB"):
            grey = shown.mode in _GREY
            shown = shown.convert("L" if grey and not alpha else "RGBA" if alpha else "RGB")
        elif alpha:
            shown = shown.convert("RGBA")
        if profile and shown.mode != "L":
            shown = _in_srgb(shown, profile)
        return shown if shown.mode in ("L", "RGB", "RGBA") else shown.convert("RGB")


def _to_8_bits(image: Image.Image, where: str) -> Image.Image:
    pixels = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I"):
        if image.mode == "I" and not (pixels.min() >= 0 and pixels.max() <= 65535):
            raise UserError(f"{where} holds whole numbers beyond 16 bits: convert it to 8 bits")
        pixels = pixels / 65535
    elif not (pixels.min() >= 0 and pixels.max() <= 1):
        raise UserError(f"{where} holds numbers beyond [0, 1]: convert it to 8 bits")
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


def _declared_bits(image: Image.Image) -> int:
    """Bits a channel as a PNG or TIFF declares them, where Pillow's mode does not tell; else 8."""
    if image.format == "PNG":
        image.fp.seek(24)
        return image.fp.read(1)[0]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,)))
    return 8


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """By the profile, if it is a usable one of this image's colours; else the image as it is."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, _srgb(), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class _opened:
    """An image of any format; whatever Pillow raises on bad bytes is a UserError with its name."""

    def __init__(self, file: BinaryIO, where: str):
        self._file, self._where = file, where

    def __enter__(self) -> Image.Image:
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _LARGEST_PROFILE
        reads_heic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            try:
                self._image = Image.open(self._file)
            except Exception as error:
                raise self._named(error) from error
        return self._image

    def __exit__(self, kind, error, traceback) -> None:
        self._image.__exit__(kind, error, traceback)  # close() would close the caller's file
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise self._named(error) from error

    def _named(self, error: Exception) -> UserError:
        if isinstance(error, Image.UnidentifiedImageError):
            if self._where.lower().endswith(HEIC) and not reads_heic():
                return UserError(
                    f"{self._where} is HEIC: pip install pillow-heif reads such photos"
                )
            return UserError(f"{self._where} is no image that Pillow reads")
        reason = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"{self._where} cannot be decoded ({reason})")


@functools.cache
def reads_heic() -> bool:
    """Whether HEIC can be read, through an extra package."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
