"""The order of images in a run, and the batches that a process reads of it.

Image k of a run is a function of (seed, k) alone: position k // n is an epoch, a permutation of the
n images of the data set; whether the image is mirrored depends on (seed, k). Processes, threads and
worker processes only share out the reading. In place of an image that cannot be read stands the
next one of the data set that can.
"""

import atexit
import logging
import shutil
import weakref

import grain
import numpy as np
from absl import flags

from inr_gan_jax.data.patches import Patches
from inr_gan_jax.data.sources import Source
from inr_gan_jax.data.workers import end_with_parent
from inr_gan_jax.errors import UserError

_SHARED = "/dev/shm"
_AHEAD = 2  # batches that each worker process has ready
_SHUFFLE, _MIRROR, _PATCH = 0, 1, 2  # Purposes of randomness: changing a number changes every run.


class Batches:
    """An endless iterator over batches. `close()` ends its threads and worker processes.

    Each image that cannot be read is named once, as an error in the log; UserError for the first
    beyond `max_skipped` of them.
    """

    def __init__(self, dataset: grain.IterDataset, source: Source, max_skipped: int):
        self._iterator = iter(dataset)
        self._source, self._max_skipped = source, max_skipped
        self._skipped: set[int] = set()
        # Grain's iterators complain on stderr if the interpreter ends before they are gone.
        atexit.register(_close, weakref.ref(self))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            raise StopIteration
        batch = next(self._iterator)
        for asked, skipped in zip(batch.pop("asked"), batch.pop("skipped"), strict=True):
            for index in range(asked, asked + skipped):
                self._note(index % len(self._source))
        return batch

    def close(self) -> None:
        """Ends the reading; the iterator then yields nothing more."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _note(self, index: int) -> None:
        if index in self._skipped:
            return
        self._skipped.add(index)
        try:  # once more: who found it may be another process
            self._source[index]
            fault = f"image {index} of {self._source.name} could not be read for a moment"
        except UserError as error:
            fault = str(error)
        if len(self._skipped) > self._max_skipped:
            raise UserError(_too_many(fault, self._max_skipped))
        logging.error("%s; others take its place (config.data.max_skipped)", fault)


def _close(iterator: weakref.ref) -> None:
    if (alive := iterator()) is not None:
        alive.close()


def batches(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    mirror: bool,
    process_index: int = 0,
    process_count: int = 1,
    start_image: int = 0,
    order: int = 0,
    threads: int = 2,
    workers: int = 0,
    max_skipped: int = 0,
) -> Batches:
    """Returns an endless iterator over this process's rows of every global batch.

    Global batch n is images n * batch_size to (n + 1) * batch_size - 1 of the run; process i of P
    takes its rows [i * b, (i + 1) * b), b = batch_size / P.

    Args:
      source: the data set, which may be smaller than a batch.
      seed: of the run, from 0.
      batch_size: of all processes together.
      mirror: whether to flip each image left to right with probability 1/2.
      process_index, process_count: i and P.
      start_image: the position to go on from, a multiple of batch_size.
      order: another number, another order: the image count at which a run changed its data.
      threads: how many threads of each process read ahead; 0 reads when asked.
      workers: how many worker processes read instead of this one.
      max_skipped: how many images of the data set may turn out to be unreadable.

    Yields:
      {"image": uint8 [b, H, W, C], "label": int32 [b]}, of Patches also "window" int32 [b, 3]:
      pixels of the whole picture's longer side, the patch's top row and left column. `close()` ends
      the threads and processes.

    Raises:
      UserError: sizes that do not divide; while reading, one image too many that cannot be read.
    """
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"a batch of {batch_size} images cannot be shared by {process_count} processes: "
            "use a multiple of their number"
        )
    if start_image < 0 or start_image % batch_size:
        raise UserError(
            f"cannot go on from image {start_image} in batches of {batch_size}: "
            "use the batch size that the run was started with"
        )
    start = start_image // batch_size * process_count + process_index
    mine = (
        _images(source, seed, mirror, max_skipped, order)
        .map(_named_fields)
        .batch(batch_size // process_count, drop_remainder=True)[start::process_count]
    )
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    dataset = mine.to_iter_dataset(reading)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags; a library has no command line.
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_AHEAD)
        batch = batch_size // process_count * source.height * source.width * source.channels
        if not _fits_shared_memory(workers * (_AHEAD + 2) * batch):  # or they would die of SIGBUS
            piped = grain.experimental.DatasetOptions(min_shm_size=1 << 62)
            dataset = grain.experimental.WithOptionsIterDataset(dataset, piped)
        dataset = dataset.mp_prefetch(processes, worker_init_fn=end_with_parent).map(_own_memory)
    return Batches(dataset, source, max_skipped)


def _fits_shared_memory(needed: int) -> bool:
    """Whether batches can go through shared memory; if there is too little, a warning says so."""
    try:
        free = shutil.disk_usage(_SHARED).free
    except OSError:  # another system's
        return True
    if needed > free:
        logging.warning(
            "%s has %.3g MB free, %.3g MB would be needed: the readers send images more slowly "
            "(docker run --shm-size=1g gives more)", _SHARED, free / 1e6, needed / 1e6
        )  # fmt: skip
    return needed <= free


def image_at(
    source: Source, seed: int, k: int, mirror: bool, max_skipped: int = 0
) -> tuple[np.ndarray, int]:
    """Image k of the run: (uint8 [H, W, C], label)."""
    return _images(source, seed, mirror, max_skipped)[k][:2]


class _Tolerant:
    """A source that gives the next image that can be read, and how many it skipped to get there."""

    def __init__(self, source: Source, max_skipped: int):
        self._source, self._max_skipped = source, max_skipped
        self._read = source.raw if isinstance(source, Patches) else source.__getitem__

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple:
        for skipped in range(self._max_skipped + 1):
            try:
                image, label = self._read((index + skipped) % len(self))
                return image, label, index, skipped
            except UserError as error:
                fault = str(error)
        raise UserError(_too_many(fault, self._max_skipped))


def _too_many(fault: str, allowed: int) -> str:
    if not allowed:
        return fault
    return f"{fault}: more than config.data.max_skipped = {allowed} images cannot be read"


def _images(
    source: Source, seed: int, mirror: bool, max_skipped: int, order: int = 0
) -> grain.MapDataset:
    """All images of the run, endlessly, by position."""
    images = (
        grain.MapDataset.source(_Tolerant(source, max_skipped))
        .shuffle(seed=_seed(seed, _SHUFFLE, order))
        .repeat()
    )
    if isinstance(source, Patches):
        images = images.random_map(source.patch, seed=_seed(seed, _PATCH, order))
    if not mirror:
        return images
    return images.random_map(_Mirror(source), seed=_seed(seed, _MIRROR, order))


def _seed(seed: int, purpose: int, order: int) -> int:
    # Grain adds the epoch to the seed of a shuffle: seeds 0 and 1 as they are would give the same
    # epochs, one apart.
    return int(np.random.SeedSequence([seed, purpose, *[order] * (order > 0)]).generate_state(1)[0])


class _Mirror:
    """Flips an image left to right with probability 1/2."""

    def __init__(self, source: Source):
        self._mirrored = source.mirrored if isinstance(source, Patches) else _flipped

    def __call__(self, item: tuple, random: np.random.Generator) -> tuple:
        return self._mirrored(item) if random.random() < 0.5 else item


def _flipped(item: tuple) -> tuple:
    image, *rest = item
    return image[:, ::-1], *rest


def _named_fields(item: tuple) -> dict[str, np.ndarray]:
    image, label, asked, skipped, *window = item
    return {
        "image": image,
        "label": np.int32(label),
        "asked": np.int64(asked),
        "skipped": np.int64(skipped),
    } | ({"window": window[0]} if window else {})


def _own_memory(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Workers hand over shared memory, which must not outlive them.
    return {key: np.array(value) for key, value in batch.items()}
