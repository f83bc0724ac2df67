"""Files that are whole or absent, whenever a process dies and however many write."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import IO

from etils import epath
from etils.epath import backend

from inr_gan_jax.storage.paths import is_cloud, reached


@contextlib.contextmanager
def replaced(path: epath.PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write to, which takes the place of `path`, in one step, once it is whole.

    If the body raises, `path` stays as it was. The folder must exist, but not in a cloud, which has
    none. Raises OSError as files do.
    """
    path = epath.Path(path)
    if is_cloud(path):
        with _sent(path) as file:
            yield file
        return
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # a writer's own
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _sent(path: epath.Path) -> Iterator[IO[bytes]]:
    """The same in a cloud: nothing is seen of an upload before it is complete."""
    with reached(path):
        file = backend.fsspec_backend.fs(path).open(os.fspath(path), "wb", autocommit=False)
    try:
        yield file
        try:
            with reached(path):
                file.close()
                file.commit()
        except FileNotFoundError as error:  # which names a request
            raise FileNotFoundError(f"there is no bucket for {path}") from error
    except BaseException:
        with contextlib.suppress(Exception):  # what is left is unseen, and lapses
            file.discard()
        raise
