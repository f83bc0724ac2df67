"""CRC-32 of the files of a folder, which a zip carries for nothing: kept while files stay the same.

What is kept lies in `checksums/` of the cache, a file for each folder. A file counts as the same
while its size, time and inode are; one that changed in the last seconds before it was read is read
again at the next start, as its time could hide another change.
"""

import concurrent.futures
import hashlib
import json
import os
import time
import zlib
from pathlib import Path

from absl import logging
from etils import epath
from tqdm import tqdm

from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import cache_root

_THREADS, _CHUNK = 8, 1 << 20
_FRESH = 2.0  # seconds: the coarsest clock of a file system (FAT)


def of_folder(root: os.PathLike, names: list[str], progress: bool) -> list[tuple[int, int]]:
    """(length in bytes, CRC-32) of each file of the local folder `root`, read in parallel.

    A cache that cannot be had costs a warning. Raises OSError for files that cannot be read.
    """
    place = _place(root)
    known = _read(place)
    started = time.time()

    def checksum(name: str) -> tuple[list[int], int]:
        path = os.path.join(root, name)
        about = os.stat(path)
        version = [about.st_size, about.st_mtime_ns, about.st_ino]
        entry = known.get(name)
        if isinstance(entry, list) and entry[:3] == version:
            return version, entry[3]
        return version, _crc(path)

    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    what = f"reading {Path(root).name} (once)"
    try:
        with tqdm(total=len(names), desc=what, delay=2, disable=not progress) as bar:
            found = {}
            for name, entry in zip(names, pool.map(checksum, names), strict=True):
                found[name] = entry
                bar.update()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    settled = (started - _FRESH) * 1e9
    kept = {name: [*v, crc] for name, (v, crc) in found.items() if v[1] < settled}
    if kept != known:
        _keep(place, kept)
    return [(version[0], crc) for version, crc in found.values()]


def _crc(path: str) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _place(root: os.PathLike) -> epath.Path | None:
    name = hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:16]
    try:
        return cache_root() / "checksums" / f"{name}.json"
    except OSError:  # no home
        return None


def _read(place: epath.Path | None) -> dict[str, list[int]]:
    try:
        known = json.loads(place.read_text()) if place else {}
    except (OSError, ValueError):  # none yet, or a damaged one: it is made anew
        return {}
    return known if isinstance(known, dict) else {}


def _keep(place: epath.Path | None, kept: dict[str, list[int]]) -> None:
    if place is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replaced(place) as file:
            file.write(json.dumps(kept).encode())
    except OSError as error:
        logging.warning("checksums are not kept, so data is read again at each start: %s", error)
