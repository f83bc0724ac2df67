"""Files that are whole or absent, whenever a process dies and however many write."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import IO

from etils import epath


@contextlib.contextmanager
def replaced(path: epath.PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write to, which takes the place of `path`, in one rename, once it is whole.

    If the body raises, `path` stays as it was. The folder must exist; raises OSError as files do.
    """
    path = epath.Path(path)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # a writer's own
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
