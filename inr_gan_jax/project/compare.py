"""How far an image is from a target.

A pixel of a photo is the mean of the image over the pixel where the photo is as coarse as the
native grid or coarser: that is what shrinking an image does. The native image is then all there is
to know, and averages of it are compared with the photo. Where the photo is finer, a pixel is the
value at the point at which a render of that size evaluates it (see render.image.View), so that the
fitted image, rendered at the photo's size, is the photo. There are too many such points to take all
of them in each step: a random sample is, and the native grid beside it, against the photo smoothed
to what that grid can show. Where points cannot be evaluated one by one, the native grid is all.

To both the same is done at scales coarser by 2, 4, 8, ...: far from the target only those say
which way to go, so a search fades them out (`rough`). Unknown pixels have no weight at any scale:
what is averaged is the difference.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models import inr
from inr_gan_jax.models.parameters import InrParams, InrSpec
from inr_gan_jax.project.target import Photo, Scattered
from inr_gan_jax.render.image import ContinuousImage

SAMPLE = 4096  # points per step
COARSEST = 4  # pixels of the shorter side
CHUNK = 1 << 16  # points at a time, outside of steps
HIGHEST = jax.lax.Precision.HIGHEST


class Grid(NamedTuple):
    """Pixels `[r, c, C]`, weighted `[r, c]`, to compare with `rows` image `columns`^T.

    `rows` `[r, H]` and `columns` `[c, W]` average the native image; `coarser` are pairs that
    average the difference once more.
    """

    rows: jax.Array
    columns: jax.Array
    pixels: jax.Array
    weights: jax.Array
    coarser: tuple[tuple[jax.Array, jax.Array], ...]


class Goal(NamedTuple):
    """What an image is compared with, as a tree of arrays: a grid, points, or both.

    `footprint`: (width, height) of what points stand for, where the network has such.
    """

    grid: Grid | None
    points: tuple[jax.Array, jax.Array] | None  # [n, 2] and [n, C]
    footprint: jax.Array | None = None


def goal_of(target: Photo | Scattered, spec: InrSpec) -> Goal:
    """The goal for images of coordinate networks of this shape.

    Raises ValueError, one line, for points that such a network cannot be evaluated at.
    """
    if isinstance(target, Scattered):
        if not spec.pixel_independent:
            raise ValueError(
                "this network (bilinear upsampling, instance norm) is not pixel-independent: it "
                "has no value at a point, so it cannot be fitted to scattered pixels"
            )
        return Goal(None, _arrays(target.points, target.values))
    if not is_finer(target, spec):
        return Goal(_area_grid(target, spec), None)
    points = footprint = None
    if spec.pixel_independent:
        rows, columns = np.nonzero(target.known)
        (x, width), (y, height) = (_pixels(target, axis, spec) for axis in (1, 0))
        footprint = jnp.asarray([width, height], jnp.float32) if spec.has_nodes else None
        xy = np.stack([x[columns], y[rows]], axis=-1)
        points = _arrays(xy, target.pixels[rows, columns])
    goal = Goal(_smooth_grid(target, spec), points, footprint)
    if goal.grid is None and goal.points is None:
        raise ValueError("the target lies between the pixels of this network's only grid")
    return goal


def is_finer(photo: Photo, spec: InrSpec) -> bool:
    """Whether a photo has more pixels than the part of the native grid where it lies."""
    left, bottom, right, top = photo.window
    ends = int(spec.align == "corners")  # n samples from end to end have n - 1 steps
    height, width = (n - ends for n in spec.size)
    h, w = (n - ends for n in photo.known.shape)
    return 2 * w / (right - left) > width or 2 * h / (top - bottom) > height


def _arrays(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def _pixels(photo: Photo, axis: int, spec: InrSpec) -> tuple[np.ndarray, float]:
    """x of a photo's columns (axis 1), or y of its rows (axis 0), as renders have them; a step."""
    low, high = photo.window[1 - axis], photo.window[3 - axis]
    return _spread(low, high, photo.known.shape[axis], axis, spec)


def _cells(axis: int, spec: InrSpec) -> tuple[np.ndarray, float]:
    """The same of the native grid."""
    return _spread(-1.0, 1.0, spec.size[axis], axis, spec)


def _spread(low: float, high: float, n: int, axis: int, spec: InrSpec) -> tuple[np.ndarray, float]:
    step = (high - low) / (max(n - 1, 1) if spec.align == "corners" else n)
    positions = low + step * (np.arange(n) + (spec.align == "center") / 2)
    return (positions if axis else positions[::-1]), step


def _area(positions: np.ndarray, size: float, spec: InrSpec) -> np.ndarray:
    """Where the intervals begin that pixels at `positions` stand for."""
    return positions - size / 2 if spec.continuous else positions


def _overlaps(a: np.ndarray, a_size: float, b: np.ndarray, b_size: float) -> np.ndarray:
    """The part of each interval [a, a + a_size] in each [b, b + b_size]: `[len(a), len(b)]`."""
    low = np.maximum(a[:, None], b[None])
    high = np.minimum(a[:, None] + a_size, b[None] + b_size)
    return np.maximum(high - low, 0) / a_size


def _area_grid(photo: Photo, spec: InrSpec) -> Grid:
    """The photo's own pixels, each the mean of the native image over its area."""
    matrices = []
    for axis in (0, 1):
        (pixels, pixel), (cells, cell) = _pixels(photo, axis, spec), _cells(axis, spec)
        begins = _area(pixels, pixel, spec), _area(cells, cell, spec)
        matrix = _overlaps(begins[0], pixel, begins[1], cell)
        if spec.align == "corners":  # the outermost pixels reach beyond the outermost cells
            matrix /= matrix.sum(axis=1, keepdims=True)
        matrices.append(matrix)
    return _grid(*matrices, photo.pixels, photo.known.astype(float))


