"""What shows how a run learns: grids of images, and metrics."""

import collections
import itertools
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from etils import epath

from inr_gan_jax.config import Config
from inr_gan_jax.config.metric_names import parse_names
from inr_gan_jax.data.sources import Source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics.evaluate import Evaluator
from inr_gan_jax.metrics.results import Results, forget
from inr_gan_jax.model import Model
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import tile, to_uint8
from inr_gan_jax.runtime.processes import by_first
from inr_gan_jax.runtime.sharding import together
from inr_gan_jax.storage.checkpoint import FOLDER as CHECKPOINTS
from inr_gan_jax.train.monitor import Monitor
from inr_gan_jax.train.state import TrainState


class Watch:
    """Looks at the averaged generator while it learns.

    Grids of images are PNG files and in TensorBoard, metrics (`config.evaluate`) lines of JSON, on
    the console and in TensorBoard. Detectors are opened at once, so that weights that cannot be had
    are known before the training starts.
    """

    FOLDER = "samples"

    def __init__(
        self,
        config: Config,
        source: Source,
        workdir: epath.Path,
        monitor: Monitor,
        detector_weights: Sequence[epath.PathLike] = (),
    ):
        self._config, self._monitor, self._workdir = config, monitor, workdir
        self._source = source
        count, classes = config.log.grid_size, config.model.num_classes
        if 0 < classes <= count:  # a row per class
            self._columns = count // classes
            self._classes = np.repeat(np.arange(classes), self._columns)
            count = len(self._classes)
        elif classes:  # some of them, evenly
            self._columns = int(np.ceil(np.sqrt(count)))
            self._classes = np.linspace(0, classes - 1, count).round().astype(int)
        else:
            self._columns, self._classes = int(np.ceil(np.sqrt(count))), None
        self._seeds = np.arange(count)
        counts = source.class_counts if classes else ()
        self._model = Model(config, {}, {}, None, class_counts=counts)
        self._results = None
        if config.evaluate.kimg > 0:
            evaluator = Evaluator(self._model, source, config.evaluate, detector_weights)
            below = config.evaluate.collapse_below
            self._results = Results(
                evaluator, workdir, monitor.writer, below, monitor.say, monitor.keep
            )
        self._start, self.drawn, self.measured = 0, False, False

    def going_on_from(self, images: int) -> None:
        """Says how far the run is, before anything else; all processes make this call.

        What earlier starts measured later is forgotten. `drawn` and `measured` tell from then on
        whether they left the grid and all metrics of `images`.
        """
        self._start = images
        self.drawn, self.measured = by_first(self._find)

    def _find(self) -> list[bool]:
        known = forget(self._workdir, self._start)
        if self._results:
            self._results.known = known
        wanted = parse_names(self._config.evaluate.metrics)
        drawn = self._start > 0 and self._place(self._name(self._start)).exists()
        return [drawn, {(metric.name, self._start / 1000) for metric in wanted} <= known]

    def real(self) -> None:
        """`real.png`, once in a run: images of the data set, by class where there are classes."""
        if jax.process_index() or (self._start and self._place("real").exists()):
            return
        source, rng = self._source, np.random.default_rng(0)
        blank = np.zeros((source.height, source.width, source.channels), np.uint8)
        readable = self._readable(rng.permutation(len(source))[: len(self._seeds) * 20])
        if self._classes is None:
            images = [image for image, _ in itertools.islice(readable, len(self._seeds))]
        else:
            wanted = collections.Counter(self._classes.tolist())
            by_class = {c: [] for c in wanted}
            for image, label in readable:
                if len(by_class.get(label, ())) < wanted[label]:
                    by_class[label].append(image)
                if all(len(row) == wanted[c] for c, row in by_class.items()):
                    break
            images = [
                image
                for c, row in by_class.items()
                for image in row + [blank] * (wanted[c] - len(row))
            ]
        self._write("real", np.stack(images or [blank]), self._start)

    def _readable(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        for index in indices:
            try:
                item = self._source[int(index)]
            except UserError:  # which the training will tell
                continue
            yield item

    def draw(self, state: TrainState, images: int) -> None:
        """`<image count>.png`: the averaged generator on fixed latents."""
        model = self._model_of(state, images)
        latents, classes = model.latents(self._seeds), self._classes
        step = min(16, len(latents))
        made = []
        for start in range(0, len(latents), step):
            rows = np.arange(start, start + step) % len(latents)
            made.append(
                model.images(latents[rows], classes=None if classes is None else classes[rows])
            )
        self._write(self._name(images), to_uint8(np.concatenate(made)[: len(latents)]), images)

    def measure(self, state: TrainState, images: int, iteration: int) -> list[dict]:
        """The metrics of the averaged generator; on process 0 what came out."""
        checkpoint = str(self._workdir / CHECKPOINTS / str(iteration))
        return self._results.measure(self._model_of(state, images), checkpoint)

    def _model_of(self, state: TrainState, images: int) -> Model:
        arrays = together((state.g_ema, state.g_buffers, state.w_avg))
        return self._model.with_arrays(*arrays, images_seen=images)

    def _write(self, name: str, images: np.ndarray, count: int) -> None:
        picture = tile(images, self._columns)
        self._monitor.picture(count, "real" if name == "real" else "generated", picture)
        # The file comes last: where it is, nothing is to be done.
        self._monitor.keep(self._place(name), encode_png(picture))

    def _place(self, name: str) -> epath.Path:
        return self._workdir / self.FOLDER / f"{name}.png"

    @staticmethod
    def _name(images: int) -> str:
        return f"{images:09d}"
