"""What a run tells its user: TensorBoard summaries, console and log, throughput, memory, warnings.

`SummaryWriter` has the interface of clu's MetricWriter, on tensorboard's own record format: clu's
writers would import TensorFlow.
"""

import contextlib
import io
import logging
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from clu.metrics import Average
from etils import epath
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto
from tqdm import tqdm

from inr_gan_jax.storage.growing import EVENTS, Growing, Log, forget_events

LOG = "log.txt"  # in a workdir
SHOWN = {"G": "loss/g", "D": "loss/d", "R1": "r1/penalty", "p": "augment/p"}  # on the console


def to_uint8(images: np.ndarray) -> np.ndarray:
    """[-1, 1] floats -> uint8, rounded and clipped."""
    return np.clip(np.rint(np.asarray(images) * 127.5 + 127.5), 0, 255).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image `[H, W, C]`, C in 1, 3, 4 -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "png")
    return buffer.getvalue()


def tile(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """uint8 images `[n, H, W, C]` -> one picture, row by row, with grey lines between them."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    picture = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), 128, np.uint8)
    for k, image in enumerate(images):
        top, left = gap + (k // columns) * (h + gap), gap + (k % columns) * (w + gap)
        picture[top : top + h, left : left + w] = image
    return picture


class SummaryWriter:
    """Writes TensorBoard events; the interface of `clu.metric_writers.MetricWriter`."""

    def __init__(self, directory: epath.PathLike):
        """The file is made with the first event."""
        self._directory = epath.Path(directory)
        self._file = None

    def going_on_from(self, images: int) -> None:
        """Forgets what earlier starts of the run wrote after `images`, or, for 0, all."""
        forget_events(self._directory, images)

    def _write(self, event: Event) -> None:
        if self._file is None:
            self._open()
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Readers go by name: this file must be the last, whatever the clocks of machines say.
        others = [
            re.match(r"\d+", p.name[len(EVENTS) :]) for p in self._directory.glob(f"{EVENTS}*")
        ]
        last = max((int(number[0]) for number in others if number), default=0)
        now = max(int(time.time()), last + 1)
        name = f"{EVENTS}{now}.{time.time_ns() % 10**9:09d}"
        self._file = Growing(self._directory / name)
        self._records = RecordWriter(self._file)
        self._write(Event(file_version="brain.Event:2"))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Numbers by tag, at an image count."""
        values = [Summary.Value(tag=k, simple_value=float(v)) for k, v in scalars.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Images are uint8 `[n, H, W, C]`; each is a picture of its own."""
        values = []
        for tag, batch in images.items():
            for i, image in enumerate(batch):
                height, width, channels = image.shape
                picture = Summary.Image(
                    height=height,
                    width=width,
                    colorspace=channels,
                    encoded_image_string=encode_png(image),
                )
                values.append(Summary.Value(tag=f"{tag}/{i}" if i else tag, image=picture))
        self._write(Event(step=step, summary=Summary(value=values)))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown by tag."""
        values = []
        for tag, text in texts.items():
            metadata = create_summary_metadata(display_name=tag, description="")
            tensor = make_tensor_proto([text.encode()], dtype=np.object_)
            values.append(Summary.Value(tag=tag, tensor=tensor, metadata=metadata))
        self._write(Event(step=step, summary=Summary(value=values)))

    def write_hparams(self, hparams: Mapping[str, object], step: int = 0) -> None:
        """The configuration as a table."""
        rows = "\n".join(f"| {key} | {value} |" for key, value in hparams.items())
        self.write_texts(step, {"config": f"| key | value |\n| --- | --- |\n{rows}"})

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        if self._file is not None:
            self._file.flush()
            if self._file.is_costly:
                self.close()

    def close(self) -> None:
        """Ends the file; what is written later goes to another one."""
        if self._file is not None:
            self._file.close()
            self._file = None


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

    def __init__(self, directory: epath.PathLike, total_images: int):
        self._speaks = jax.process_index() == 0
        self.writer = SummaryWriter(directory) if self._speaks else None
        self._log = Log(epath.Path(directory) / LOG) if self._speaks else None
        self._warnings = _Warnings(self._note)
        logging.getLogger().addHandler(self._warnings)
        self._total, self.images = total_images, 0
        self._pending: list[dict[str, jax.Array]] = []
        self.restart(0)

    def going_on_from(self, images: int) -> None:
        """Says how far the run is, before anything is reported.

        What earlier starts told of later images, in the log and in TensorBoard, is forgotten: it
        will be told again.
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
        """Means since the last report, speed and memory: to the console, TensorBoard and the log.

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
        """A uint8 picture `[H, W, C]` to TensorBoard."""
        if self.writer:
            self.writer.write_images(images, {tag: picture[None]})
            self.writer.flush()

    def hparams(self, values: Mapping[str, object]) -> None:
        """The configuration of this start to TensorBoard."""
        if self.writer:
            # One image later: another start from the same checkpoint then writes its own instead.
            self.writer.write_hparams(values, self.images and self.images + 1)

    def close(self) -> None:
        """Ends the event file and the log."""
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
        with contextlib.suppress(OSError):  # a full disk: the console has it
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
