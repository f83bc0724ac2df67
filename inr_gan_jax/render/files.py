"""Writes a view of an image to a file; the file's suffix says what kind it is."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import PICTURES, encode
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import deep_zoom, inr_file, tiff
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import TILE, View
from inr_gan_jax.storage.atomic import replaced

IN_MEMORY = {**PICTURES, ".npy": ("npy", 2**31 - 1)}  # kind, and longest side, by suffix
TIFF, DEEP_ZOOM, FUNCTION = (".tif", ".tiff"), ".dzi", ".inr"
SUFFIXES = (*IN_MEMORY, *TIFF, DEEP_ZOOM, FUNCTION)
MEMORY = 2**30  # bytes of pixels


def save(
    image: Tiled,
    path: epath.PathLike,
    width: int | None = None,
    height: int | None = None,
    *,
    overwrite: bool = False,
    tile: int | None = None,
    quality: int = 90,
    tile_format: str = "png",
    dtype: str = "float32",
    **options,
) -> None:
    """Writes a view of an image (by default all of it at native size) to a file.

    `.png`, `.jpg`, `.webp`: uint8 pixels. `.npy`: float32 `[H, W, C]`, about [-1, 1], unclipped.
    `.tif`: an uncompressed, tiled BigTIFF of any size, `.dzi`: a Deep Zoom pyramid (a folder of
    tiles beside it). These two take bounded memory, show their progress, and go on where they
    stopped when the same call is made again. `.inr`: the function itself (see inr_file).

    Args:
      image: what to render.
      path: the file, local or in a cloud; its folder is made if absent.
      width, height: in pixels.
      overwrite: replace an existing file, or the beginning of another render.
      tile: rendered at a time, in pixels a side (256; of a `.dzi`: 254, with 1 pixel of overlap).
      quality: 1 to 100, of JPEG and WebP.
      tile_format: png or jpg, of the tiles of a `.dzi`.
      dtype: of the numbers in an `.inr`: float32 or bfloat16, half the size.
      **options: window, superres_from, ... (see View).

    Raises:
      UserError: one line: the file exists, this kind of file cannot hold the picture, or it
        cannot be written.
      ValueError: one line: a view that cannot be.
    """
    path = epath.Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: its suffix must be one of {', '.join(SUFFIXES)}")
    if not 1 <= quality <= 100:
        raise UserError(f"quality = {quality} must be 1 to 100")
    if suffix == FUNCTION and (width or height or options):
        raise UserError(f"{path} would hold the image itself: it has no size, window or samples")
    view = image.view(width, height, **options)
    goes_on = suffix in (*TIFF, DEEP_ZOOM)
    with writable(path, overwrite, "; the same call goes on where it stopped" * goes_on):
        if suffix == FUNCTION:
            batch = jax.tree.map(lambda a: a[None], image.params.image)
            inr_file.save_images(path, dataclasses.replace(image.params, image=batch), dtype)
        elif suffix in TIFF:
            tiff.save(image, path, view, tile or TILE, overwrite)
        elif suffix == DEEP_ZOOM:
            size = tile or deep_zoom.TILE
            deep_zoom.save(image, path, view, size, tile_format, quality, overwrite)
        else:
            _save_picture(image, path, view, tile or TILE, quality)


@contextlib.contextmanager
def writable(path: epath.PathLike, overwrite: bool, hint: str = "") -> Iterator[epath.Path]:
    """A file that may be written to within: its folder is there; an OSError becomes a UserError.

    `hint` ends the message of the latter.
    """
    path = epath.Path(path).expanduser()
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give a file")
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: delete it, choose another name, or --overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}{hint}") from None


def _save_picture(image: Tiled, path, view: View, tile: int, quality: int) -> None:
    kind, longest = IN_MEMORY[path.suffix.lower()]
    dtype = np.dtype(np.float32 if kind == "npy" else np.uint8)
    size = f"{view.width}x{view.height}"
    if max(view.width, view.height) > longest:
        raise UserError(f"{path}: {size} is too large, {kind} ends at {longest} (.tif has no end)")
    if (needed := view.width * view.height * image.channels * dtype.itemsize) > MEMORY:
        raise UserError(
            f"{path}: {size} takes {needed / 2**30:.1f} GiB of memory; .tif and .dzi are written "
            f"tile by tile"
        )
    if kind == "JPEG" and image.channels == 4:
        raise UserError(f"{path}: JPEG has no transparency, this image has; use .png or .webp")
    pixels = _pixels(image, view, tile, dtype)
    with replaced(path) as file:
        if kind == "npy":
            np.save(file, pixels)
        else:
            encode(pixels, file, kind, quality)


def _pixels(image: Tiled, view: View, tile: int, dtype: np.dtype) -> np.ndarray:
    """All pixels, `[H, W, C]`, made of tiles under a progress bar."""
    picture = np.empty((view.height, view.width, image.channels), dtype)
    count = -(-view.height // tile) * -(-view.width // tile)
    tiles = image.tiles(tile=tile, **vars(view))
    for row, column, pixels in tqdm(tiles, total=count, unit="tile", delay=2):
        part = picture[row : row + pixels.shape[0], column : column + pixels.shape[1]]
        part[:] = pixels if dtype == np.float32 else to_uint8(pixels)
    return picture
