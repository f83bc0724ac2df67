"""Data sets that lie in a cloud, copied to a local disk once: training reads each image often."""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from etils.epath import backend
from fsspec.callbacks import Callback
from tqdm import tqdm

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.paths import cache_root

_THREADS = 16
# What tells one version of a file from another, as the clouds call it.
_VERSION = ("size", "etag", "ETag", "mtime", "LastModified", "created")


def fetch(
    url: str,
    wanted: Callable[[list[str]], list[str]],
    data_dir: str | None = None,
    progress: bool = True,
) -> Path:
    """The local copy of a file, or of the files of a folder that `wanted` picks by their names.

    It is made in `data_dir`, by default `data/` in `cache_root()`, and used again while
    names, sizes and times in the cloud stay the same. It appears in one step when it is whole. One
    process copies while the others of this machine wait; after an interruption, files that are here
    are not copied again.

    Raises UserError, one line, if the copy cannot be made or the disk is too small for it.
    """
    home = str(data_dir or cache_root() / "data")
    if "://" in home:
        raise UserError(f"{url} is copied to a local disk, which {home} is not: set data_dir")
    home = Path(home).expanduser()
    try:
        filesystem = backend.fsspec_backend.fs(url)
        is_folder, files = _listed(filesystem, url, wanted)
        name = url.rstrip("/").rsplit("/", 1)[-1]
        target = home / f"{name}-{_key(url, files)}"
        if not target.exists():
            home.mkdir(parents=True, exist_ok=True)
            with open(home / f"{target.name}.lock", "wb") as lock:
                _take(lock, url, progress)
                if not target.exists():
                    partial = home / f"{target.name}.partial"
                    partial.mkdir(exist_ok=True)
                    _copy(filesystem, files, partial, url, progress)
                    partial.rename(target)
                    if progress:
                        tqdm.write(f"{url} is copied to {target}")
    except UserError:
        raise
    except Exception as error:  # networks and credentials fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{url} cannot be copied to {home} ({reason}): mend it and start again"
        ) from error
    return target if is_folder else target / name


def _listed(
    filesystem, url: str, wanted: Callable[[list[str]], list[str]]
) -> tuple[bool, dict[str, dict]]:
    """Whether `url` is a folder, and what its cloud knows of each file, by name."""
    about = filesystem.info(url)
    if about["type"] != "directory":
        return False, {url.rsplit("/", 1)[-1]: about}
    top = about["name"].rstrip("/") + "/"
    found = {k.removeprefix(top): v for k, v in filesystem.find(url, detail=True).items()}
    # A cloud's names need not be paths: what has an empty part is none.
    return True, {name: found[name] for name in wanted([k for k in found if all(k.split("/"))])}


def _key(url: str, files: dict[str, dict]) -> str:
    versions = [[name, *(str(info.get(k)) for k in _VERSION)] for name, info in files.items()]
    return hashlib.sha256(json.dumps([url, sorted(versions)]).encode()).hexdigest()[:16]


def _take(lock, url: str, progress: bool) -> None:
    """Waits for the lock, which the operating system takes from a process that is killed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if progress:
            tqdm.write(f"waiting for another process, which is copying {url}")
        fcntl.flock(lock, fcntl.LOCK_EX)


def _copy(filesystem, files: dict[str, dict], to: Path, url: str, progress: bool) -> None:
    """Copies what is not there, and checks the sizes of what came."""
    missing = {name: info for name, info in files.items() if _size(to / name) != info["size"]}
    total = sum(info["size"] for info in missing.values())
    free = shutil.disk_usage(to).free
    if total > free:
        raise UserError(
            f"{url} needs {total / 1e9:.1f} GB in {to.parent}, where {free / 1e9:.1f} GB are free: "
            "make room, or set data_dir to a folder on a larger disk"
        )
    bar = tqdm(
        desc=f"copying {url}", total=total, unit="B", unit_scale=True, delay=2, disable=not progress
    )

    def copy(name: str) -> None:
        place = to / name
        place.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(missing[name]["name"], str(place), callback=_Shown(bar))
        if _size(place) != missing[name]["size"]:
            raise OSError(f"{name} came incomplete")

    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    try:
        with bar:
            for _ in pool.map(copy, missing):
                pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Shown(Callback):
    """Shows the bytes that came on a bar."""

    def __init__(self, bar: tqdm):
        super().__init__()
        self._bar = bar

    def relative_update(self, inc: int = 1) -> None:
        self._bar.update(inc)


def _size(path: Path) -> int:
    return os.path.getsize(path) if path.exists() else -1
