"""What shows how a run learns: grids of images, and metrics."""

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath

from inr_gan_jax.checkpoint import FOLDER as CHECKPOINTS
from inr_gan_jax.config import Config
from inr_gan_jax.data.sources import Source
from inr_gan_jax.metrics.evaluate import Evaluator
from inr_gan_jax.metrics.results import Results
from inr_gan_jax.model import Model
from inr_gan_jax.monitor import Monitor, encode_png, tile, to_uint8
from inr_gan_jax.sharding import together
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
        if classes:  # a row per class
            self._columns = max(count // classes, 1)
            self._classes = np.repeat(np.arange(classes), self._columns)
            count = len(self._classes)
        else:
            self._columns, self._classes = int(np.ceil(np.sqrt(count))), None
        self._seeds = np.arange(count)
        counts = source.class_counts if classes else ()
        self._model = Model(config, {}, {}, None, class_counts=counts)
        self._results = None
        if config.evaluate.kimg > 0:
            evaluator = Evaluator(self._model, source, config.evaluate, detector_weights)
            self._results = Results(
                evaluator, workdir, monitor.writer, config.evaluate.collapse_below
            )

    def real(self) -> None:
        """`real.png`: images of the data set, by class where there are classes."""
        source = self._source
        rng = np.random.default_rng(0)
        order = rng.permutation(len(source))[: max(len(self._seeds) * 20, 1)]
        if self._classes is None:
            chosen = order[: len(self._seeds)]
            images = [source[int(i)][0] for i in chosen]
        else:
            by_class = {c: [] for c in range(self._config.model.num_classes)}
            for i in order:
                image, label = source[int(i)]
                if len(by_class[label]) < self._columns:
                    by_class[label].append(image)
                if all(len(row) == self._columns for row in by_class.values()):
                    break
            blank = np.zeros_like(image)
            images = [
                image
                for row in by_class.values()
                for image in row + [blank] * (self._columns - len(row))
            ]
        self._write("real", np.stack(images), 0)

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
        self._write(f"{images:09d}", to_uint8(np.concatenate(made)[: len(latents)]), images)

    def measure(self, state: TrainState, images: int, iteration: int) -> None:
        """The metrics of the averaged generator."""
        checkpoint = str(self._workdir / CHECKPOINTS / str(iteration))
        self._results.measure(self._model_of(state, images), checkpoint)

    def _model_of(self, state: TrainState, images: int) -> Model:
        arrays = together((state.g_ema, state.g_buffers, state.w_avg))
        return self._model.with_arrays(*arrays, images_seen=images)

    def _write(self, name: str, images: np.ndarray, count: int) -> None:
        picture = tile(images, self._columns)
        if jax.process_index() == 0:
            folder = self._workdir / self.FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.png").write_bytes(encode_png(picture))
        self._monitor.picture(count, "real" if name == "real" else "generated", picture)
