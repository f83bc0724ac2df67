"""BigTIFF of any size: tiles are rendered one by one and written to their places in the file."""

import hashlib
import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import View
from inr_gan_jax.render.writing import Journal
from inr_gan_jax.storage.atomic import replaced

SYNC_SECONDS = 5.0  # how much work a killed process may lose


def save(image: Tiled, path: epath.Path, view: View, tile: int, overwrite: bool) -> None:
    """Writes a view as an uncompressed BigTIFF with tiles of `tile` pixels a side, uint8.

    Until it is complete it is `path` + ".part", with a journal beside it; the same call goes on
    there. A file in a cloud is made in the local temporary folder, from where it is copied.

    Raises UserError for tiles that TIFF cannot have, the beginning of another render (unless
    `overwrite`), or too small a disk.
    """
    if tile % 16:
        raise UserError(f"{path}: a TIFF's tiles have a multiple of 16 pixels a side, not {tile}")
    remote = "://" in os.fspath(path)
    target = Path(path)
    if remote:
        name = hashlib.sha256(os.fspath(path).encode()).hexdigest()[:16]
        target = Path(tempfile.gettempdir()) / f"inr_gan_jax-{name}.tif"
    part = target.with_name(target.name + ".part")
    journal = Journal(f"{part}.json", image, view, tile=tile)
    done = journal.done() if part.exists() else 0
    if done is None and not overwrite:
        raise UserError(f"{part} is the beginning of another render: delete it, or --overwrite it")
    if not done:
        journal.write(0)
        _create(part, view, image.channels, tile)
    _fill(image, part, view, tile, done or 0, journal)
    if remote:
        with part.open("rb") as source, replaced(path) as file:
            shutil.copyfileobj(source, file, 1 << 24)
        part.unlink()
    else:
        part.replace(target)
    journal.remove()


def _create(part: Path, view: View, channels: int, tile: int) -> None:
    """Makes the file with all tiles black. It is sparse: the disk has no blocks for them yet."""
    tile_shape = (tile, tile, channels) if channels > 1 else (tile, tile)
    size = int(np.prod(tile_shape))
    count = -(-view.height // tile) * -(-view.width // tile)
    part.unlink(missing_ok=True)
    free = shutil.disk_usage(part.parent).free
    if free < count * size:
        raise UserError(f"{part} will take {count * size / 1e9:.1f} GB; {free / 1e9:.1f} are free")
    # Given one tile and then None, tifffile writes no data but the first tile. The others' places
    # are set afterwards: given no data at all, it would write gigabytes of zeros.
    tiles = itertools.chain([np.zeros(tile_shape, np.uint8)], itertools.repeat(None))
    with tifffile.TiffWriter(part, bigtiff=True) as writer:
        writer.write(
            tiles,
            shape=(view.height, view.width, *tile_shape[2:]),
            dtype=np.uint8,
            tile=(tile, tile),
            photometric="minisblack" if channels == 1 else "rgb",
            extrasamples=["unassalpha"] if channels == 4 else None,
            metadata=None,
            software="inr_gan_jax",
        )
    with tifffile.TiffFile(part, mode="r+") as file:
        page = file.pages.first
        first = page.dataoffsets[0]
        places = {"TileOffsets": [first + i * size for i in range(count)]}
        places["TileByteCounts"] = [size] * count
        for name, values in places.items():
            tag = page.tags[name]
            tag.overwrite(values, dtype=tag.dtype)  # as large as it was: it stays where it is
    os.truncate(part, first + count * size)


def _fill(image, part: Path, view: View, tile: int, done: int, journal: Journal) -> None:
    """Renders the tiles from number `done` on; journals every few seconds and when stopped."""
    with tifffile.TiffFile(part) as file:
        offsets = file.pages.first.dataoffsets
    synced = time.monotonic()
    with (
        part.open("r+b") as file,
        tqdm(total=len(offsets), initial=done, unit="tile", delay=2) as bar,
    ):
        try:
            for _, _, pixels in image.tiles(tile=tile, start=done, **vars(view)):
                height, width, _ = pixels.shape
                file.seek(offsets[done])
                margins = ((0, tile - height), (0, tile - width), (0, 0))
                file.write(np.pad(to_uint8(pixels), margins).tobytes())
                done += 1
                bar.update()
                if time.monotonic() - synced > SYNC_SECONDS:
                    _sync(file, journal, done)
                    synced = time.monotonic()
        finally:
            _sync(file, journal, done)


def _sync(file, journal: Journal, done: int) -> None:
    """What the journal says is done is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    journal.write(done)
