"""Folders and zips of images, as they are: what they hold, not what a model wants of them."""

import abc
import copy
import json
import os
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from etils import epath
from PIL import Image

from inr_gan_jax.data import anything, checksums, cloud, images, labels
from inr_gan_jax.errors import UserError

PREPARE = "python -m inr_gan_jax.data.prepare"

_T = TypeVar("_T")
_UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class Store(abc.ABC):
    """Images by number, of any sizes. Picklable; safe with threads and in worker processes."""

    name: str  # Without the path that leads there.

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def where(self, index: int) -> str:
        """Names an image for a message."""

    @abc.abstractmethod
    def image(self, index: int) -> Image.Image:
        """Decodes an image; UserError that names it if that fails."""

    @abc.abstractmethod
    def labels(self) -> tuple[np.ndarray, int] | None:
        """(int64 [n], number of classes), or None without labels; UserError if they are wrong."""

    @abc.abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, where the data tell; () where they do not."""


class FileStore(Store):
    """Image files under one root, sorted by name, perhaps with a `dataset.json`."""

    def __init__(self, path: str, names: Iterable[str], every: bool = False):
        """`every`: all files that are not hidden, whatever they are; else those named as images."""
        self.path = path
        self.name = os.path.basename(path.rstrip("/"))
        names = sorted(names)
        self.names = list(filter(_is_file if every else _is_image, names))
        self.unread = [] if every else list(filter(_is_unread, names))
        if not self.names:
            kinds = ", ".join(suffix[1:] for suffix in images.SUFFIXES)
            raise UserError(f"{path} holds no images ({kinds}): give the folder or zip that does")
        self.root = _common_folder(self.names)  # "" or "wrapping/folders/"
        self._known = frozenset(self.names)
        # The folder of dataset.json: the store's own, or that which all images lie in.
        self._record_root = "" if self.has("dataset.json") else self.root
        self.record = self._read_record()

    def __len__(self) -> int:
        return len(self.names)

    def only(self, indices: Iterable[int]) -> "FileStore":
        """The same store with these of its files; labels of the others are no fault."""
        store = copy.copy(self)
        store.names = [self.names[index] for index in indices]
        store.root = _common_folder(store.names)
        return store

    def where(self, index: int) -> str:
        return f"{self.path}/{self.names[index]}"

    def image(self, index: int) -> Image.Image:
        return images.decode(self.read(index), self.where(index))

    @abc.abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Opens a file of the store for reading; the result is seekable."""

    @abc.abstractmethod
    def has(self, name: str) -> bool:
        """Whether the store holds a file of this name, image or not."""

    @abc.abstractmethod
    def checksums(self, progress: bool) -> list[tuple[int, int]]:
        """(length in bytes, CRC-32) of each image file; UserError for one that cannot be read."""

    def identities(self, progress: bool) -> tuple[list[tuple], list[tuple]]:
        """What tells these images from any others, wherever and however they are packed.

        (path below the folder that holds them all, length, CRC-32) of each; then the same as the
        first release took it, whose hash older run.json files hold.
        """
        sums = self.checksums(progress)
        below = (labels.same(name.removeprefix(self.root)) for name in self.names)
        return [(n, *s) for n, s in zip(below, sums, strict=True)], self._former(sums)

    @abc.abstractmethod
    def _former(self, sums: list[tuple[int, int]]) -> list[tuple]:
        """The first release's identity."""

    def read(self, index: int) -> bytes:
        """The bytes of a file; UserError that names it if they cannot be read."""
        try:
            with self.open(self.names[index]) as file:
                return file.read()
        except _UNREADABLE as error:
            raise UserError(_unreadable(self.where(index), error)) from error

    def look(self, index: int) -> anything.Found:
        """What the header of a file says, whatever its format, see `anything.look`."""
        return self._opened_by(anything.look, index)

    def inspect(self, index: int) -> anything.Found:
        """The same of a file that training is to read as it lies, see `anything.inspect`."""
        return self._opened_by(anything.inspect, index)

    def _opened_by(self, look: Callable[[BinaryIO, str], _T], index: int) -> _T:
        try:
            with self.open(self.names[index]) as file:
                return look(file, self.where(index))
        except _UNREADABLE as error:
            raise UserError(_unreadable(self.where(index), error)) from error

    def class_names(self) -> tuple[str, ...]:
        names = self.record.get("classes") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f'{self.path}/dataset.json: "classes" must be a list of names')
        return tuple(names)

    def labels(self) -> tuple[np.ndarray, int] | None:
        pairs = self.record.get("labels")
        if pairs is None:
            return None
        return labels.read(pairs, self.names, self._known, self._record_root, self.path)

    def _read_record(self) -> dict[str, Any]:
        name = f"{self._record_root}dataset.json"
        if not self.has(name):
            return {}
        where = f"{self.path}/{name}"
        try:
            with self.open(name) as file:
                record = json.loads(file.read().decode("utf-8-sig"))
        except (*_UNREADABLE, ValueError) as error:
            raise UserError(f"{where} is not valid JSON ({error}): repair or remove it") from error
        if not isinstance(record, dict):
            raise UserError(f'{where} must be an object such as {{"labels": [["name.png", 3]]}}')
        return record


