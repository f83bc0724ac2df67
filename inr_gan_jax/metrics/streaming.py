"""A function over numbered images, on all devices of all processes, and what it gave, gathered.

A process computes its share on its own devices, so nothing is exchanged until the end. What an
image gives depends on its number alone, and rows are put in the order of numbers: the outcome does
not depend on how many processes and devices there are, but for the rounding of sums.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from inr_gan_jax.runtime.sharding import local_copy, make_mesh, over_batch, replicated

Rows = dict[str, np.ndarray]


class Stream:
    """`compute(arrays, batch) -> {name: [b, ...]}`, compiled once and run over many images.

    `arrays` are parameters, the same for all images. `batch_size` is that of each device.
    """

    def __init__(self, compute: Callable[[object, dict], dict], batch_size: int):
        self._function = compute
        self._mesh = make_mesh(jax.local_devices())
        self._size = batch_size * self._mesh.size
        self._whole, self._split = replicated(self._mesh), over_batch(self._mesh)
        self._compute = jax.jit(
            compute, in_shardings=(self._whole, self._split), out_shardings=self._split
        )

    def shapes(self, arrays: object, batch: Rows) -> dict[str, jax.ShapeDtypeStruct]:
        """What `compute` gives for a batch like this one, without computing it."""
        return jax.eval_shape(self._function, local_copy(arrays), batch)

    def run(
        self, arrays: object, read: Callable[[np.ndarray], Rows], count: int, what: str
    ) -> Iterator[tuple[np.ndarray, Rows]]:
        """Yields (numbers `[n]`, rows) of this process's share of images 0 to count - 1.

        `read(numbers)` makes a batch on the host, `[n, ...]` each. `what` names the progress bar.
        """
        processes = jax.process_count()
        starts = range(jax.process_index() * self._size, count, self._size * processes)
        arrays = jax.device_put(local_copy(arrays), self._whole)
        # Whole batches, compiled once: the last one begins again.
        numbers = [np.arange(start, start + self._size) for start in starts]
        bar = tqdm(total=count, desc=what, unit="image", delay=5, disable=jax.process_index() != 0)
        with ThreadPoolExecutor(1) as pool, bar:
            batches = [pool.submit(read, n % count) for n in numbers[:1]]
            running = []
            for i, chosen in enumerate(numbers):
                batch = batches.pop().result()
                if i + 1 < len(numbers):
                    batches.append(pool.submit(read, numbers[i + 1] % count))
                running.append((chosen, self._compute(arrays, jax.device_put(batch, self._split))))
                if len(running) > 1:  # one is computed while the one before is fetched
                    yield self._fetched(*running.pop(0), count, bar)
            for chosen, made in running:
                yield self._fetched(chosen, made, count, bar)

    @staticmethod
    def _fetched(numbers: np.ndarray, made: dict, count: int, bar: tqdm) -> tuple:
        valid = int(np.sum(numbers < count))
        bar.update(min(valid * jax.process_count(), count - bar.n))
        return numbers[:valid], {name: np.asarray(a)[:valid] for name, a in made.items()}


def gather(tree: Rows) -> list[Rows]:
    """The arrays of each process, in the order of processes, exact; they may differ in length."""
    if jax.process_count() == 1:
        return [tree]
    trees = [{} for _ in range(jax.process_count())]
    for name, array in tree.items():
        array = np.ascontiguousarray(array)
        counts = _all_gather(np.asarray([len(array)], np.int32))[:, 0]
        padded = np.zeros((counts.max(), *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        # As bytes: jax would make float32 of float64.
        made = _all_gather(padded.reshape(-1).view(np.uint8))
        for i, count in enumerate(counts):
            trees[i][name] = made[i].view(array.dtype).reshape(padded.shape)[:count]
    return trees


def gather_rows(numbers: np.ndarray, rows: Rows) -> Rows:
    """Rows of all processes in the order of their images' numbers."""
    parts = gather(rows | {"_number": numbers})
    order = np.argsort(np.concatenate([part["_number"] for part in parts]))
    return {name: np.concatenate([part[name] for part in parts])[order] for name in rows}


def _all_gather(array: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.process_allgather(array))
