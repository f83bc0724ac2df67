"""Grids of images while a run learns."""

import jax
import numpy as np
from etils import epath

from inr_gan_jax.config import Config
from inr_gan_jax.data.sources import Source
from inr_gan_jax.model import Model
from inr_gan_jax.monitor import Monitor, encode_png, tile, to_uint8
from inr_gan_jax.train.state import TrainState


class Pictures:
    """Grids of images while a run learns, as PNG files and in TensorBoard."""

    FOLDER = "samples"

    def __init__(self, config: Config, workdir: epath.Path, monitor: Monitor):
        self._config, self._monitor = config, monitor
        self._folder = workdir / self.FOLDER
        count, classes = config.log.grid_size, config.model.num_classes
        if classes:  # a row per class
            self._columns = max(count // classes, 1)
            self._classes = np.repeat(np.arange(classes), self._columns)
            count = len(self._classes)
        else:
            self._columns, self._classes = int(np.ceil(np.sqrt(count))), None
        self._seeds = np.arange(count)
        self._model: Model | None = None

    def real(self, source: Source) -> None:
        """`real.png`: images of the data set, by class where there are classes."""
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

    def generated(self, state: TrainState, images: int) -> None:
        """`<image count>.png`: the averaged generator on fixed latents."""
        made = self._generate(state)
        self._write(f"{images:09d}", to_uint8(made), images)

    def _generate(self, state: TrainState) -> np.ndarray:
        if self._model is None:
            self._model = Model(self._config, state.g_ema, state.g_buffers, state.w_avg)
        model = self._model.with_arrays(state.g_ema, state.g_buffers, state.w_avg)
        latents, classes = model.latents(self._seeds), self._classes
        step = min(16, len(latents))
        made = []
        for start in range(0, len(latents), step):
            rows = np.arange(start, start + step) % len(latents)
            made.append(
                model.images(latents[rows], classes=None if classes is None else classes[rows])
            )
        return np.concatenate(made)[: len(latents)]

    def _write(self, name: str, images: np.ndarray, count: int) -> None:
        picture = tile(images, self._columns)
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{name}.png").write_bytes(encode_png(picture))
        self._monitor.picture(count, "real" if name == "real" else "generated", picture)
