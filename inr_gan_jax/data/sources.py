"""What training reads: images of exactly the model's size and channels, checked before use."""

import concurrent.futures
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from inr_gan_jax.data import anything, images
from inr_gan_jax.data.labels import gaps, require_few
from inr_gan_jax.data.named import DigitsStore, NamedStore, TfdsStore
from inr_gan_jax.data.stores import PREPARE, FileStore, Store, ZipStore, open_files, refuse_unread
from inr_gan_jax.errors import UserError

_SCAN_THREADS = 8
_SCAN_CHUNK = 64


class Source:
    """Random access to (image, label): uint8 [height, width, channels] in 0..255, int.

    Labels are 0 and `num_classes` is 0 unless labels were asked for; `class_names` are those that
    the data have, or none. `content_hash` (SHA-256, hex) depends on the data alone, not on where it
    lies: a folder and a zip of the same files are the same. `former_hashes` are those that earlier
    releases gave to the same data. `prepared` is what `data.prepare` noted of how
    it made the images (the filter that resized them, ...), None for other files. Picklable; safe
    with threads and in worker processes. Reading an image that cannot be decoded raises a UserError
    that names it.
    """

    def __init__(
        self,
        store: Store,
        *,
        height: int,
        width: int,
        channels: int,
        labels: tuple[np.ndarray, int] | None,
        identity: list,
        former_identities: Sequence[list] = (),
        class_names: tuple[str, ...] = (),
    ):
        self.name = store.name
        self.prepared = store.record.get("prepared") if isinstance(store, ZipStore) else None
        self.class_names = class_names
        self.height, self.width, self.channels = height, width, channels
        self._store = store
        self._labels, self.num_classes = (None, 0) if labels is None else labels
        self.content_hash = self._hash(identity)
        self.former_hashes = tuple(map(self._hash, former_identities))

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        index = range(len(self))[index]
        image, where = self._store.image(index), self._store.where(index)
        size = (self.width, self.height)
        if image.size != size:
            if not isinstance(self._store, NamedStore):
                now = _by(image.size[::-1])
                raise UserError(f"{where} is {now} now: it changed after the start, start again")
            image = image.resize(size, Image.Resampling.LANCZOS)
        label = 0 if self._labels is None else int(self._labels[index])
        return images.to_pixels(image, self.channels, where), label

    def _hash(self, identity: list) -> str:
        stored = None if self._labels is None else self._labels.tolist()
        whole = json.dumps([identity, self.height, self.width, self.channels, stored])
        return hashlib.sha256(whole.encode()).hexdigest()

    @property
    def class_counts(self) -> np.ndarray | None:
        """How many images each class has: int64 [num_classes], or None without labels."""
        if self._labels is None:
            return None
        return np.bincount(self._labels, minlength=self.num_classes).astype(np.int64)


def open_source(
    source: str,
    *,
    height: int,
    width: int,
    channels: int,
    labels: bool,
    data_dir: str | None = None,
    progress: bool = True,
) -> Source:
    """Opens a data set and checks all of it, without decoding, so that training need not stop.

    Args:
      source: `digits`, `tfds:NAME[/config][:split]` (the train split by default), or the path of a
        folder or `.zip` of images, which may be a cloud path. Images of files must have the size
        asked for. Named data sets, whose sizes are often no powers of two (28x28), are resized to
        it with a Lanczos filter, and must have its aspect ratio.
      height, width: the model's size in pixels.
      channels: 1 (grey), 3 (RGB) or 4 (RGBA). Palettes count as RGB or RGBA.
      labels: whether classes are needed.
      data_dir: where TFDS keeps its data, and copies of what lies in a cloud.
      progress: whether to show a bar if copying or checking takes more than two seconds.

    Raises:
      UserError: one line that names the file at fault and what to do.
    """
    if channels not in images.MODES:
        raise UserError(f"a model of {channels} channels has no data: use 1, 3 or 4")
    store = open_store(source, data_dir, progress)
    if isinstance(store, FileStore):
        _check_files(store, (height, width), channels, progress)
        identity, *former = store.identities(progress)
    else:
        _check_named(store, (height, width), channels)
        identity, former = store.identity(), []
    classes = labels_of(store, source) if labels else None
    if classes is not None and progress and (line := gaps(*classes)):
        tqdm.write(f"{source}: {line}", file=sys.stderr)
    return Source(
        store,
        height=height,
        width=width,
        channels=channels,
        labels=classes,
        identity=identity,
        former_identities=former,
        class_names=() if classes is None else store.class_names(),
    )


