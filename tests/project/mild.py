"""A tiny generator whose images lie in [-1, 1], as photos do, and targets for it."""

import functools
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from PIL import Image
from render.tiny import tiny_model

from inr_gan_jax.metrics.weights import VGG16_CONVOLUTIONS
from inr_gan_jax.model import Model
from inr_gan_jax.project.target import Scattered


@functools.cache
def mild_model(family: str = "inr_gan", size: int = 8, **options) -> Model:
    """A tiny model of 8x8 images with an eighth of its contrast: RGB layers are linear."""
    options = {"height": size, "width": size} | options
    if family.startswith("inr_gan"):
        options |= {"input_resolution": size // 2, "rank": 2}
    model = tiny_model(family, **options)
    params, buffers = model.arrays

    def quieter(path, leaf):
        name = jax.tree_util.keystr(path)
        return leaf / 8 if "'rgb'" in name and "affine" not in name else leaf

    return model.with_arrays(
        jax.tree_util.tree_map_with_path(quieter, params), buffers, model.w_avg, images_seen=2000
    )


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
