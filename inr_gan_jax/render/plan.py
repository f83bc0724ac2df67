"""Which cells of which level the pixels of a regular render need: exact integers, axis by axis.

A regular render is separable, so columns and rows are planned apart. For each level an axis lists
its distinct positions (in cells of that level's training grid, from the left or from the bottom)
and, for each, the positions of the level below that it takes its features from. Positions are
derived from global pixel indices in exact rational arithmetic; floats are made of them last.
"""

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax
import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How positions follow from pixels along one axis.

    `total` pixels lie between `low` and `high` (frame: -1 to 1), each at its left (bottom) edge
    (`align` edge), in its middle (center), or the first and the last on them (corners; of `total`,
    `scale` together are one pixel then, and lie around it). Positions snap to the training grid
    below level `superres_from` and to one `density` times finer from there on (None: they do not
    snap). `samples` sub-pixels per pixel are averaged by the caller.
    """

    total: int
    low: Fraction
    high: Fraction
    align: str
    superres_from: int
    density: Fraction | None
    reflect: bool = False
    scale: int = 1

    def position(self, pixel: int) -> Fraction:
        """Where a pixel (counted from the left or the bottom) lies: 0 to 1 within the frame."""
        if self.align == "corners":
            last = self.total // self.scale - 1
            at = Fraction(2 * pixel + 1, 2 * self.scale) - Fraction(1, 2)
            at = at / last if last else at + Fraction(1, 2)
        else:
            at = Fraction(2 * pixel + (self.align == "center"), 2 * self.total)
        return (self.low + (self.high - self.low) * at + 1) / 2

    def fineness(self, level: int) -> Fraction | None:
        """Snapping positions per training cell at a level; None: positions do not snap."""
        return Fraction(1) if level < self.superres_from else self.density


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AxisLevel:
    """One level of an axis: G positions. All arrays have length G.

    `coordinate`: float32, in the network's frame. `low`, `high`, `weight`: cells of the learned
    table on both sides and the part of `high`, and `parent_*` likewise positions of the level
    below (of the first level: zeros); of a spline there is one between `low` and `high`, and
    `weight` is the part of the middle one's place that is passed (see nodes.smooth).
    """

    coordinate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    parent_low: np.ndarray
    parent_high: np.ndarray
    parent_weight: np.ndarray

    def padded(self, size: int) -> "AxisLevel":
        """The same with the last position repeated up to `size`: one shape for all tiles."""
        return AxisLevel(*(np.pad(a, (0, size - len(a)), mode="edge") for a in vars(self).values()))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Axis:
    """All levels of an axis, and which position of the last one each pixel shows.

    `footprint`: from one pixel to the next, in coordinates.
    """

    levels: tuple[AxisLevel, ...]
    pixels: np.ndarray
    footprint: np.ndarray

    def padded(self, sizes: Sequence[int], pixels: int) -> "Axis":
        """Levels padded to `sizes` positions and the pixels to `pixels`."""
        levels = tuple(level.padded(size) for level, size in zip(self.levels, sizes, strict=True))
        shown = np.pad(self.pixels, (0, pixels - len(self.pixels)), mode="edge")
        return Axis(levels, shown, self.footprint)


def plan_axis(
    sampling: Sampling,
    cells: Sequence[int],
    pixels: Sequence[int],
    *,
    rows: bool,
    frame: str,
    upsampling: str,
    tables: Sequence[int] | None = None,
) -> Axis:
    """Plans one axis of a render.

    Args:
      sampling: how positions follow from pixels.
      cells: the training grid's cells along this axis, level by level.
      pixels: global pixel indices, counted from the left or, for rows, from the bottom.
      rows: whether rows of tables count from the top, and `unit` coordinates downwards.
      frame: the network's frame (coords.coordinates).
      upsampling: how levels are joined: nearest, bilinear (with aligned corners), continuous or
        spline (nodes).
      tables: cells of the levels' learned tables along this axis, where these are no grid's.
    """
    join = {
        "nearest": _join_nearest,
        "bilinear": _join_bilinear,
        "continuous": functools.partial(_join_nodes, spline=False),
        "spline": functools.partial(_join_nodes, spline=True),
    }[upsampling]
    positions, parents, shown = join(sampling, cells, [sampling.position(p) for p in pixels])
    levels = []
    for level, n in enumerate(cells):
        fineness = sampling.fineness(level)
        cells_of_table = n
        at = positions[level]
        if frame == "corners":  # a table's outer edges lie at the frame's: centres half a cell in
            cells_of_table = tables[level]
            at = [p / n * cells_of_table - Fraction(1, 2) for p in at]
        if frame == "nodes":  # its first and last entries do
            cells_of_table = tables[level]
            at = [p / n * (cells_of_table - 1) for p in at]
        low, high, weight = _table(at, cells_of_table, sampling, level, rows)
        coordinate = [_coordinate(p, n, fineness, rows, frame) for p in positions[level]]
        levels.append(
            AxisLevel(np.asarray(coordinate, np.float32), low, high, weight, *parents[level])
        )
    footprint = float((sampling.high - sampling.low) / sampling.total)
    return Axis(tuple(levels), shown, np.float32(footprint))


def _snap(unit: Fraction, n: int, fineness: Fraction | None) -> Fraction:
    """A position 0 to 1 in cells of a grid of n, snapped down."""
    if fineness is None:
        return unit * n
    return Fraction((unit * n * fineness).__floor__()) / fineness


def _coordinate(p: Fraction, n: int, fineness, rows: bool, frame: str) -> float:
    """The coordinate at which a position is evaluated (coords.coordinates, for any fineness)."""
    if frame == "symmetric":
        return float(2 * p / n - 1)
    if frame in ("corners", "nodes"):
        return float(1 - 2 * p / n if rows else 2 * p / n - 1)
    if not rows:
        return float(p / n)
    one_cell = 0 if fineness is None else 1 / fineness
    return float((n - one_cell - p) / n)


def _table(positions, n: int, sampling: Sampling, level: int, rows: bool):
    """Table cells on both sides of each position and the upper one's weight.

    Below `superres_from` a table is read, from there on interpolated; beyond the frame its edge
    cells go on or, on request, it is mirrored at them.
    """

    def inside(cell: int) -> int:
        if sampling.reflect:
            cell = cell % (2 * n)
            cell = min(cell, 2 * n - 1 - cell)
        cell = min(max(cell, 0), n - 1)
        return n - 1 - cell if rows else cell

    floors = [p.__floor__() for p in positions]
    interpolate = level >= sampling.superres_from
    weights = [float(p - f) if interpolate else 0.0 for p, f in zip(positions, floors, strict=True)]
    return (
        np.asarray([inside(f) for f in floors], np.int32),
        np.asarray([inside(f + 1) for f in floors], np.int32),
        np.asarray(weights, np.float32),
    )


def _join_nearest(sampling: Sampling, cells: Sequence[int], units: list[Fraction]):
    """Every point takes, at each level, the features of the cell that it lies in.

    Pixels share a position of a level if they share their cells at this level and all below.
    """
    positions, parents = [], []
    group = np.zeros(len(units), np.int32)
    for level, n in enumerate(cells):
        snapped = [_snap(u, n, sampling.fineness(level)) for u in units]
        keys: dict[tuple[int, Fraction], int] = {}
        finer = [
            keys.setdefault(key, len(keys)) for key in zip(group.tolist(), snapped, strict=True)
        ]
        parent = np.asarray([g for g, _ in keys], np.int32)
        positions.append([p for _, p in keys])
        parents.append((parent, parent, np.zeros(len(keys), np.float32)))
        group = np.asarray(finer, np.int32)
    return positions, parents, group


def _join_nodes(sampling: Sampling, cells: Sequence[int], units: list[Fraction], *, spline: bool):
    """Every position lies between two nodes of the level below, of which there are `cells`.

    Or nearest to the middle one of three, which are neighbours among those that are wanted.
    """
    wanted = sorted(set(units))
    index = {u: i for i, u in enumerate(wanted)}
    shown = np.asarray([index[u] for u in units], np.int32)
    positions, parents = [wanted], []
    for m in reversed(cells[:-1]):
        steps = max(m - 1, 1)
        below = [u * steps for u in positions[0]]
        if spline:
            low = [(p - Fraction(1, 2)).__floor__() for p in below]
            high = [k + 2 for k in low]
            weights = [float(p - Fraction(1, 2) - k) for p, k in zip(below, low, strict=True)]
            distinct = sorted({k + i for k in low for i in range(3)})
        else:
            low = [p.__floor__() for p in below]
            high = [p.__ceil__() for p in below]
            weights = [float(p - k) for p, k in zip(below, low, strict=True)]
            distinct = sorted({*low, *high})
        place = {k: i for i, k in enumerate(distinct)}
        parents.insert(
            0,
            (
                np.asarray([place[k] for k in low], np.int32),
                np.asarray([place[k] for k in high], np.int32),
                np.asarray(weights, np.float32),
            ),
        )
        positions.insert(0, [Fraction(k, steps) for k in distinct])
    none = np.zeros(len(positions[0]), np.int32)
    parents.insert(0, (none, none, none.astype(np.float32)))
    of_cells = [[u * n for u in level] for level, n in zip(positions, cells, strict=True)]
    return of_cells, parents, shown


def _join_bilinear(sampling: Sampling, cells: Sequence[int], units: list[Fraction]):
    """Every position interpolates between its two neighbours of the level below.

    Ends are aligned: position p of n cells lies at p (m - 1) / (n - 1) of the m cells below. The
    level below is known at its snapping positions only; where it does not snap, at any position.
    """
    top = len(cells) - 1
    snapped = [_snap(u, cells[top], sampling.fineness(top)) for u in units]
    wanted = sorted(set(snapped))
    index = {p: i for i, p in enumerate(wanted)}
    shown = np.asarray([index[p] for p in snapped], np.int32)
    positions, parents = [wanted], []
    for level in range(top, 0, -1):
        n, m, fineness = cells[level], cells[level - 1], sampling.fineness(level - 1)
        last = Fraction(m - 1 if fineness is None else m - 1 / fineness)
        below = [min(max(p * (m - 1) / (n - 1), Fraction(0)), last) for p in positions[0]]
        low = [_snap(p / m, m, fineness) for p in below]
        step = 0 if fineness is None else 1 / fineness
        high = [min(p + step, last) for p in low]
        weight = [
            float((p - a) * fineness) if fineness is not None else 0.0
            for p, a in zip(below, low, strict=True)
        ]
        distinct = sorted({*low, *high})
        parents.insert(
            0,
            (
                np.asarray([bisect.bisect_left(distinct, p) for p in low], np.int32),
                np.asarray([bisect.bisect_left(distinct, p) for p in high], np.int32),
                np.asarray(weight, np.float32),
            ),
        )
        positions.insert(0, distinct)
    none = np.zeros(len(positions[0]), np.int32)
    parents.insert(0, (none, none, none.astype(np.float32)))
    return positions, parents, shown
