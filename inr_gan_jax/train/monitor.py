"""What a run tells its user: curves, console and log, throughput, memory, warnings."""

import contextlib
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from clu.metrics import Average
from etils import epath
from tqdm import tqdm

from inr_gan_jax.storage.growing import Log
from inr_gan_jax.storage.later import Later
from inr_gan_jax.storage.writers import writer_of

LOG = "log.txt"  # in a workdir
SHOWN = {"G": "loss/g", "D": "loss/d", "R1": "r1/penalty", "p": "augment/p"}  # on the console


def duration(seconds: float) -> str:
    """`45s`, `3m20s`, `5h07m`, `2d03h`."""
    s = int(max(seconds, 0) + 0.5)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    if s < 86400:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 86400}d{s % 86400 // 3600:02d}h"


class Monitor:
    """Gathers metrics without waiting for the device, and reports them when asked.

    Only `report` synchronises. Quiet in all processes but the first. What it says on the console,
    and warnings of any part, are also lines of the workdir's `log.txt`, with the image count
    `images`, which whoever trains keeps up to date.
    """

    def __init__(self, directory: epath.PathLike, total_images: int, mirrors: Sequence[str] = ()):
        """`mirrors`: programs that are told what TensorBoard is (see storage.writers.writer_of)."""
        self._speaks = jax.process_index() == 0
        self.writer = writer_of(mirrors, directory)
        self._log = Log(epath.Path(directory) / LOG) if self._speaks else None
        self._later = Later()
        self._warnings = _Warnings(self._note)
        logging.getLogger().addHandler(self._warnings)
        self._total, self.images = total_images, 0
        self._pending: list[dict[str, jax.Array]] = []
        self.restart(0)

    def going_on_from(self, images: int) -> None:
        """Says how far the run is, before anything is reported.

        What earlier starts told of later images, in the log and in TensorBoard, is forgotten: it
        will be told again. Other writers get what they lack of what stays.
        """
        self.images = images
        self.restart(images)
        if self._speaks:
            self._log.going_on_from(images)
            self.writer.going_on_from(images)

    def add(self, metrics: list[dict[str, jax.Array]]) -> None:
        """Keeps the metrics of each phase of an iteration, still on the device."""
        self._pending += metrics

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within is no training time: pictures, checkpoints."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def restart(self, images: int) -> None:
        """Starts measuring speed anew at `images`: what was before was compilation."""
        self._clock, self._paused, self._images_before = time.perf_counter(), 0.0, images

    def say(self, text: str) -> None:
        """Lines on the console and in the log."""
        if self._speaks:
            tqdm.write(text)
            sys.stdout.flush()
            self._note(text)

    def report(self, images: int) -> dict[str, float]:
        """Means since the last report, speed and memory: to the console, the writers and the log.

        Returns them; `*_gib` are of the fullest device of this process where devices tell, else of
        the process.
        """
        self.images, values = images, self._means()
        now = time.perf_counter()
        speed, left = "compiled", "?"  # until an iteration ran that compiled nothing
        if images > self._images_before:
            rate = (images - self._images_before) / max(now - self._clock - self._paused, 1e-9)
            values["images_per_second"] = rate
            speed, left = f"{_short(rate)} images/s", duration(max(self._total - images, 0) / rate)
            if jax.device_count() > 1:
                values["images_per_second_per_device"] = rate / jax.device_count()
                speed += f" ({_short(rate / jax.device_count())} per device)"
        self.restart(images)
        memory = _memory()
        values |= memory
        bad = sum(v for k, v in values.items() if k.startswith("nonfinite/"))
        if bad:
            logging.warning(
                "%d non-finite gradient values were replaced since the last report", bad
            )
        if self.writer:
            self.writer.write_scalars(images, values)
            self.writer.flush()
        shown = " ".join(
            f"{name} {values[key]:.3f}" for name, key in SHOWN.items() if key in values
        )
        parts = [f"kimg {images / 1000:.1f}/{self._total / 1000:g}", speed, f"left {left}", shown]
        parts.append(f"mem {max(memory.values()):.1f} GiB")
        self.say("  ".join(filter(None, parts)))
        if self._log:
            self._log.flush()
        self._later.retry()
        return values

    def _means(self) -> dict[str, float]:
        """Averages of the pending metrics; counts of non-finite values are summed."""
        averages: dict[str, Average] = {}
        counts: dict[str, float] = {}
        for metrics in jax.device_get(self._pending):
            for key, value in metrics.items():
                if key.startswith("nonfinite/"):
                    counts[key] = counts.get(key, 0) + int(value)
                else:
                    one = Average(total=np.float64(value), count=np.float64(1))
                    averages[key] = averages[key].merge(one) if key in averages else one
        self._pending = []
        return {k: float(v.total / v.count) for k, v in averages.items()} | counts

    def picture(self, images: int, tag: str, picture: np.ndarray) -> None:
        """A uint8 picture `[H, W, C]` to the writers."""
        if self.writer:
            self.writer.write_images(images, {tag: picture[None]})
            self.writer.flush()

    def keep(self, path: epath.PathLike, data: bytes) -> bool:
        """Writes a file of the workdir (the first process does): whether it did, or will later."""
        return not self._speaks or self._later.write(path, data)

    def hparams(self, values: Mapping[str, object]) -> None:
        """The configuration of this start to the writers."""
        if self.writer:
            # One image later: another start from the same checkpoint then writes its own instead.
            self.writer.write_hparams(values, self.images and self.images + 1)

    def close(self) -> None:
        """Ends the event file and the log, and tries once more what could not be written."""
        self._later.close()
        logging.getLogger().removeHandler(self._warnings)
        if self._speaks:
            self.writer.close()
            self._log.close()
        sys.stdout.flush()

    def _note(self, text: str) -> None:
        if self._log:
            self._log.add(text, self.images)


class _Warnings(logging.Handler):
    """Hands over what any part of the program warns of."""

    def __init__(self, note: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"{record.levelname.lower()}: {record.getMessage()}")


def _short(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 1000 else f"{rate:.3g}"


def _memory() -> dict[str, float]:
    """GiB in use and at most of this process's fullest device, or at most of the process itself."""
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    told = [stats for stats in told if "peak_bytes_in_use" in stats]
    if told:
        fullest = max(told, key=lambda stats: stats["peak_bytes_in_use"])
        names = {"device_gib": "bytes_in_use", "device_peak_gib": "peak_bytes_in_use"}
        return {name: fullest[key] / 2**30 for name, key in names.items()}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, else KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"process_peak_gib": peak / 2**30}
