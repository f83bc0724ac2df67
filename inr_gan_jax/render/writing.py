"""What all kinds of files need: encoding, and a journal of unfinished ones."""

import hashlib
import json

import jax
import numpy as np
from etils import epath

from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import View
from inr_gan_jax.storage.atomic import replaced


class Journal:
    """The JSON file beside an unfinished one: whose beginning that is, and how far it got."""

    def __init__(self, path: epath.PathLike, image: Tiled, view: View, **settings):
        """`settings`: whatever else decides the bytes of the file."""
        self._path = epath.Path(path)
        identity = {"parameters": fingerprint(image.params), "dtype": image.dtype}
        identity |= {"view": vars(view), **settings}
        self._identity = json.loads(json.dumps(identity, default=str))

    def done(self) -> int | None:
        """How many tiles this very render has finished; None: there is no journal of it."""
        try:
            entry = json.loads(self._path.read_text())
            return int(entry["done"]) if entry["render"] == self._identity else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, done: int) -> None:
        """Notes that `done` tiles are finished."""
        with replaced(self._path) as file:
            file.write(json.dumps({"render": self._identity, "done": done}, indent=1).encode())

    def remove(self) -> None:
        """The file is whole: no journal is needed."""
        self._path.unlink(missing_ok=True)


def fingerprint(params: InrParams) -> str:
    """A hash of everything about one image."""
    digest = hashlib.sha256(repr(params.spec).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((params.shared, params.image)):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf, order="C"))
    return digest.hexdigest()
