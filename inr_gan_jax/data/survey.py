"""What a folder or zip holds, before any of it is used: every header is read."""

import collections
import concurrent.futures
import os
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from inr_gan_jax.data import anything
from inr_gan_jax.data.stores import FileStore
from inr_gan_jax.errors import UserError

_THREADS = 8
_SHOWN = 10
_LARGE = 178_956_970  # pixels, from which Pillow would warn of a bomb


class Bad:
    """The files that are no readable images, up to a limit."""

    def __init__(self, total: int, limit: int | None):
        """`limit`: by default 1% of `total`, at least 10."""
        self.reasons: list[str] = []
        self._total = total
        self._limit = max(10, total // 100) if limit is None else limit

    def add(self, reason: str) -> None:
        """Notes a file. Raises UserError if they are too many."""
        self.reasons.append(reason)
        self.check()

    def lines(self) -> list[str]:
        """Each of them, and the count, if there are any."""
        total = [f"{len(self.reasons)} files were left out"] * bool(self.reasons)
        return [f"left out: {reason}" for reason in self.reasons] + total

    def check(self) -> None:
        """Raises UserError, with the first of them, if they are too many."""
        if len(self.reasons) > self._limit:
            more = len(self.reasons) - _SHOWN
            raise UserError(
                f"{len(self.reasons)} of {self._total} files cannot be used, more than "
                f"--max_bad={self._limit}: {'; '.join(self.reasons[:_SHOWN])}"
                f"{f'; and {more} more' if more > 0 else ''}: mend or remove them, raise "
                "--max_bad, or leave kinds out with --skip_kinds=txt,mp4"
            )


class Survey:
    """The headers of all files of a store, in order.

    Attributes:
      store: those that are images.
      found: what their headers say.
      bad: those that are not.
      skipped: how many files were passed over as the user asked.
    """

    def __init__(
        self,
        store: FileStore,
        *,
        skip_kinds: Collection[str] = (),
        max_bad: int | None = None,
        progress: bool = True,
    ):
        """Looks at all files but those whose suffix ("heic", "txt") is in `skip_kinds`.

        Raises UserError if more than `max_bad` (by default 1%, at least 10) are no images, or all.
        """
        wanted = [i for i, name in enumerate(store.names) if kind(name) not in skip_kinds]
        self.skipped = len(store) - len(wanted)
        self.bad = Bad(len(wanted), max_bad)
        good, self.found = [], []
        for index, result in zip(wanted, look(store, wanted, progress), strict=True):
            if isinstance(result, UserError):
                self.bad.reasons.append(str(result))
            else:
                good.append(index)
                self.found.append(result)
        self.bad.check()
        if not good:
            first = f" that can be read ({self.bad.reasons[0]})" if self.bad.reasons else ""
            raise UserError(
                f"{store.path} holds no images{first}: give the folder or zip that does"
            )
        self.store = store.only(good)

    @property
    def channels(self) -> int:
        """The fewest that hold every image: mixed transparency is laid over white."""
        if all(found.alpha for found in self.found):
            return 4
        return 1 if all(found.grey for found in self.found) else 3

    def lines(self, channels: int, frames: str) -> list[str]:
        """What was met, for people; `channels` and `frames` as they will be used."""
        modes = collections.Counter(found.mode for found in self.found)
        counts = ", ".join(f"{count} {mode}" for mode, count in modes.most_common())
        lines = [f"{len(self.found)} images ({counts}) become {_NAMES[channels]}"]
        alpha = sum(found.alpha for found in self.found)
        if alpha and channels != 4:
            lines.append(f"{alpha} transparent images are laid over white: --channels=4 keeps it")
        if deep := sum(found.deep for found in self.found):
            lines.append(f"{deep} images of more than 8 bits are scaled to 8")
        animated = sum(found.frames > 1 for found in self.found)
        if animated and frames == "first":
            lines.append(f"{animated} animations give their first frame: see --frames")
        height, width = max(
            (found.size for found in self.found), key=lambda size: size[0] * size[1]
        )
        if height * width > _LARGE:
            lines.append(f"the largest image is {width}x{height}: a worker needs its memory")
        if self.skipped:
            lines.append(f"{self.skipped} files are skipped by --skip_kinds")
        return lines

    def entries(self, frames: str) -> list[tuple[int, int]]:
        """(image, frame) of all that is wanted: the `first` frame, `all`, or at most so many."""
        most = {"first": 1, "all": None}[frames] if frames in ("first", "all") else int(frames)
        entries = []
        for index, found in enumerate(self.found):
            count = found.frames if most is None else min(found.frames, most)
            entries += [(index, number * found.frames // count) for number in range(count)]
        return entries


def kind(name: str) -> str:
    """The suffix of a file, without its dot, in small letters."""
    return os.path.splitext(name)[1].lower().removeprefix(".")


def folder_classes(store: FileStore) -> tuple[list[int], list[str]] | None:
    """(class of each image, names): the folders that divide them, by name; None if none does.

    Raises UserError where some images lie in such folders and others do not.
    """
    below = [name.removeprefix(store.root) for name in store.names]
    if all("/" not in name for name in below):
        return None
    for index, name in enumerate(below):
        if "/" not in name:
            where = store.where(index)
            raise UserError(f"{where} is in no folder, so it has no class: move it into one")
    folders = [name.split("/")[0] for name in below]
    names = sorted(set(folders))
    numbers = {folder: number for number, folder in enumerate(names)}
    return [numbers[folder] for folder in folders], names


def draw(classes: list[int] | None, total: int, most: int | None, seed: int) -> list[int]:
    """At most `most` of `total` numbers, in order: evenly of all classes, by chance within one."""
    if most is None or most >= total:
        return list(range(total))
    order = np.random.default_rng(seed).permutation(total)
    if classes is not None:
        turn, turns = collections.Counter(), []
        for index in order:
            turns.append(turn[classes[index]])
            turn[classes[index]] += 1
        order = order[np.argsort(turns, kind="stable")]  # each class's first, each one's second...
    return sorted(order[:most].tolist())


_NAMES = {1: "grey (L)", 3: "RGB", 4: "RGBA"}


def look(store: FileStore, wanted: Sequence[int], progress: bool) -> Iterator:
    """Per file what its header says, or the UserError that says why it is none."""

    def one(index: int) -> anything.Found | UserError:
        try:
            return store.look(index)
        except UserError as error:
            return error

    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    try:
        bar = tqdm(
            total=len(wanted), desc=f"looking at {store.name}", delay=2, disable=not progress
        )
        with bar:
            for result in pool.map(one, wanted, chunksize=64):
                bar.update()
                yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
