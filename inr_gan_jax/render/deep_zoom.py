"""Deep Zoom: a pyramid of tiles for viewers in the browser, every level rendered by itself.

x.dzi            what the pyramid is (XML), written last
x_files/L/C_R.png    tile in column C, row R of level L; level 0 is one pixel, each next one twice
                 as large, the last one the picture
"""

import dataclasses
import itertools
import math
from fractions import Fraction

from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import encode
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import WHOLE, View
from inr_gan_jax.render.writing import Journal
from inr_gan_jax.storage.atomic import replaced

TILE, OVERLAP = 254, 1
FORMATS = {"png": "PNG", "jpg": "JPEG"}
XML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
    'Format="{form}" Overlap="{overlap}" TileSize="{tile}">\n'
    '  <Size Width="{width}" Height="{height}"/>\n</Image>\n'
)


def save(
    image: Tiled,
    path: epath.Path,
    view: View,
    tile: int,
    tile_format: str,
    quality: int,
    overwrite: bool,
) -> None:
    """Writes a view as a Deep Zoom pyramid: `path` (x.dzi) and the folder x_files beside it.

    An interrupted pyramid goes on with its first missing tile when the same call is made again.
    Raises UserError for an unknown format of tiles, JPEG tiles of an image with transparency, or a
    folder of another pyramid (unless `overwrite`, which removes its levels).
    """
    if tile_format not in FORMATS:
        raise UserError(f"{path}: tile_format = {tile_format!r} is not {' or '.join(FORMATS)}")
    if tile_format == "jpg" and image.channels == 4:
        raise UserError(f"{path}: JPEG tiles have no transparency, this image has; use png")
    folder = path.with_name(f"{path.stem}_files")
    settings = {"tile": tile, "tile_format": tile_format, "quality": quality}
    journal = Journal(path.with_name(f"{path.name}.part.json"), image, view, **settings)
    if journal.done() is None and folder.exists():
        if not overwrite:
            raise UserError(f"{folder} is of another pyramid: delete it, or --overwrite it")
        path.unlink(missing_ok=True)
        for level in [f for f in folder.iterdir() if f.name.isdecimal()]:
            level.rmtree()
    folder.mkdir(exist_ok=True)
    journal.write(0)  # which tiles are done, the folder says
    levels = level_views(image, view)
    counts = [-(-v.height // tile) * -(-v.width // tile) for v in levels]
    with tqdm(total=sum(counts), unit="tile", delay=2) as bar:
        for number, level in enumerate(levels):
            _save_level(image, folder / str(number), level, tile, tile_format, quality, bar)
    size = {"width": view.width, "height": view.height}
    with replaced(path) as file:
        file.write(XML.format(form=tile_format, overlap=OVERLAP, tile=tile, **size).encode())
    journal.remove()


def level_views(image: Tiled, view: View) -> list[View]:
    """The views of all levels, from one pixel to `view`.

    All show the same function, the one that `view` shows: points snap where they do there. Below
    the last level pixels are means, of enough points to miss no native pixel.
    """
    own = image.own_density(view)
    density = max(*own, Fraction(1)) if view.density is None else view.density
    native = [size / d for size, d in zip((view.width, view.height), own, strict=True)]
    levels = [view]
    for halvings in itertools.count(1):
        if max(levels[0].width, levels[0].height) == 1:
            return levels
        width, height = (-(-size // 2**halvings) for size in (view.width, view.height))
        side = 2
        while 2 * side * max(width, height) <= WHOLE and (
            side * width < native[0] or side * height < native[1]
        ):
            side *= 2
        samples = max(side, math.isqrt(view.samples)) ** 2
        level = {"width": width, "height": height, "density": density, "samples": samples}
        levels.insert(0, dataclasses.replace(view, **level))


def _save_level(image, folder: epath.Path, view: View, tile: int, form: str, quality, bar) -> None:
    """Writes the tiles of one level, from the first missing one on: they come in order."""
    columns, rows = -(-view.width // tile), -(-view.height // tile)
    names = [f"{column}_{row}.{form}" for row in range(rows) for column in range(columns)]
    folder.mkdir(exist_ok=True)
    there = {file.name for file in folder.iterdir()}
    start = next((i for i, name in enumerate(names) if name not in there), len(names))
    bar.update(start)
    if start == len(names):
        return  # without planning a large level for nothing
    tiles = image.tiles(tile=tile, start=start, overlap=OVERLAP, **vars(view))
    for name, (_, _, pixels) in zip(names[start:], tiles, strict=True):
        with replaced(folder / name) as file:
            encode(to_uint8(pixels), file, FORMATS[form], quality)
        bar.update()