class FolderStore(FileStore):
    """The image files in a folder and the folders in it."""

    def __init__(self, path: str, root: epath.Path, every: bool = False):
        """`path` is how the user calls the local folder `root`."""
        self._root = root
        try:
            names = [Path(file).relative_to(root).as_posix() for file in _files_below(root)]
        except OSError as error:
            raise UserError(_unreadable(path, error)) from error
        super().__init__(path, names, every)

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    def has(self, name: str) -> bool:
        return (self._root / name).exists()

    def checksums(self, progress: bool) -> list[tuple[int, int]]:
        try:
            return checksums.of_folder(self._root, self.names, progress)
        except OSError as error:
            raise UserError(_unreadable(error.filename or self.path, error)) from error

    def _former(self, sums: list[tuple[int, int]]) -> list[tuple]:
        return [(name, length) for name, (length, _) in zip(self.names, sums, strict=True)]


class ZipStore(FileStore):
    """The image files in a zip, which each process opens for itself."""

    def __init__(self, path: str, place: epath.Path, every: bool = False):
        """`path` is how the user calls the local file `place`."""
        self._place = place
        self._reset()
        try:
            entries = self._archive().infolist()
        except _UNREADABLE as error:
            raise UserError(
                f"{path} is not a readable zip ({error}): copy or make it again"
            ) from error
        # A program of Windows may write backslashes.
        written = [entry.filename for entry in entries if not entry.is_dir()]
        names = [name.replace("\\", "/") for name in written]
        self._entries = dict(zip(names, written, strict=True))
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{path} holds {twice} twice: make it again with each name once")
        super().__init__(path, names, every)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for handle in ("_lock", "_opened", "_pid"):
            del state[handle]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def open(self, name: str) -> BinaryIO:
        return self._archive().open(self._entries[name])

    def has(self, name: str) -> bool:
        return name in self._entries

    def checksums(self, progress: bool) -> list[tuple[int, int]]:
        entries = (self._archive().getinfo(self._entries[name]) for name in self.names)
        return [(entry.file_size, entry.CRC) for entry in entries]  # all in the zip's directory

    def _former(self, sums: list[tuple[int, int]]) -> list[tuple]:
        return [(self._entries[name], *s) for name, s in zip(self.names, sums, strict=True)]

    def _reset(self) -> None:
        self._lock, self._opened, self._pid = threading.Lock(), None, None

    def _archive(self) -> zipfile.ZipFile:
        if self._pid != os.getpid():  # After a fork, the offset of an open file is shared.
            with self._lock:
                if self._pid != os.getpid():
                    file = self._place.open("rb")
                    weakref.finalize(self, file.close)
                    self._opened = zipfile.ZipFile(file)
                    self._pid = os.getpid()
        return self._opened


def open_files(
    path: str, data_dir: str | None = None, progress: bool = True, every: bool = False
) -> FileStore:
    """Opens a folder or a `.zip`; UserError if it is neither, is not there or holds no image.

    `every`: all its files, not those alone that are named as images. What lies in a cloud is copied
    to a local disk first (see cloud.fetch).
    """
    place = epath.Path(path).expanduser()
    try:
        exists, is_folder = place.exists(), place.is_dir()
    except ImportError as error:
        raise UserError(f"{path} needs a package for cloud paths: {error}") from error
    except Exception as error:  # networks and credentials of clouds fail in any way
        raise UserError(f"{path} cannot be reached ({_reason(error)})") from error
    if not exists:
        raise UserError(f"{path} does not exist: check the path of the data")
    if not is_folder and not path.lower().endswith(".zip"):
        raise UserError(f"{path} is neither a folder nor a .zip: give one of these")
    path = os.fspath(place)
    if "://" in path:

        def wanted(names: list[str]) -> list[str]:
            if every:
                return [name for name in names if not _is_hidden(name)]
            refuse_unread(path, list(filter(_is_unread, names)))
            return list(filter(_is_data, names))

        place = epath.Path(cloud.fetch(path, wanted, data_dir, progress))
    return (FolderStore if is_folder else ZipStore)(path, place, every)


def refuse_unread(path: str, unread: list[str]) -> None:
    """UserError for image files of kinds that training does not read: they would be lost."""
    if unread:
        raise UserError(
            f"{path} holds {len(unread)} files of kinds that training does not read "
            f"({unread[0]}, ...): prepare the data with {PREPARE}, or move them away"
        )


def _is_data(name: str) -> bool:
    return name.split("/")[-1] == "dataset.json" or _is_image(name)


def _is_hidden(name: str) -> bool:
    """What systems put beside pictures: "__MACOSX/._name.png", ".DS_Store", "Thumbs.db"."""
    parts = name.split("/")
    return any(part.startswith((".", "__MACOSX", "@eaDir")) for part in parts) or (
        parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(images.SUFFIXES) and not _is_hidden(name)


def _is_unread(name: str) -> bool:
    return name.lower().endswith(images.OTHERS) and not _is_hidden(name)


def _is_file(name: str) -> bool:
    return name.split("/")[-1] != "dataset.json" and not _is_hidden(name)


def _files_below(folder: os.PathLike, above: tuple[str, ...] = ()) -> Iterator[str]:
    """All files below a folder, through links too, but not in a circle of them."""
    here = os.path.realpath(folder)
    if here not in above:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _files_below(entry.path, (*above, here))
                else:
                    yield entry.path


def _common_folder(names: list[str]) -> str:
    """The folders that all names begin with, each with its slash."""
    first, last = names[0].split("/")[:-1], names[-1].split("/")[:-1]  # they are sorted
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return "".join(f"{part}/" for part in first[:shared])


def _unreadable(where: str, error: Exception) -> str:
    return f"{where} cannot be read ({_reason(error)}): replace or remove it"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
