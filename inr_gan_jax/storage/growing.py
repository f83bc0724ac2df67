"""Files that grow while a run goes on: TensorBoard's events, and a plain log.

A run that was killed goes on from an earlier image count, and past what it has told already: it
first forgets what it told after that count. (TensorBoard has an event that says so, but its fast
loader does not know it.)
"""

import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from io import FileIO

from absl import logging
from etils import epath
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import is_cloud

EVENTS = "events.out.tfevents."  # what the names of event files begin with

_LARGE = 1 << 20  # bytes
_MOST = 1 << 27  # bytes that wait for a disk; what comes then is lost, as the warning says
_COUNTED = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +(\d+)  ")


class Growing:
    """A file that is appended to. A kill costs at most the end of the last piece.

    On a disk each piece is there at once; a cloud's files cannot grow: there each `flush` writes
    all of it anew. What cannot be written (the disk is full) is told once, waits in memory, and is
    made good by the next call, exactly where the file ends.
    """

    def __init__(self, path: epath.PathLike):
        self._path, self._file, self._waits = epath.Path(path), None, False
        if is_cloud(path):
            self._whole = bytearray(self._path.read_bytes() if self._path.exists() else b"")
            self._visible = len(self._whole)
        else:
            self._file = FileIO(os.fspath(self._path), "ab")
            self._rest = bytearray()

    def write(self, data: bytes) -> None:
        """Appends."""
        if self._file is None:
            self._whole += data
        elif len(self._rest) < _MOST:
            self._rest += data
            self.flush()

    def flush(self) -> None:
        """Makes what was written visible."""
        try:
            self._put_out()
            self._waits = False
        except Exception as error:  # networks fail in any way: no reason to end a run
            if not self._waits:
                self._waits = True  # first: the warning may itself be a line of this file
                logging.warning("%s cannot be written now, but later: %s", self._path, error)

    def _put_out(self) -> None:
        if self._file is not None:
            while self._rest:
                del self._rest[: self._file.write(self._rest)]
        elif self._visible < len(self._whole):
            with replaced(self._path) as file:
                file.write(bytes(self._whole))
            self._visible = len(self._whole)

    def close(self) -> None:
        """Writes the rest; nothing may be appended then."""
        self.flush()
        if self._waits:
            logging.error("the end of %s was never written", self._path)
        if self._file is not None:
            self._file.close()

    @property
    def is_costly(self) -> bool:
        """Whether it is time for another file, as each flush writes a lot."""
        return self._file is None and len(self._whole) > _LARGE


class Log:
    """Lines of text, each with its time and the run's image count: `2026-01-31 09:30:00  4000  ...`

    Nothing is written before `going_on_from`, or `close`, says which lines of earlier starts stay.
    """

    def __init__(self, path: epath.PathLike):
        self._path, self._file = epath.Path(path), None
        self._early: list[tuple[str, str]] = []

    def add(self, text: str, images: int) -> None:
        """Appends line by line."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        for line in text.splitlines():
            if self._file is None:
                self._early.append((now, line))
            else:
                self._write(now, images, line)

    def going_on_from(self, images: int) -> None:
        """Forgets the lines of earlier starts that tell of more images, and half a line."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before = self._path.read_bytes() if self._path.exists() else b""
        kept = b"".join(
            line
            for line in before.splitlines(keepends=True)
            if line.endswith(b"\n") and not _is_after(line, images)
        )
        if kept != before:
            with replaced(self._path) as file:
                file.write(kept)
        self._file = Growing(self._path)
        for now, line in self._early:
            self._write(now, images, line)

    def flush(self) -> None:
        """Makes what was written visible."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._file is None and self._early:  # the start failed: nothing is forgotten
            self.going_on_from(sys.maxsize)
        if self._file is not None:
            self._file.close()

    def _write(self, now: str, images: int, line: str) -> None:
        self._file.write(f"{now}  {images}  {line}\n".encode())


def _is_after(line: bytes, images: int) -> bool:
    counted = _COUNTED.match(line)
    return counted is not None and int(counted[1]) > images


def forget_events(folder: epath.Path, images: int) -> None:
    """Removes from the event files in a folder what is of more images, and half an event.

    For 0 images, all: then a run starts.
    """
    last = images or -1
    for path in sorted(folder.glob(f"{EVENTS}*")):
        whole = path.read_bytes()
        kept = [data for data, event in _events(whole) if event.step <= last or event.file_version]
        if len(kept) < 2 or path.suffix == ".tmp":  # only the version; or left by a killed start
            path.unlink()
        elif sum(map(len, kept)) < len(whole):
            with replaced(path) as file:
                file.write(b"".join(kept))


def events_in(folder: epath.Path) -> Iterator[Event]:
    """All that the event files in a folder tell, in their order."""
    for path in sorted(folder.glob(f"{EVENTS}*")):
        yield from (event for _, event in _events(path.read_bytes()))


def _events(whole: bytes) -> Iterator[tuple[bytes, Event]]:
    """The records of an event file, as they are, up to the first that is not whole.

    Of the last one the sum is checked too (of all it would take a minute for half a gigabyte): a
    crash of the machine may leave zeros from somewhere within it.
    """
    place, length = 0, _length(whole, 0)
    while length:
        end, data = place + length, whole[place : place + length]
        length = _length(whole, end)
        if not length and struct.unpack("<I", data[-4:])[0] != masked_crc32c(data[12:-4]):
            return
        try:
            event = Event.FromString(data[12:-4])
        except DecodeError:
            return
        yield data, event
        place = end


def _length(whole: bytes, place: int) -> int:
    """Bytes of the record that begins at `place`; 0: none does, or its end is missing."""
    if place + 12 > len(whole):
        return 0
    size, crc = struct.unpack("<QI", whole[place : place + 12])
    if crc != masked_crc32c(whole[place : place + 8]) or place + size + 16 > len(whole):
        return 0
    return size + 16
