"""Where a block is evaluated: the training grid, or scattered points.

A place gives a block its coordinates, its learned table's values there, and the way in which
features of the level below get there.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from inr_gan_jax.models import coords


@dataclass(frozen=True)
class Place:
    """N coordinates `x`, `y` `[N]` in the network's own frame.

    `sides` are all x `[w]` and all y `[h]` of a grid, row by row; None where points lie anywhere.
    `table` reads a learned table `[C, h, w]` there, `[C, N]`; `upsample` carries channels of the
    level below, `[C, N']`, there. `footprint`: (width, height) of a pixel, where it matters.
    """

    x: jax.Array
    y: jax.Array
    table: Callable[[jax.Array], jax.Array]
    upsample: Callable[[jax.Array], jax.Array]
    sides: tuple[jax.Array, jax.Array] | None = None
    footprint: jax.Array | None = None

    @classmethod
    def of_sides(cls, x_w: jax.Array, y_h: jax.Array, table, upsample) -> "Place":
        """The grid of all x `[w]` by all y `[h]`."""
        shape = (len(y_h), len(x_w))
        x = jnp.broadcast_to(x_w[None, :], shape).reshape(-1)
        y = jnp.broadcast_to(y_h[:, None], shape).reshape(-1)
        return cls(x, y, table, upsample, (x_w, y_h))


def _upsample_nearest(x_cn: jax.Array, size: tuple[int, int], factor: int) -> jax.Array:
    (h, w), f = size, factor
    # Columns, then rows: of both at once, a TPU's compiler makes arrays of `f` lanes for gradients.
    x = jnp.broadcast_to(x_cn[..., None], (*x_cn.shape, f)).reshape(-1, h // f, 1, w)
    return jnp.broadcast_to(x, (len(x), h // f, f, w)).reshape(-1, h * w)


def _double_linear(x: jax.Array, axis: int) -> jax.Array:
    """Twice the samples along an axis by linear interpolation with both ends kept in place.

    Output i lies at input position i (n - 1) / (2n - 1): even outputs 2m between m - 1 and m with
    weight m / (2n - 1) on the former, odd ones between m and m + 1 with (n - 1 - m) / (2n - 1) on
    the latter ("align corners", in closed form: shifts instead of gathers). The ends have no
    neighbour, which would weigh nothing.
    """
    n = x.shape[axis]
    m = jnp.arange(n, dtype=x.dtype).reshape([-1 if a == axis else 1 for a in range(x.ndim)])

    def shifted(by):
        edges = [(by, -by, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)]
        return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)

    below, above = shifted(1), shifted(-1)
    a, b = m / (2 * n - 1), (n - 1 - m) / (2 * n - 1)
    pairs = jnp.stack([x + a * (below - x), x + b * (above - x)], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


def _upsample_bilinear(x_cn: jax.Array, size: tuple[int, int], factor: int) -> jax.Array:
    h, w = size
    x_chw = x_cn.reshape(-1, h // 2, w // 2)
    return _double_linear(_double_linear(x_chw, 2), 1).reshape(-1, h * w)


# How features get from one grid to the next; where it is continuous, there are models.nodes.
GRIDS = {"nearest": _upsample_nearest, "bilinear": _upsample_bilinear}
UPSAMPLING = (*GRIDS, "continuous")


def on_grid(
    size: tuple[int, int], factor: int, frame: str, upsampling: str, strip: tuple = (0, 1)
) -> Place:
    """The training grid of `size` = (height, width), row by row from the top.

    Of it a `strip` of rows: (number, which may be traced; how many of them divide the height).
    """
    (height, width), (number, strips) = size, strip
    rows = height // strips
    x, y = coords.sides(size, frame, number * rows, rows)

    def table(table_chw):
        strip = jax.lax.dynamic_slice_in_dim(table_chw, number * rows, rows, 1)
        return strip.reshape(len(strip), -1)

    return Place.of_sides(x, y, table, lambda x_cn: GRIDS[upsampling](x_cn, (rows, width), factor))


def jittered(place: Place, size: tuple[int, int], frame: str, key: jax.Array) -> Place:
    """A grid whose coordinates are moved within their cells, all by as much."""
    moved = jax.random.uniform(key, (2,)) * jnp.asarray(coords.cell(size, frame), place.x.dtype)
    x, y = moved[:, None]
    return Place.of_sides(place.sides[0] + x, place.sides[1] + y, place.table, place.upsample)


def in_cells(points_n2, native: tuple[int, int], size: tuple[int, int], frame: str) -> Place:
    """Points snapped to the cells of a training grid; tables go on beyond the frame's edge."""
    cells = coords.coarser(coords.cells_of_points(points_n2, *native), *size)
    row = jnp.clip(cells.row, 0, cells.height - 1)
    column = jnp.clip(cells.column, 0, cells.width - 1)
    return Place(
        *coords.coordinates(cells, frame),
        table=lambda table_chw: table_chw[:, row, column],
        upsample=lambda x_cn: x_cn,
    )