def labels_of(store: Store, source: str) -> tuple[np.ndarray, int]:
    """(int64 [n], number of classes); UserError where `source` has none, or too many of them."""
    classes = store.labels()
    if classes is None:
        raise UserError(
            f"{source} has no labels, but the model is class-conditional: "
            f"add a dataset.json with labels ({PREPARE} --labels=folders makes one), "
            "or train without classes"
        )
    require_few(classes[0], source)
    return classes


def open_at_own_size(source: str, *, channels: int, data_dir: str | None = None) -> Source:
    """As `open_source`, without labels, whatever size the images have: that of the first one.

    Raises UserError where the images are not all of one size, or not of `channels`.
    """
    store = open_store(source, data_dir, True)
    if isinstance(store, FileStore):
        height, width = store.inspect(0).size
    elif store.size is not None:
        height, width = store.size
    else:
        raise UserError(f"the images of {store.name} have no common size")
    return open_source(
        source, height=height, width=width, channels=channels, labels=False, data_dir=data_dir
    )


def open_store(source: str, data_dir: str | None, progress: bool, every: bool = False) -> Store:
    """Opens a data set as it is, images of any size; `source` as in `open_source`.

    `every`: with all files of a folder or zip, not those alone that training reads.
    """
    if source == "digits":
        return DigitsStore()
    if source.startswith("tfds:"):
        return TfdsStore(source, data_dir, progress)
    return open_files(source, data_dir, progress, every)


def _check_named(store: NamedStore, size: tuple[int, int], channels: int) -> None:
    how = f"prepare it with {PREPARE} --source={store.name} --crop=center"
    if store.size is None:
        raise UserError(f"the images of {store.name} have no common size: {how}")
    if store.size[0] * size[1] != store.size[1] * size[0]:
        raise UserError(
            f"the images of {store.name} are {_by(store.size)}, which is not the shape of the "
            f"model's {_by(size)}: {how}"
        )
    if store.channels != channels:
        mode = images.MODES.get(store.channels, "of varying channels")
        raise UserError(images.wrong_channels(f"every image of {store.name}", mode, channels))


def _check_files(store: FileStore, size: tuple[int, int], channels: int, progress: bool) -> None:
    """Checks every file's header and end."""
    refuse_unread(store.path, store.unread)
    record = store.record.get("prepared") if isinstance(store, ZipStore) else None
    if record is not None:
        _check_record(store, record)
        headers = [store.inspect(0)]  # The record speaks for the others.
    else:
        headers = list(_scan(store, progress))
    for index, header in enumerate(headers):
        if header.size != headers[0].size:
            raise UserError(
                f"{store.where(index)} is {_by(header.size)} but {store.names[0]} is "
                f"{_by(headers[0].size)}: make all images one size with {PREPARE}"
            )
    if headers[0].size != size:
        raise UserError(
            f"the images of {store.path} are {_by(headers[0].size)}, but the model's are "
            f"{_by(size)}: resize them with {PREPARE} --height={size[0]} --width={size[1]}"
        )
    for index, header in enumerate(headers):
        if header.channels != channels:
            raise UserError(images.wrong_channels(store.where(index), header.plain, channels))


def _check_record(store: ZipStore, record: dict) -> None:
    """Raises unless the record that `prepare` left in a zip fits what the zip holds."""
    first = store.inspect(0)
    found = {
        "count": len(store),
        "height": first.size[0],
        "width": first.size[1],
        "channels": first.channels,
    }
    for key, value in found.items():
        if not isinstance(record, dict) or record.get(key) != value:
            said = record.get(key) if isinstance(record, dict) else record
            raise UserError(
                f"{store.path} was changed after it was prepared (its record says {key} {said}, "
                f"it holds {value}): prepare it again with {PREPARE}"
            )


def _scan(store: FileStore, progress: bool) -> Iterator[anything.Found]:
    """The headers of all files, in order; raises at the first that is not in order."""
    starts = range(0, len(store), _SCAN_CHUNK)

    def inspect_chunk(start: int) -> list[anything.Found]:
        return [store.inspect(i) for i in range(start, min(start + _SCAN_CHUNK, len(store)))]

    pool = concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS)
    try:
        with tqdm(
            total=len(store), desc=f"checking {store.name}", delay=2, disable=not progress
        ) as bar:
            for headers in pool.map(inspect_chunk, starts):
                bar.update(len(headers))
                yield from headers
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _by(size: tuple[int, int]) -> str:
    """(height, width) in words, width first as everyone says it."""
    return f"{size[1]}x{size[0]}"
