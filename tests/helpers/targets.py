"""Targets of a projection, and the files that LPIPS needs."""

from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from inr_gan_jax.metrics.weights import VGG16_CONVOLUTIONS
from inr_gan_jax.project.target import Scattered


def at_cells(pixels: np.ndarray, count: int) -> Scattered:
    """Some native pixels as points."""
    height, width = pixels.shape[:2]
    row, column = np.divmod(np.random.default_rng(0).permutation(height * width)[:count], width)
    points = np.stack([2 * column / width - 1, 2 * (height - 1 - row) / height - 1], axis=-1)
    return Scattered(points.astype(np.float32), pixels[row, column])


def written(path: Path, pixels: np.ndarray) -> Path:
    """The path of a picture, now written."""
    Image.fromarray(pixels).save(path)
    return path


def detector_files(folder: Path) -> list[Path]:
    """Files of a VGG16 with 4 random channels everywhere, and of an LPIPS for it."""
    rng = np.random.default_rng(0)
    vgg16, inputs = {}, 3
    for i in sum(VGG16_CONVOLUTIONS, ()):
        vgg16[f"features.{i}.weight"] = rng.normal(size=(4, inputs, 3, 3)).astype(np.float32)
        vgg16[f"features.{i}.bias"], inputs = np.zeros(4, np.float32), 4
    lpips = {f"lin{i}.model.1.weight": np.full((1, 4, 1, 1), 0.1, np.float32) for i in range(5)}
    files = [folder / "vgg16.safetensors", folder / "lpips.safetensors"]
    for path, arrays in zip(files, (vgg16, lpips), strict=True):
        safetensors.numpy.save_file(arrays, path)
    return files
