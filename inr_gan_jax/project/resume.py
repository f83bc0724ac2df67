"""The file with which an interrupted search goes on."""

import hashlib
import json
import zipfile
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.project.fit import Projection, Settings
from inr_gan_jax.project.target import Photo, Scattered
from inr_gan_jax.storage.atomic import replaced


def identity(
    model,
    target: Photo | Scattered,
    settings: Settings,
    class_index: int | None,
    detectors: Sequence[str] = (),
) -> dict:
    """What decides every number of a search, as JSON; `detectors` are hashes of their weights."""
    return {
        "checkpoint": _digest(model.arrays),
        "target": _digest(vars(target)),
        "class_index": class_index,
        "detector_weights": list(detectors),
        **vars(settings),
    }


def _digest(tree) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf, order="C")
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()


def save(path: epath.Path, projection: Projection, identity: dict) -> None:
    """Writes how far a search is."""
    with replaced(path) as file:
        np.savez(file, identity=json.dumps(identity), **projection.state())


def restore(
    path: epath.Path, projection: Projection, identity: dict, *, overwrite: bool = False
) -> None:
    """Lets a search go on from a file, if there is one.

    Raises UserError, one line, for a file that is damaged or of another search, unless `overwrite`:
    then such a file counts for nothing.
    """
    if not path.exists():
        return
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = json.loads(str(arrays["identity"]))
            differing = [name for name in identity if saved[name] != identity[name]]
            if not differing:
                projection.restore(arrays)
            problem = f"is of another projection ({', '.join(differing)})" if differing else None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        problem = f"cannot be read ({error})"
    if problem and not overwrite:
        raise UserError(f"{path} {problem}: choose another --outdir, or say --overwrite")