def between_cells(
    points_n2, size: tuple[int, int], frame: str, density: float, reflect: bool
) -> Place:
    """Points snapped to a grid `density` times finer than `size`, or not at all (inf).

    Positions count in training cells from the left and from the bottom. Tables are interpolated;
    beyond the frame they are clamped or reflected.
    """
    height, width = size
    finite = math.isfinite(density)

    def position(coordinate, n):
        p = (coordinate + 1) / 2 * n
        return jnp.floor(p * density + coords.EDGE) / density if finite else p

    px, py = position(points_n2[:, 0], width), position(points_n2[:, 1], height)
    if frame == "unit":
        x, y = px / width, (height - (1 / density if finite else 0) - py) / height
    else:
        x, y = 2 * px / width - 1, 2 * py / height - 1
    return Place(x, y, lambda t: bilinear(t[:, ::-1], py, px, reflect), lambda x_cn: x_cn)


def anywhere(points_n2, reflect: bool = False) -> Place:
    """Points of a network that is continuous: tables' outer edges lie at the frame's."""
    x, y = points_n2[:, 0], -points_n2[:, 1]
    return Place(x, y, lambda t: _between_edges(t, y, x, reflect), lambda x_cn: x_cn)


def between_corners(size: tuple[int, int], strip: tuple = (0, 1)) -> Place:
    """A grid from end to end of the frame, row by row from the top, for such a network.

    Of it a `strip` of rows, as in `on_grid`.
    """
    number, strips = strip
    rows = size[0] // strips
    grid = Place.of_sides(
        *coords.sides(size, "corners", number * rows, rows), lambda t: t, lambda x_cn: x_cn
    )
    return dataclasses.replace(grid, table=lambda t: _between_edges(t, grid.y, grid.x))


def in_window(size: tuple[int, int], window: jax.Array, coarser: int = 1) -> Place:
    """The pixels of a patch for such a network (see nodes.in_window).

    Those of the whole image lie from end to end of the frame.
    """
    (h, w), (long, top, left) = size, window.astype(float)

    def middles(first, n):
        last = long * (n / max(size)) - 1
        return 2 * (first - 0.5 + coarser * (jnp.arange(n // coarser) + 0.5)) / last - 1

    grid = Place.of_sides(middles(left, w), middles(top, h), lambda t: t, lambda x_cn: x_cn)
    return dataclasses.replace(grid, table=lambda t: _between_edges(t, grid.y, grid.x))


def _between_edges(table_chw, down: jax.Array, right: jax.Array, reflect: bool = False):
    """A table at places from -1 to 1, its outer edges."""
    _, h, w = table_chw.shape
    return bilinear(table_chw, (down + 1) / 2 * h - 0.5, (right + 1) / 2 * w - 0.5, reflect)


def bilinear(x_chw: jax.Array, row: jax.Array, column: jax.Array, reflect=False) -> jax.Array:
    """Channels `[C, N]` of `[C, h, w]` at fractional cells `row`, `column` `[N]`."""

    def neighbours(p, n):
        low = jnp.floor(p)
        indices = []
        for cell in (low, low + 1):
            cell = cell.astype(jnp.int32)
            if reflect:
                cell = cell % (2 * n)
                cell = jnp.minimum(cell, 2 * n - 1 - cell)
            indices.append(jnp.clip(cell, 0, n - 1))
        return *indices, p - low

    x_chw = jnp.asarray(x_chw)  # NumPy's arrays take no traced indices
    top, bottom, down = neighbours(row, x_chw.shape[1])
    left, right, along = neighbours(column, x_chw.shape[2])
    upper = x_chw[:, top, left] * (1 - along) + x_chw[:, top, right] * along
    lower = x_chw[:, bottom, left] * (1 - along) + x_chw[:, bottom, right] * along
    return upper * (1 - down) + lower * down
