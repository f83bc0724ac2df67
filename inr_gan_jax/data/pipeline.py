"""The order of images in a run, and the batches that a process reads of it.

Image k of a run is a function of (seed, k) alone: position k // n is an epoch, a permutation of the
n images of the data set; whether the image is mirrored depends on (seed, k). Processes, threads and
worker processes only share out the reading.
"""

import atexit
import weakref

import grain
import numpy as np
from absl import flags

from inr_gan_jax.data.sources import Source
from inr_gan_jax.data.workers import end_with_parent
from inr_gan_jax.errors import UserError

_SHUFFLE, _MIRROR = 0, 1  # Purposes of randomness: changing a number changes every run.


class Batches:
    """An endless iterator over batches. `close()` ends its threads and worker processes."""

    def __init__(self, dataset: grain.IterDataset):
        self._iterator = iter(dataset)
        # Grain's iterators complain on stderr if the interpreter ends before they are gone.
        atexit.register(_close, weakref.ref(self))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._iterator is None:
            raise StopIteration
        return next(self._iterator)

    def close(self) -> None:
        """Ends the reading; the iterator then yields nothing more."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


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
    threads: int = 2,
    workers: int = 0,
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
      threads: how many threads of each process read ahead; 0 reads when asked.
      workers: how many worker processes read instead of this one.

    Yields:
      {"image": uint8 [b, H, W, C], "label": int32 [b]}. `close()` ends the threads and processes.

    Raises:
      UserError: sizes that do not divide; while reading, an image that cannot be decoded.
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
        _images(source, seed, mirror)
        .map(_named_fields)
        .batch(batch_size // process_count, drop_remainder=True)[start::process_count]
    )
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    dataset = mine.to_iter_dataset(reading)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags; a library has no command line.
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        dataset = dataset.mp_prefetch(processes, worker_init_fn=end_with_parent).map(_own_memory)
    return Batches(dataset)


def image_at(source: Source, seed: int, k: int, mirror: bool) -> tuple[np.ndarray, int]:
    """Image k of the run: (uint8 [H, W, C], label)."""
    return _images(source, seed, mirror)[k]


def _images(source: Source, seed: int, mirror: bool) -> grain.MapDataset:
    """All images of the run, endlessly, by position."""
    images = grain.MapDataset.source(source).shuffle(seed=_seed(seed, _SHUFFLE)).repeat()
    return images.random_map(_mirror, seed=_seed(seed, _MIRROR)) if mirror else images


def _seed(seed: int, purpose: int) -> int:
    # Grain adds the epoch to the seed of a shuffle: seeds 0 and 1 as they are would give the same
    # epochs, one apart.
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _mirror(item: tuple[np.ndarray, int], random: np.random.Generator) -> tuple[np.ndarray, int]:
    image, label = item
    return (image[:, ::-1] if random.random() < 0.5 else image), label


def _named_fields(item: tuple[np.ndarray, int]) -> dict[str, np.ndarray]:
    return {"image": item[0], "label": np.int32(item[1])}


def _own_memory(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Workers hand over shared memory, which must not outlive them.
    return {key: np.array(value) for key, value in batch.items()}
