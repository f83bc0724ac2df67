"""What is measured of a model at sizes beyond its own: patches' distances, and agreement."""

import numpy as np
from PIL import Image

from benchmarks.quality.yardsticks import Yardstick
from inr_gan_jax.metrics.images import Real
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.image import ContinuousImage

PATCH = 32
METHODS = ("lanczos", "superres", "any")
FRAMES = 8  # of a zoom, 1% apart


def real_patches(source, size: int, count: int) -> np.ndarray:
    """A patch of each picture, shrunk to the size: uint8 `[count, 32, 32, 3]`."""
    chosen = np.random.default_rng(0).permutation(len(source))[:count]
    pictures = Real(source).read(np.sort(chosen))["image"]
    return np.stack([
        _cut(np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)), *at)
        for p, at in zip(pictures, places(len(pictures), size), strict=True)
    ])  # fmt: skip


def places(count: int, size: int) -> np.ndarray:
    """(top, left) of patches, `[count, 2]`."""
    return np.random.default_rng(size).integers(0, size - PATCH + 1, (count, 2))


def patches(model, size: int, count: int, method: str) -> np.ndarray:
    """A patch of each of the images of seeds 0, 1, ... at a size: uint8 `[count, 32, 32, 3]`."""
    made = []
    for image, (top, left) in zip(images(model, count), places(count, size), strict=True):
        if method == "lanczos":
            native = Image.fromarray(to_uint8(image.render()))
            whole = np.asarray(native.resize((size, size), Image.Resampling.LANCZOS))
            made.append(_cut(whole, top, left))
            continue
        window = (
            2 * left / size - 1, 1 - 2 * (top + PATCH) / size,
            2 * (left + PATCH) / size - 1, 1 - 2 * top / size,
        )  # fmt: skip
        made.append(to_uint8(image.render(PATCH, PATCH, window=window)))
    return np.stack(made)


def images(model, count: int):
    """The images of seeds 0, 1, ... as functions."""
    for start in range(0, count, 100):
        params = model.inr(model.styles(seeds=range(start, min(start + 100, count))))
        for i in range(len(params)):
            yield ContinuousImage(params[i])


class Sizes:
    """Yardsticks of real patches, by size."""

    def __init__(self, source, sizes: tuple[int, ...], count: int):
        self.yardsticks = {size: Yardstick(real_patches(source, size, count)) for size in sizes}

    def measured(self, model, method: str) -> dict:
        """Distances above the floor, by size and space."""
        found = {}
        for size, yardstick in self.yardsticks.items():
            distances = yardstick.distances(patches(model, size, yardstick.count, method))
            for space, value in distances.items():
                found[f"{space} {size}"] = value - yardstick.floor[space]
        return found


def agreement(model, sizes: tuple[int, ...], count: int = 16) -> dict[str, float]:
    """PSNR in dB, peak to peak 2: twice a size, averaged, against it; frames of a zoom."""
    found = {f"average {size}": [] for size in sizes} | {"zoom": []}
    for image in images(model, count):
        for size in sizes:
            twice = image.render(2 * size, 2 * size)
            mean = twice.reshape(size, 2, size, 2, -1).mean((1, 3))
            found[f"average {size}"].append(_error(mean, image.render(size, size)))
        found["zoom"] += _zoom_errors(image, sizes[-1])
    return {name: float(-10 * np.log10(np.mean(errors) / 4)) for name, errors in found.items()}


def _zoom_errors(image: ContinuousImage, side: int) -> list[float]:
    """Of neighbouring frames, the earlier one resampled to the later one's window."""
    errors = []
    reach = [0.5 * 0.99**i for i in range(FRAMES)]
    frames = [image.render(side, side, window=(-r, -r, r, r)) for r in reach]
    for frame, later in zip(frames[:-1], frames[1:], strict=True):
        margin = side * (1 - 0.99) / 2
        box = (margin, margin, side - margin, side - margin)
        resampled = [
            Image.fromarray(frame[..., c]).resize((side, side), Image.Resampling.BICUBIC, box=box)
            for c in range(frame.shape[-1])
        ]
        errors.append(_error(np.stack(resampled, -1)[2:-2, 2:-2], later[2:-2, 2:-2]))
    return errors


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(np.square(np.clip(a, -1, 1) - np.clip(b, -1, 1))))


def _cut(picture: np.ndarray, top: int, left: int) -> np.ndarray:
    return picture[top : top + PATCH, left : left + PATCH]
