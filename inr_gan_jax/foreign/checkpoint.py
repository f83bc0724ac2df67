"""A published file as a checkpoint of ours: written once, and found again by the file's hash."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from tqdm import tqdm

from inr_gan_jax.config import to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import shared, spans
from inr_gan_jax.foreign.kinds import open_published, refuse_others
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.runtime.processes import by_first
from inr_gan_jax.storage import hub
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints, locate
from inr_gan_jax.storage.manifest import MANIFEST
from inr_gan_jax.storage.paths import cache_root, is_cloud, reached

VERSION = 1  # of what is written into the cache: to be raised where a file converts differently
# What a checkpoint holds (its metadata's "holds") that is not a run's whole state.
NETWORKS, AVERAGE = "networks", "average"


def save(published: Published, folder: epath.PathLike, *, images: int = 0) -> None:
    """Writes `checkpoints/0` in a folder: networks without optimisers, or the average alone.

    `images` is the count to go on from (0: as the file tells). Raises UserError where it cannot be
    written.
    """
    images = images or published.images
    complete = published.g is not None and published.d is not None
    metadata = {
        "config": to_plain(published.config),
        "class_counts": published.class_counts,
        "class_names": list(published.class_names),
        "content_hash": "",
        "images": images,
        "iteration": 0,
        "data_position": images,
        "holds": NETWORKS if complete else AVERAGE,
        "draws": published.draws,
    }
    model = {"g_ema": published.g_ema, "g_buffers": published.buffers, "w_avg": published.w_avg}
    training = {"g": published.g, "d": published.d} if complete else {"none": np.zeros(1)}
    parts = jax.tree.map(jnp.asarray, {"model": model, "training": training})
    with Checkpoints(epath.Path(folder) / FOLDER, at_once=0.05) as checkpoints:
        checkpoints.save(0, parts, metadata)
        checkpoints.wait()
        if not checkpoints.steps():
            raise UserError(f"{folder} cannot be written (see above)")


def located(
    path: epath.PathLike, cache_dir: epath.PathLike | None = None
) -> tuple[epath.Path, int | None]:
    """The checkpoints that a user's `path` means (see storage.checkpoint.locate).

    A published file, of a disk, a shared folder or a hub (hf://user/model), is converted into
    `cache_dir` (by default the cache folder), once: it is found there by its SHA-256. Of many
    processes the first does that; others do where they do not see what it wrote. Raises UserError
    as `locate` does, for other files, for a hub's refusals, and for a cache that cannot be.
    """
    if hub.is_hub(path):
        hub.address_of(path)  # or it is an error
    elif (file := _published_file(path)) is None:
        return locate(path)
    home = _home(cache_dir)

    def made() -> Path:
        here = file_of(path, home) if hub.is_hub(path) else file
        return _converted(here, home / "published" / f"v{VERSION}")

    folder = Path(by_first(lambda: str(made())))
    if not _whole(folder):
        folder = made()
    return locate(folder)


def file_of(path: epath.PathLike, home: Path | None = None) -> epath.Path:
    """The file that `path` means: itself, or that of a hub, fetched into the cache folder `home`.

    Raises UserError for a hub's refusals.
    """
    if not hub.is_hub(path):
        return epath.Path(path).expanduser()
    return epath.Path(hub.fetched(path, shared.FILE, (home or _home(None)) / "hub"))


def _published_file(path: epath.PathLike) -> epath.Path | None:
    """The published file that a path names, or that lies in a shared folder; None: a run's."""
    whole = epath.Path(path).expanduser()
    try:
        with reached(whole):
            if whole.exists() and not whole.is_dir():
                return whole
            inside = whole / shared.FILE
            return inside if inside.exists() and not (whole / FOLDER).exists() else None
    except OSError as error:
        raise UserError(str(error)) from error


def kimg_of(name: str) -> float:
    """Thousands of images that a file's name tells (network-snapshot-012000.pkl), or 0."""
    found = re.search(r"network-snapshot-(\d{3,9})(?!\d)", name)
    return float(found[1]) if found else 0.0


def _home(cache_dir: epath.PathLike | None) -> Path:
    try:
        home = epath.Path(cache_dir).expanduser() if cache_dir else cache_root()
        if is_cloud(home):
            raise UserError(f"the cache {home} must be on a local disk: give --cache_dir")
        home = Path(home)
        home.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: `~` in --cache_dir, and no home
        reason = getattr(error, "strerror", None) or error
        place = cache_dir or "its usual place"
        raise UserError(
            f"a published file needs a cache folder, and there is none at {place} ({reason}): give "
            "--cache_dir=DIR, or $INR_GAN_JAX_CACHE"
        ) from None
    return home


def _converted(path: epath.Path, home: Path) -> Path:
    """The folder of a file's checkpoint, which is made if it is not there."""
    refuse_others(path)
    folder = home / _sha256(path)[:32]
    if _whole(folder):
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f"{folder.name}.lock", path):
            if not _whole(folder):
                _convert(path, folder)
    except OSError as error:
        raise UserError(
            f"{home} cannot be written ({error.strerror or error}): give another --cache_dir"
        ) from None
    return folder


def _whole(folder: Path) -> bool:
    """Whether a conversion is there; what a cleaner of caches left of one is not."""
    return (folder / FOLDER / "0" / MANIFEST).exists()


def _convert(path: epath.Path, folder: Path) -> None:
    started = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(started, ignore_errors=True)
    size = path.stat().length
    print(f"{path}: converting {size / 1e6:,.0f} MB into {folder} ...", file=sys.stderr, flush=True)
    try:
        published = open_published(path)
        save(published, started, images=round(1000 * kimg_of(path.name)))
        shutil.rmtree(folder, ignore_errors=True)
        started.rename(folder)
    finally:
        shutil.rmtree(started, ignore_errors=True)
    for note in published.notes:
        print(f"note: {note}", file=sys.stderr)


@contextlib.contextmanager
def _locked(place: Path, path: epath.Path):
    """One process converts a file while the others of this machine wait."""
    with place.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path}: another process converts it; waiting ...", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(place)


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    try:
        with spans.opened(path) as span:
            bar = tqdm(total=len(span), desc=f"reading {path.name}", unit="B", unit_scale=True,
                       delay=2)  # fmt: skip
            with bar:
                for start in range(0, len(span), spans.CHUNK):
                    part = span.part(start, min(spans.CHUNK, len(span) - start)).bytes()
                    digest.update(part)
                    bar.update(len(part))
    except (OSError, ValueError) as error:  # ValueError: it became shorter
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read: {reason}") from None
    return digest.hexdigest()
