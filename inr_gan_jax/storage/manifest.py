"""A folder's manifest: the size and SHA-256 of every file in it, written last, in one step."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from etils import epath

from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import is_cloud, reached

MANIFEST = "manifest.json"


def write(folder: epath.Path) -> None:
    """Writes {relative path: {size in bytes, sha256}} of all files in one atomic step."""
    names = sorted(p.relative_to(folder).as_posix() for p in _files(folder))
    with ThreadPoolExecutor(4) as pool:
        digests = pool.map(lambda name: _digest(folder / name), names)
        manifest = dict(zip(names, digests, strict=True))
    with replaced(folder / MANIFEST) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def find_damage(folder: epath.Path, part: str) -> str | None:
    """Says how the files under `part` differ from the manifest; None: not at all.

    Raises OSError where the folder lies in a cloud that cannot be reached.
    """
    try:
        with reached(folder):
            text = (folder / MANIFEST).read_bytes()
        manifest = json.loads(text)
    except (OSError, ValueError) as error:
        _raise_if_unreached(folder, error)
        return f"{MANIFEST} is unreadable ({error})"
    if not isinstance(manifest, dict):
        return f"{MANIFEST} is no manifest"

    def compare(name: str) -> str | None:
        try:
            with reached(folder):
                found = _digest(folder / name)
        except OSError as error:
            _raise_if_unreached(folder, error)
            return f"{name} is missing or unreadable ({type(error).__name__})"
        return None if found == manifest[name] else f"{name} is not what was written"

    with ThreadPoolExecutor(4) as pool:
        damages = pool.map(compare, (name for name in manifest if name.startswith(part)))
        return next(filter(None, damages), None)


def _raise_if_unreached(folder: epath.Path, error: Exception) -> None:
    """A cloud that does not answer says nothing about the files there, as a disk does."""
    if is_cloud(folder) and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        raise error


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    for path in folder.iterdir():  # epath has no recursive glob
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _digest(path: epath.Path) -> dict[str, int | str]:
    sha, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            sha.update(chunk)
            size += len(chunk)
    return {"size": size, "sha256": sha.hexdigest()}
