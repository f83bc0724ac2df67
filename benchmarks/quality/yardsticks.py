"""What is measured of images: two Frechet distances, mosaics, and modes of stacked digits."""

import functools

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from benchmarks.quality.features import Judge
from benchmarks.quality.sets import single_digits, stacks
from inr_gan_jax.metrics import pixel
from inr_gan_jax.metrics.statistics import Moments, frechet_distance

MOST = 10_000  # real images that are looked at
SAMPLES = 25_600  # of which modes are counted
CONFIDENT = 0.9


class Yardstick:
    """Distances to real images uint8 `[n, H, W, C]`, in the spaces `pixel` and `judge`.

    The reference is one half of them, as many images (`count`) are compared with it, and the other
    half tells the floor: the distance that a perfect generator has.
    """

    def __init__(self, real: np.ndarray):
        order = np.random.default_rng(0).permutation(len(real))[:MOST]
        real = real[order[: len(order) // 2 * 2]]
        self.count = len(real) // 2
        components = pixel.fit([real])
        judge = Judge(real)
        self._spaces = {
            "pixel": lambda images: np.asarray(pixel.features(components, images)),
            "judge": judge,
        }
        half, other = real[: self.count], real[self.count :]
        self._half = {name: _moments(space(half)) for name, space in self._spaces.items()}
        self.floor = self.distances(other)
        self.within = within_blocks(real)

    def distances(self, images: np.ndarray) -> dict[str, float]:
        """Frechet distances of the first `count` images to the half."""
        images = images[: self.count]
        return {
            name: frechet_distance(self._half[name], _moments(space(images)))
            for name, space in self._spaces.items()
        }


def within_blocks(images: np.ndarray) -> float:
    """Share of images' variance that lies within blocks of 2x2: near 0 is a mosaic."""
    x = images.astype(np.float64)
    n, h, w, c = x.shape
    blocks = x.reshape(n, h // 2, 2, w // 2, 2, c)
    inner = np.square(blocks - blocks.mean((2, 4), keepdims=True)).sum()
    return float(inner / np.square(x - x.mean((1, 2), keepdims=True)).sum())


@functools.cache
def _reader() -> tuple[CalibratedClassifierCV, float]:
    """(a classifier of single digits, its accuracy on a fifth that it did not see)."""
    images, labels = single_digits()
    rows = _rows(images)
    seen, held, seen_labels, held_labels = train_test_split(
        rows, labels, test_size=0.2, random_state=0, stratify=labels
    )
    machine = CalibratedClassifierCV(SVC(C=10), ensemble=False, method="temperature")
    machine.fit(seen, seen_labels)
    return machine, float(machine.score(held, held_labels))


def accuracy() -> float:
    """Of the classifier that counts modes, on digits that it did not see."""
    return _reader()[1]


def modes(images: np.ndarray) -> dict[str, float]:
    """How many of 1,000 modes stacked digits show, and how evenly.

    Only images count of which all three digits are read with more than 0.9 confidence: their share
    is `confident`. `reverse_kl` is that of the counts' distribution against an even one.
    """
    n, h, w, _ = images.shape
    read = _reader()[0].predict_proba(_rows(images.transpose(0, 3, 1, 2).reshape(-1, h, w)))
    read = read.reshape(n, 3, 10)
    sure = (read.max(-1) > CONFIDENT).all(-1)
    numbers = read.argmax(-1)[sure] @ np.array([100, 10, 1])
    counts = np.bincount(numbers, minlength=1000)
    p = counts[counts > 0] / max(counts.sum(), 1)
    return {
        "modes": int((counts > 0).sum()),
        "confident": float(sure.mean()),
        "reverse_kl": float((p * np.log(p * 1000)).sum()),
    }


def controls() -> dict[str, dict[str, float]]:
    """Real stacks, and ones that show half of the modes: eight kinds of digits, 512."""
    return {
        "real": modes(stacks(SAMPLES, seed=1)),
        "half": modes(stacks(SAMPLES, seed=1, digits=range(8))),
    }


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255.0


def _moments(features: np.ndarray) -> Moments:
    moments = Moments(features.shape[1])
    moments.add(features)
    return moments
