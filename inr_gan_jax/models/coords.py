"""Where pixels and points lie: grid cells and their coordinates.

A *cell* (row i, column j) of an `h x w` grid is known by its integers; coordinates are derived from
them, never the other way round on a regular grid. Users speak of points (x, y) in the frame
(-1, -1, 1, 1), x to the right and y upwards, for every family.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# A point within this part of a native cell below an edge counts as on it: x = 2 j / w - 1 is
# rounded in float32 where w is no power of two, and must still fall into cell j.
EDGE = 1e-3


class Cells(NamedTuple):
    """Integer cells of one `height x width` grid: `row` and `column`, each int32 `[N]`."""

    row: jax.Array
    column: jax.Array
    height: int
    width: int


def grid_cells(height: int, width: int) -> Cells:
    """All cells of a grid, row by row from the top: N = height * width."""
    row, column = jnp.divmod(jnp.arange(height * width), width)
    return Cells(row, column, height, width)


def cells_of_points(points_n2: jax.Array, height: int, width: int) -> Cells:
    """The cells of the native grid in which points lie (indices may lie outside of the frame)."""
    x, y = points_n2[:, 0], points_n2[:, 1]
    column = jnp.floor((x + 1) / 2 * width + EDGE).astype(jnp.int32)
    row = height - 1 - jnp.floor((y + 1) / 2 * height + EDGE).astype(jnp.int32)
    return Cells(row, column, height, width)


def coarser(cells: Cells, height: int, width: int) -> Cells:
    """The cells of a coarser grid that contain the given ones (nearest upsampling, read back)."""
    fy, fx = cells.height // height, cells.width // width
    return Cells(cells.row // fy, cells.column // fx, height, width)


def coordinates(cells: Cells, frame: str) -> tuple[jax.Array, jax.Array]:
    """Coordinates (x, y), float32, of columns and rows, as the published systems evaluate cells.

    `symmetric` (released code): left edges in x and bottom edges in y, range [-1, 1), y upwards.
    `unit` (the paper's code): j / w and i / h, range [0, 1), y downwards.
    `corners` (CIPS): from end to end, both included, range [-1, 1], y downwards; `nodes` likewise.
    """
    row, column = cells.row.astype(float), cells.column.astype(float)
    if frame in ("corners", "nodes"):
        return tuple(
            2 * at / max(n - 1, 1) - 1 for at, n in ((column, cells.width), (row, cells.height))
        )
    if frame == "unit":
        return column / cells.width, row / cells.height
    x = 2 * column / cells.width - 1
    y = 2 * (cells.height - 1 - row) / cells.height - 1
    return x, y


def cell(size: tuple[int, int], frame: str) -> tuple[float, float]:
    """(width, height) of a cell; its coordinates are the least of it, in both directions."""
    height, width = size
    whole = 1 if frame == "unit" else 2
    return whole / width, whole / height


def sides(size: tuple[int, int], frame: str, first: int = 0, rows: int | None = None):
    """(x `[w]` of all columns, y of the rows from `first` on, all by default) of a grid's cells."""
    height, width = size
    row = first + jnp.arange(height if rows is None else rows)
    return coordinates(Cells(row, jnp.arange(width), height, width), frame)


def grid_points(height: int, width: int) -> jax.Array:
    """The training grid as points `[height * width, 2]` in the frame (-1, -1, 1, 1)."""
    return jnp.stack(coordinates(grid_cells(height, width), "symmetric"), axis=-1)
