"""TensorBoard's events, written in its own record format: clu's writers would import TensorFlow."""

import re
import time
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.storage.growing import EVENTS, Growing, events_in, forget_events
from inr_gan_jax.storage.mirror import Mirror


class SummaryWriter:
    """Writes TensorBoard events; the interface of `clu.metric_writers.MetricWriter`.

    Whatever it writes goes to its mirrors, too: other programs that are told the same.
    """

    def __init__(self, directory: epath.PathLike, mirrors: Sequence[Mirror] = ()):
        """The file is made with the first event."""
        self._directory, self._mirrors = epath.Path(directory), mirrors
        self._file = None

    def going_on_from(self, images: int) -> None:
        """Forgets what earlier starts of the run wrote after `images`, or, for 0, all.

        Mirrors get what they lack of the rest.
        """
        forget_events(self._directory, images)
        for mirror in self._mirrors:
            mirror.catch_up(events_in(self._directory))

    def _write(self, event: Event) -> None:
        if self._file is None:
            self._open()
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        for mirror in self._mirrors:
            mirror.put(event)

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
        for mirror in self._mirrors:
            mirror.configure(hparams)

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        if self._file is not None:
            self._file.flush()
            if self._file.is_costly:
                self._end()

    def close(self) -> None:
        """Ends the file, and what mirrors it: nothing may be written then."""
        self._end()
        for mirror in self._mirrors:
            mirror.close()

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
