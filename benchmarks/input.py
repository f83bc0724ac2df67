"""Input: images per second that the pipeline reads, beside those that a training step eats."""

import contextlib
import functools
import io
import itertools
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.timing import medians
from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.data.sources import Source, open_source
from inr_gan_jax.runtime.sharding import to_devices
from inr_gan_jax.train.trainer import Trainer


class Case(NamedTuple):
    """A model of the released recipe, and how much of its data is read."""

    size: int  # pixels
    images: int  # distinct ones
    read: int  # at a time, with repetition
    batch_size: int
    model: dict  # what its generator has other than the released one of 256x256


CASES = (
    # Widths and where coordinates enter as in configs/cifar10.py, for twice the size.
    Case(64, 512, 4096, 8, {"channel_base": 16384, "input_resolution": 16, "fine_from": 64}),
    Case(256, 128, 512, 4, {}),
)


FORMATS = ("bmp", "png", "webp-lossless", "jpg:95")


def photographs(count: int, size: int) -> list[bytes]:
    """PNG files of `size` pixels: windows of scikit-learn's two photographs, of many scales."""
    photos = [Image.fromarray(array) for array in load_sample_images().images]
    rng, files = np.random.default_rng(0), []
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(rng.integers(size, min(photo.size), endpoint=True))
        left, top = (int(rng.integers(0, length - side, endpoint=True)) for length in photo.size)
        window = photo.crop((left, top, left + side, top + side))
        files.append(io.BytesIO())
        window.resize((size, size), Image.Resampling.LANCZOS).save(files[-1], "PNG")
    return [file.getvalue() for file in files]


def write_zip(path: Path, pngs: list[bytes]) -> None:
    """The files as they are, in a zip that does not compress them again."""
    with zipfile.ZipFile(path, "w") as archive:
        for index, png in enumerate(pngs):
            archive.writestr(f"{index:05d}.png", png)


def write_tfds(folder: Path, pngs: list[bytes], size: int) -> None:
    """The same files as array records of a TFDS data set `photos`."""
    import tensorflow_datasets as tfds

    class Photos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(size, size, 3))}
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index, png in enumerate(pngs):
                yield index, {"image": io.BytesIO(png)}

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it says where it writes, and that it did
        Photos(data_dir=folder, file_format="array_record").download_and_prepare()


def sources(folder: Path, count: int, size: int) -> dict[str, Source]:
    """The same photographs as each kind of data set, made in `folder`."""
    pngs = photographs(count, size)
    plain = folder / "plain.zip"
    write_zip(plain, pngs)
    write_tfds(folder, pngs, size)
    shape = {"height": size, "width": size, "channels": 3, "labels": False}
    found = {
        "zip of PNG": open_source(str(plain), **shape),
        "TFDS array records": open_source("tfds:photos", data_dir=str(folder), **shape),
    }
    for form in FORMATS:
        made = folder / f"{form.replace(':', '')}.zip"
        prepare(str(plain), str(made), Fit(size, size), format=form, progress=False)
        kind = f"data.prepare --format={form} ({made.stat().st_size / count / 1e3:.3g} kB an image)"
        found[kind] = open_source(str(made), **shape)
    return found


def read(source: Source, config: Config, count: int) -> None:
    """Reads images as a training does, from the start of the threads on."""
    size, data = config.train.batch_size, config.data
    reader = batches(
        source,
        seed=config.seed,
        batch_size=size,
        mirror=data.mirror,
        threads=data.threads,
        workers=data.workers,
    )
    with contextlib.closing(reader):
        for _ in itertools.islice(reader, count // size):
            pass


def eaten_per_second(config: Config, source: Source) -> float:
    """Images per second of an iteration in float32, without R1: the frequent and quick kind."""
    trainer = Trainer(config, (), dtype="float32")
    trainer.compile(trainer.steps.due(1))
    state, size = trainer.init(config.seed), config.train.batch_size
    images, labels = zip(*(source[index] for index in range(size)), strict=True)
    batch = {"image": np.stack(images), "label": np.asarray(labels, np.int32)}
    batch = to_devices(trainer.mesh, batch)

    def iterate():
        nonlocal state
        state, _ = trainer.iterate(state, batch, 1)
        return state

    return size / medians({"step": iterate}, 1)["step"]  # once: many seconds on a CPU


def rows() -> list[dict]:
    """Images per second read over those eaten, for each size and kind of data set.

    The files are new, so they lie in memory: reading and decoding are measured, not a disk.
    """
    found = []
    for case in CASES:
        draft = base("inr_gan", height=case.size, width=case.size, **case.model)
        draft.discriminator.channel_base = draft.model.channel_base
        draft.data.source, draft.train.batch_size = "tfds:photos", case.batch_size
        config = parse(draft)
        with tempfile.TemporaryDirectory() as folder:
            opened = sources(Path(folder), case.images, case.size)
            seconds = medians(
                {k: functools.partial(read, s, config, case.read) for k, s in opened.items()}, 5
            )
            eaten = eaten_per_second(config, opened["zip of PNG"])
        for kind, taken in seconds.items():
            found.append(
                {
                    "what": f"{kind} at {case.size}: images/s read / eaten by a step",
                    "ratio": case.read / taken / eaten,
                    "detail": f"{case.read / taken:.0f} / {eaten:.3f} images/s",
                }
            )
    return found
