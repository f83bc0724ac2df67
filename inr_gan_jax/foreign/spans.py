"""Bytes of a file that are not read yet: where they lie, and how they are read when wanted."""

import contextlib
import errno
import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from etils import epath

CHUNK = 1 << 24  # bytes read at a time


class Span:
    """`length` bytes from `start` on, of an open file (a descriptor) or of bytes in memory."""

    def __init__(self, origin: int | bytes, start: int, length: int):
        self._origin, self._start, self._length = origin, start, length

    def __len__(self) -> int:
        return self._length

    def part(self, start: int, length: int) -> "Span":
        """Some of them; ValueError where there are not so many."""
        if start < 0 or length < 0 or start + length > self._length:
            raise ValueError("it ends before its storages do")
        return Span(self._origin, self._start + start, length)

    def into(self, buffer) -> None:
        """Reads all of them into a writable buffer of this length."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < self._length:
            end = min(done + CHUNK, self._length)
            count = self._read(done, view[done:end])
            if not count:
                raise ValueError("it ends before its storages do")
            done += count

    def bytes(self) -> bytes:
        """All of them."""
        buffer = bytearray(self._length)
        self.into(buffer)
        return bytes(buffer)

    def crc32(self) -> int:
        """The CRC-32 of all of them, never in memory at once."""
        crc, buffer = 0, bytearray(min(CHUNK, self._length))
        for start in range(0, self._length, CHUNK):
            part = memoryview(buffer)[: min(CHUNK, self._length - start)]
            self.part(start, len(part)).into(part)
            crc = zlib.crc32(part, crc)
        return crc

    def open(self) -> "SpanFile":
        """A file of just these bytes."""
        return SpanFile(_Raw(self))

    def _read(self, start: int, buffer) -> int:
        at = self._start + start
        if isinstance(self._origin, bytes):
            found = self._origin[at : at + len(buffer)]
            buffer[: len(found)] = found
            return len(found)
        return os.preadv(self._origin, [buffer], at)


class SpanFile(io.BufferedReader):
    """The bytes of `span`, as a file that allocates nothing for bytes it has not."""

    @property
    def span(self) -> Span:
        """All of them."""
        return self.raw.span

    def read(self, count: int | None = -1) -> bytes:
        """At most `count` bytes, whatever that is."""
        left = max(0, len(self.span) - self.tell())
        return super().read(left if count is None or count < 0 else min(count, left))


class _Raw(io.RawIOBase):
    def __init__(self, span: Span):
        self.span, self._at = span, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self.span))[whence])
        return self._at

    def readinto(self, buffer) -> int:
        count = max(0, min(len(buffer), len(self.span) - self._at))
        if count:
            self.span.part(self._at, count).into(memoryview(buffer)[:count])
        self._at += count
        return count


@contextlib.contextmanager
def opened(path: epath.PathLike) -> Iterator[Span]:
    """A whole file, local or in a cloud (which is copied to the local temporary folder first)."""
    path = epath.Path(path)
    with contextlib.ExitStack() as stack:
        local = os.fspath(path)
        if "://" in local:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            local = str(Path(folder) / path.name)
            path.copy(local)
        if Path(local).exists() and not Path(local).is_file():  # a pipe would wait for ever
            raise OSError(errno.EINVAL, "it is no ordinary file")
        file = stack.enter_context(open(local, "rb"))
        yield Span(file.fileno(), 0, os.fstat(file.fileno()).st_size)
