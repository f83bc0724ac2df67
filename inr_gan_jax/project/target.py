"""What an image is fitted to: a photo with its mask and its place, or scattered pixels."""

import io
from dataclasses import dataclass

import numpy as np
from etils import epath
from PIL import Image

from inr_gan_jax.data import anything
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.families import GeneratorConfig
from inr_gan_jax.render.view import FRAME

Window = tuple[float, float, float, float]  # left, bottom, right, top
POINTS = (".npy", ".csv")


@dataclass(frozen=True)
class Photo:
    """Pixels `[h, w, C]` float32 in [-1, 1] that fill `window` of the frame, rows from the top.

    `known` `[h, w]` says which of them count; the others are 0 here, whatever the file holds.
    """

    pixels: np.ndarray
    known: np.ndarray
    window: Window = FRAME

    @property
    def whole(self) -> bool:
        """Whether every pixel is known."""
        return bool(self.known.all())


@dataclass(frozen=True)
class Scattered:
    """Points `[n, 2]`, (x, y) in the frame (-1, -1, 1, 1), y upwards, and values `[n, C]` there."""

    points: np.ndarray
    values: np.ndarray


def read_photo(
    path: epath.PathLike,
    shape: GeneratorConfig,
    *,
    mask: epath.PathLike | None = None,
    window: Window = FRAME,
    crop: bool = False,
) -> Photo:
    """Reads a photo of any size as a model of this shape sees it.

    Args:
      path: a PNG, JPEG, WebP or BMP; converted to the model's channels. For a model without
        transparency, pixels that are more than half transparent are unknown.
      shape: the model's width, height and channels.
      mask: a picture of the photo's size; where its grey is below 128 the photo is unknown.
      window: where in the frame the photo lies.
      crop: cut out the largest centred part that has the shape of `window`, if it has another.

    Raises UserError, one line, for files and windows that cannot be used.
    """
    left, bottom, right, top = window
    if not (-1 <= left < right <= 1 and -1 <= bottom < top <= 1):
        raise UserError(
            f"the window {window} of the target must lie in the frame -1,-1,1,1: left < right and "
            "bottom < top"
        )
    picture = _read(path)
    transparent = picture.has_transparency_data
    rgba = picture.convert("RGBA")
    known = np.ones((rgba.height, rgba.width), bool)
    if transparent and shape.channels < 4:
        known = np.asarray(rgba)[..., 3] >= 128
    if mask is not None:
        grey = _read(mask)
        if grey.size != picture.size:
            raise UserError(
                f"{mask} is {grey.width}x{grey.height}, but {path} is "
                f"{picture.width}x{picture.height}: a mask has a pixel for each of the photo's"
            )
        known &= np.asarray(grey.convert("L")) >= 128
    pixels = np.asarray(rgba if shape.channels == 4 else rgba.convert("RGB"))
    if shape.channels == 1:
        pixels = np.asarray(picture.convert("L"))[..., None]
    aspect = (right - left) * shape.width / ((top - bottom) * shape.height)
    rows, columns = _cut(known.shape, aspect, str(path), crop)
    known = known[rows, columns]
    if not known.any():
        raise UserError(
            f"{path}: no pixel is known; white pixels of a mask are, black ones are not"
        )
    pixels = pixels[rows, columns].astype(np.float32) / 127.5 - 1
    return Photo(np.where(known[..., None], pixels, np.float32(0)), known, window)


def _read(path: epath.PathLike) -> Image.Image:
    try:
        data = epath.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    return anything.decode(data, str(path))


def _cut(size: tuple[int, int], aspect: float, where: str, crop: bool) -> tuple[slice, slice]:
    """The rows and columns of a photo of (height, width) that have the aspect, to a pixel."""
    height, width = size
    across, down = min(width, height * aspect), min(height, width / aspect)
    if width - across >= 1 or height - down >= 1:
        if not crop:
            raise UserError(
                f"{where} is {width}x{height}, but its place in the model's image is {aspect:.4g} "
                "times as wide as high: use --crop=center"
            )
        height, width = max(1, round(down)), max(1, round(across))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return slice(top, top + height), slice(left, left + width)


def read_points(path: epath.PathLike, channels: int) -> Scattered:
    """Reads scattered pixels: an array `[n, 2 + channels]` (.npy), or as many columns of a .csv.

    A row is x, y in the frame (-1, -1, 1, 1), y upwards, and the values there, in [-1, 1]. Raises
    UserError, one line, for anything else.
    """
    form = f"rows of x, y and {channels} value{'s' * (channels > 1)}"
    try:
        data = epath.Path(path).expanduser().read_bytes()
        if str(path).lower().endswith(".csv"):
            if not data.strip():
                raise ValueError("it is empty")
            array = np.loadtxt(io.StringIO(data.decode()), delimiter=",", ndmin=2)
        else:
            array = np.load(io.BytesIO(data), allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as {form}: {error}") from None
    columns = 2 + channels
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(f"{path} holds no array of numbers: give {form}")
    if array.ndim != 2 or array.shape[1] != columns or not len(array):
        raise UserError(f"{path} holds {list(array.shape)}, not [n, {columns}]: {form}")
    bad = ~(np.abs(array.astype(np.float64)) <= 1).all(axis=1)  # not a number, too
    if bad.any():
        row = int(bad.argmax())
        raise UserError(
            f"{path}: row {row} is {array[row].tolist()}: x and y lie in the frame -1 to 1, y "
            "upwards, and values are -1 (black) to 1 (white)"
        )
    array = array.astype(np.float32)
    return Scattered(array[:, :2], array[:, 2:])
