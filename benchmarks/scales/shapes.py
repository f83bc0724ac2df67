"""Pictures with truth at every scale: scenes of vector shapes, rasterised at any size.

A scene is a function of its seed: a gradient, and over it polygons, ellipses, strokes and gratings
of several frequencies. Samples lie on one grid of 512 a side, whatever the size: a pixel is the
mean of its own, and a small picture exactly the mean of a large one.
"""

import concurrent.futures
import zipfile
from pathlib import Path

import numpy as np

from inr_gan_jax.pictures.encode import encode_png

FINEST = 512


def scene(seed: int, size: int) -> np.ndarray:
    """uint8 `[size, size, 3]`; `size` divides 512."""
    random = np.random.default_rng(seed)
    at = (2 * np.arange(FINEST, dtype=np.float32) + 1) / FINEST - 1
    x, y = np.meshgrid(at, at)
    first, last = random.random((2, 3), np.float32)
    angle = random.uniform(0, 2 * np.pi)
    along = (np.cos(angle) * x + np.sin(angle) * y + 1.5) / 3
    picture = first + (last - first) * along[..., None]
    for _ in range(random.integers(2, 6)):
        shape = (polygon, ellipse, stroke)[random.integers(3)]
        inside = shape(random, x, y)
        picture = np.where(inside[..., None], _fill(random, x, y), picture)
    cells = FINEST // size
    means = picture.reshape(size, cells, size, cells, 3).mean((1, 3))
    return np.rint(means * 255).astype(np.uint8)


def polygon(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A star of three to eight corners around a place."""
    corners, turn = random.integers(3, 9), random.uniform(0, 2 * np.pi)
    centre, size = random.uniform(-0.6, 0.6, 2), random.uniform(0.2, 0.7)
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    radii = size * random.uniform(0.5, 1, corners)
    px, py = centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)
    inside = np.zeros(x.shape, bool)
    for i in range(corners):  # crossings of a ray to the right
        ax, ay, bx, by = px[i - 1], py[i - 1], px[i], py[i]
        crosses = (ay > y) != (by > y)
        inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay + 1e-12))
    return inside


def ellipse(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of any axes, turned."""
    (cx, cy), (a, b) = random.uniform(-0.7, 0.7, 2), random.uniform(0.1, 0.6, 2)
    angle = random.uniform(0, np.pi)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    return (u / a) ** 2 + (v / b) ** 2 < 1


def stroke(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A quadratic Bezier curve, 0.02 to 0.12 wide."""
    a, b, c = random.uniform(-0.9, 0.9, (3, 2))
    width = random.uniform(0.01, 0.06)
    inside = np.zeros(x.shape, bool)
    for t in np.linspace(0, 1, 60):
        px, py = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        inside |= (x - px) ** 2 + (y - py) ** 2 < width**2
    return inside


def _fill(random: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One colour, or two in a grating of 1 to 24 waves across the picture."""
    one, other = random.random((2, 3), np.float32)
    if random.random() < 0.5:
        return np.broadcast_to(one, (*x.shape, 3))
    waves, angle = np.exp(random.uniform(0, np.log(24))), random.uniform(0, np.pi)
    wave = np.sin(np.pi * waves * (np.cos(angle) * x + np.sin(angle) * y))
    return one + (other - one) * (0.5 + 0.5 * wave[..., None])


def write(path: Path, count: int, size: int) -> None:
    """A zip of the scenes 0, 1, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        concurrent.futures.ProcessPoolExecutor() as pool,
        zipfile.ZipFile(path.with_suffix(".part"), "w") as file,
    ):
        pictures = pool.map(scene, range(count), [size] * count, chunksize=16)
        for number, picture in enumerate(pictures):
            file.writestr(f"{number:05d}.png", encode_png(picture))
    path.with_suffix(".part").rename(path)
