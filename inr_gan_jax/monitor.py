"""What a run tells its user: TensorBoard summaries, console lines, throughput, warnings.

`SummaryWriter` has the interface of clu's MetricWriter, on tensorboard's own record format: clu's
writers would import TensorFlow.
"""

import contextlib
import io
import logging
import sys
import time
from collections.abc import Iterator, Mapping

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

    def _write(self, event: Event) -> None:
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{time.time_ns() % 10**9:09d}"
            self._file = (self._directory / name).open("wb")
            self._records = RecordWriter(self._file)
            self._write(Event(file_version="brain.Event:2"))
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

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

    def write_hparams(self, hparams: Mapping[str, object]) -> None:
        """The configuration as a table."""
        rows = "\n".join(f"| {key} | {value} |" for key, value in hparams.items())
        self.write_texts(0, {"config": f"| key | value |\n| --- | --- |\n{rows}"})

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()


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

    Only `report` synchronises. Quiet in all processes but the first.
    """

    def __init__(self, directory: epath.PathLike, total_images: int):
        self._speaks = jax.process_index() == 0
        self.writer = SummaryWriter(directory) if self._speaks else None
        self._total = total_images
        self._pending: list[dict[str, jax.Array]] = []
        self.restart(0)

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

    def say(self, line: str) -> None:
        """One line on the console."""
        if self._speaks:
            print(line, flush=True)

    def report(self, images: int) -> dict[str, float]:
        """Means since the last report: to the console and TensorBoard; returns them."""
        values = self._means()
        now = time.perf_counter()
        speed, left = "compiled", "?"  # until an iteration ran that compiled nothing
        if images > self._images_before:
            rate = (images - self._images_before) / max(now - self._clock - self._paused, 1e-9)
            values["images_per_second"] = rate
            speed, left = f"{rate:.3g} images/s", duration(max(self._total - images, 0) / rate)
        self.restart(images)
        memory = jax.local_devices()[0].memory_stats() or {}
        if "peak_bytes_in_use" in memory:
            values["device_peak_gib"] = memory["peak_bytes_in_use"] / 2**30
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
        self.say(f"kimg {images / 1000:.1f}/{self._total / 1000:g}  {speed}  left {left}  {shown}")
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
        """The configuration to TensorBoard."""
        if self.writer:
            self.writer.write_hparams(values)

    def close(self) -> None:
        """Ends the event file."""
        if self.writer:
            self.writer.close()
        sys.stdout.flush()