def _smooth_grid(photo: Photo, spec: InrSpec) -> Grid | None:
    """The native pixels within the photo, each against the mean of what is known around it.

    None if there are none: a photo of a detail may lie between them.
    """
    pick, smooth = [], []
    for axis in (0, 1):
        low, high = photo.window[1 - axis], photo.window[3 - axis]
        (pixels, pixel), (cells, cell) = _pixels(photo, axis, spec), _cells(axis, spec)
        within = (low <= cells) & ((cells <= high) if spec.continuous else (cells < high))
        pick.append(np.eye(spec.size[axis])[within])
        size = max(cell, pixel)
        middles = cells[within] - size / 2, pixels - pixel / 2
        smooth.append(_overlaps(middles[0], size, middles[1], pixel))
    weights = smooth[0] @ photo.known @ smooth[1].T
    if not weights.any():
        return None
    total = np.einsum("rh,hwc,sw->rsc", smooth[0], photo.pixels, smooth[1], optimize=True)
    return _grid(*pick, total / np.maximum(weights, 1e-9)[..., None], weights)


def _grid(rows, columns, pixels: np.ndarray, weights: np.ndarray) -> Grid:
    coarser, factor = [], 2
    while min(weights.shape) // factor >= COARSEST:
        coarser.append(_arrays(*(_shrink(n, n // factor) for n in weights.shape)))
        factor *= 2
    return Grid(*_arrays(rows, columns, pixels, weights), tuple(coarser))


def _shrink(n: int, m: int) -> np.ndarray:
    """Averages n pixels to m: `[m, n]`."""
    return _overlaps(np.arange(m) / m, 1 / m, np.arange(n) / n, 1 / n)


def seen(grid: Grid, image_hwc: jax.Array) -> jax.Array:
    """The native image as the grid's target shows it: `[r, c, C]`."""
    return _both(grid.rows, image_hwc, grid.columns)


def _both(rows, image_hwc, columns):
    return jnp.einsum("rh,hwc,sw->rsc", rows, image_hwc, columns, precision=HIGHEST)


def differences(
    params: InrParams, goal: Goal, key: jax.Array, rough: float | jax.Array = 1.0
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """How far an image (parameters without batch axis) is from a goal.

    Args:
      params, goal: what is compared.
      key: draws the points.
      rough: the weight, 0 to 1, of scales coarser than the target's and the native grid.

    Returns:
      The weighted mean of the mean squared differences at all scales, that at the finest, and the
      image as the grid's target shows it, `[r, c, C]` (None for scattered pixels).
    """
    errors, coarser, made = [], [], None
    if goal.points is not None:
        points, values = goal.points
        if len(points) > SAMPLE:
            drawn = jax.random.randint(key, (SAMPLE,), 0, len(points))
            points, values = points[drawn], values[drawn]
        first = first_level(params.spec)
        got = inr.points_one(params, points, superres_from=first, footprint=goal.footprint)
        errors.append(jnp.mean(jnp.square(got - values)))
    if goal.grid is not None:
        made = seen(goal.grid, inr.grid_one(params))
        weights = goal.grid.weights[..., None]
        difference = weights * (made - goal.grid.pixels)
        errors.append(_mean_square(difference, weights))
        for rows, columns in goal.grid.coarser:
            parts = (_both(rows, a, columns) for a in (difference, weights))
            coarser.append(_mean_square(*parts))
    total, scales = sum(errors) + rough * sum(coarser), len(errors) + rough * len(coarser)
    return total / scales, errors[0], made


def _mean_square(total_rsc: jax.Array, weights_rs1: jax.Array) -> jax.Array:
    """The mean square of weighted sums of differences: sum(weight * (total / weight)^2)."""
    squares = jnp.square(total_rsc) / jnp.maximum(weights_rs1, 1e-9)
    return jnp.sum(squares) / (jnp.sum(weights_rs1) * total_rsc.shape[-1])


def first_level(spec: InrSpec) -> int:
    """The level from which the image is continuous: all but the coarsest, as in renders."""
    return min(1, len(spec.levels) - 1)


def as_seen(image: ContinuousImage, photo: Photo) -> np.ndarray:
    """The image's pixels where and as the photo has them: `[h, w, C]`."""
    spec = image.params.spec
    if is_finer(photo, spec):
        height, width = photo.known.shape
        return image.render(width, height, window=photo.window, density=math.inf)
    return np.asarray(seen(_area_grid(photo, spec), jnp.asarray(image.render())))


def psnr(image: ContinuousImage, target: Photo | Scattered) -> float:
    """Over the known pixels, in dB, for the image clipped to [-1, 1]."""
    if isinstance(target, Photo):
        made, wanted = as_seen(image, target)[target.known], target.pixels[target.known]
    else:
        level = first_level(image.params.spec)
        parts = [
            image.points(target.points[start : start + CHUNK], superres_from=level)
            for start in range(0, len(target.points), CHUNK)
        ]
        made, wanted = np.concatenate(parts), target.values
    error = np.mean(np.square(np.clip(made, -1, 1) - wanted))
    return decibels(error)


def decibels(error: float) -> float:
    """PSNR of a mean squared error of values in [-1, 1]."""
    return 10 * math.log10(4 / max(error, 1e-12))
