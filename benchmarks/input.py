"""Input: images per second that the pipeline reads, beside those that a training step eats."""

import contextlib
import functools
import io
import itertools
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.timing import medians
from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.data.sources import Source, open_source
from inr_gan_jax.sharding import to_devices
from inr_gan_jax.train.trainer import Trainer

# Pixels -> distinct images, how many are read at a time, batch, timed iterations.
CASES = {64: (512, 4096, 8, 3), 256: (128, 512, 4, 1)}


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
    plain, prepared = folder / "plain.zip", folder / "prepared.zip"
    write_zip(plain, pngs)
    prepare(str(plain), str(prepared), Fit(size, size), progress=False)
    write_tfds(folder, pngs, size)
    shape = {"height": size, "width": size, "channels": 3, "labels": False}
    return {
        "zip of PNG": open_source(str(plain), **shape),
        "zip of uncompressed PNG (data.prepare)": open_source(str(prepared), **shape),
        "TFDS array records of PNG": open_source("tfds:photos", data_dir=str(folder), **shape),
    }


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


def eaten_per_second(config: Config, source: Source, repeats: int) -> float:
    """Images per second of iterations without R1, the most frequent and the quickest."""
    trainer = Trainer(config, (), dtype="float32")
    trainer.compile(trainer.steps.due(1))
    state = trainer.init(config.seed)
    size = config.train.batch_size
    pixels, labels = zip(*(source[index] for index in range(size)), strict=True)
    batch = {"image": np.stack(pixels), "label": np.asarray(labels, np.int32)}
    batch = to_devices(trainer.mesh, batch)

    def iterate():
        nonlocal state
        state, _ = trainer.iterate(state, batch, 1)
        return state

    return size / medians({"step": iterate}, repeats)["step"]


def rows() -> list[dict]:
    """Images per second read over those eaten by the released recipe's step, in float32.

    The files are new, so in memory: what is measured is reading and decoding, not a disk.
    """
    found = []
    for size, (distinct, count, batch_size, repeats) in CASES.items():
        draft = base("inr_gan", height=size, width=size)
        draft.data.source, draft.train.batch_size = "photos", batch_size
        config = parse(draft)
        with tempfile.TemporaryDirectory() as folder:
            known = sources(Path(folder), distinct, size)
            seconds = medians(
                {k: functools.partial(read, source, config, count) for k, source in known.items()},
                5,
            )
            eaten = eaten_per_second(config, known["zip of PNG"], repeats)
        for kind, taken in seconds.items():
            found.append(
                {
                    "what": f"{kind} at {size}: images/s read / images/s a training step eats",
                    "ratio": count / taken / eaten,
                    "detail": f"{count / taken:.0f} / {eaten:.2f} images/s",
                }
            )
    return found
