"""Arrays that are computed once and kept: a data set's statistics, under a hash of their origin."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
from absl import logging
from etils import epath

from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import cache_root

Arrays = dict[str, np.ndarray]


def cached(
    key: dict, make: Callable[[], Arrays], directory: epath.PathLike | None = None
) -> Arrays:
    """Returns `make()`, computed at the first call with this `key`, read from a file at later ones.

    Args:
      key: all that the arrays depend on, of types that JSON has; their order means nothing.
      make: computes arrays of numbers, by name.
      directory: the cache, by default `cache_root()`, or in a cloud. Files are in `statistics/`.

    Any number of processes may call this at the same time. A damaged file is written anew; a cache
    that cannot be written costs a warning. Raises TypeError for keys that JSON does not have,
    ValueError for arrays of other things than numbers.
    """
    found = lookup(key, directory)
    if found is None:
        found = {name: np.asarray(array) for name, array in make().items()}
        keep(key, found, directory)
    return found


def lookup(key: dict, directory: epath.PathLike | None = None) -> Arrays | None:
    """What was kept under this `key`, or None; a file that is damaged costs a warning."""
    try:
        path, text = _place(key, directory)
    except OSError:  # there is no cache
        return None
    try:
        return _read(path, text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # whatever a damaged file leads to
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        logging.warning("%s cannot be used and is made anew (%s)", path, reason)
        return None


def keep(key: dict, arrays: Arrays, directory: epath.PathLike | None = None) -> None:
    """Keeps arrays under `key`; if that cannot be written, the first time costs a warning."""
    where = "the cache folder"
    try:
        path, text = _place(key, directory)
        entries, where = _entries(arrays, text), path.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            np.savez(file, allow_pickle=False, **entries)
    except OSError as error:
        logging.log_first_n(
            logging.WARNING,
            "statistics are not kept, as %s cannot be written (%s): $INR_GAN_JAX_CACHE may name "
            "another folder",
            1,
            where,
            error.strerror or str(error) or type(error).__name__,
        )


def _place(key: dict, directory: epath.PathLike | None) -> tuple[epath.Path, str]:
    """The file of a key, and the key's canonical JSON."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    folder = cache_root() if directory is None else epath.Path(directory).expanduser()
    return folder / "statistics" / f"{hashlib.sha256(text.encode()).hexdigest()}.npz", text


def _entries(arrays: Arrays, text: str) -> Arrays:
    """What a file holds: the arrays, the key's JSON, and a SHA-256 of the arrays."""
    sha = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        if array.dtype.kind not in "biufc":
            raise ValueError(f"{name} is an array of {array.dtype}, not of numbers")
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return {
        "key": np.array(text),
        "sha256": np.array(sha.hexdigest()),
        **{f"arrays/{name}": array for name, array in arrays.items()},
    }


def _read(path: epath.Path, text: str) -> Arrays:
    """Raises OSError if there is none, and anything at all if it is not what `keep` wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as entries:
        found = {name: entries[name] for name in entries.files}
    if str(found["key"]) != text:
        raise ValueError("it has another key")
    arrays = {k.removeprefix("arrays/"): v for k, v in found.items() if k.startswith("arrays/")}
    if str(found["sha256"]) != str(_entries(arrays, text)["sha256"]):
        raise ValueError("its arrays are not those that were written")
    return arrays
