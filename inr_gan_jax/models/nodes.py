"""Networks that are continuous: levels below the last are known at nodes, and read between them.

A level of r nodes a side is evaluated at those alone, from end to end of the frame, and the level
above reads it at its own places: bilinearly between the nearest four nodes, or as a quadratic
B-spline of the nearest nine, of which some lie one beyond the ends. The last level is evaluated at
whatever points are wanted. So the image is one continuous function of (x, y), at every size, and a
level costs its nodes. Reading is linear and commutes with a layer: both multiply first.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from inr_gan_jax.models.parameters import Block, InrSpec
from inr_gan_jax.models.places import Place, bilinear

READS = ("bilinear", "spline")


@dataclass(frozen=True)
class Nodes:
    """Where a level below the last is known: `size` (height, width) nodes from end to end.

    `margin`: so many more beyond each end. `spline`: read as a quadratic B-spline, not bilinearly.
    """

    size: tuple[int, int]
    margin: tuple[int, int] = (0, 0)
    spline: bool = False

    @classmethod
    def reaching(cls, size: tuple[int, int], reach: tuple[float, float], spline: bool) -> "Nodes":
        """Those that places need which are no further from the middle than `reach` (y, x)."""

        def beyond(n, reach):  # the last node, or the nearest one and the next
            out = max(reach - 1, 0) / 2 * (n - 1)
            return math.ceil(out - 0.5) + 1 if spline else math.ceil(out)

        return cls(size, tuple(map(beyond, size, reach)), spline)

    @property
    def reach(self) -> tuple[float, float]:
        """y and x of the last nodes."""
        return tuple(
            1 + 2 * margin / max(n - 1, 1) for n, margin in zip(self.size, self.margin, strict=True)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of all nodes, margins too."""
        return tuple(n + 2 * margin for n, margin in zip(self.size, self.margin, strict=True))

    @property
    def sides(self) -> tuple[jax.Array, jax.Array]:
        """x and y of all nodes, margins too."""
        return tuple(
            2 * jnp.arange(-margin, n + margin) / max(n - 1, 1) - 1
            for n, margin in zip(reversed(self.size), reversed(self.margin), strict=True)
        )

    def place(self, below: "Nodes | None", reflect: bool = False) -> Place:
        """All nodes."""
        return beside(*self.sides, below, None, reflect)

    def read(self, x_cn: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        """Channels `[C, h * w]` of all nodes at places (x, y) `[N]`."""
        x_chw, at = x_cn.reshape(-1, *self.shape), self._positions(x, y)
        if not self.spline:
            return bilinear(x_chw, *at)
        (rows, down), (columns, along) = map(_nearest_three, at, self.shape)
        return smooth(*(smooth(*(x_chw[:, i, j] for j in columns), along) for i in rows), down)

    def read_sides(self, x_cn: jax.Array, x_w: jax.Array, y_h: jax.Array) -> jax.Array:
        """The same at all x by all y: a product for rows, one for columns."""
        down, along = (
            self._weights(at, n).astype(x_cn.dtype)
            for at, n in zip(self._positions(x_w, y_h), self.shape, strict=True)
        )
        x_chw = x_cn.reshape(-1, *self.shape)
        x = jnp.einsum("chw,yh->cyw", x_chw, down, precision="highest")
        x = jnp.einsum("cyw,xw->cyx", x, along, precision="highest")
        return x.reshape(len(x), -1)

    def _positions(self, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Rows and columns of places, in nodes from the first."""
        return tuple(
            (at + 1) / 2 * (n - 1) + margin
            for at, n, margin in zip((y, x), self.size, self.margin, strict=True)
        )

    def _weights(self, position: jax.Array, n: int) -> jax.Array:
        """`[N, n]`: how much of each node a place takes; beyond what they reach, of the last."""
        if not self.spline:
            position = jnp.clip(position, 0, n - 1)
            return jnp.maximum(1 - jnp.abs(position[:, None] - jnp.arange(n)), 0)
        away = jnp.abs(_inside(position, n)[:, None] - jnp.arange(n))
        return jnp.where(away < 0.5, 0.75 - away**2, jnp.maximum(1.5 - away, 0) ** 2 / 2)


def _inside(position: jax.Array, n: int) -> jax.Array:
    """Where three of n nodes are near, half of the way to the first or last at least."""
    return jnp.clip(position, 0.5, n - 1.5)


def _nearest_three(position: jax.Array, n: int) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The nodes nearest to a position, and how far it is through the middle one's part, 0 to 1."""
    position = _inside(position, n)
    middle = jnp.clip(jnp.floor(position + 0.5), 1, n - 2)
    index = middle.astype(jnp.int32)
    return (index - 1, index, index + 1), position + 0.5 - middle


def smooth(a, b, c, part):
    """A quadratic B-spline of three neighbours, `part` 0 to 1 of the way through b's (de Boor)."""
    first = a + (1 + part) / 2 * (b - a)
    return first + part * (b + part / 2 * (c - b) - first)


def beside(
    x_w: jax.Array, y_h: jax.Array, below: Nodes | None, footprint=None, reflect: bool = False
) -> Place:
    """The grid of all x `[w]` by all y `[h]` of a network that is known at nodes `below`."""
    grid = Place.of_sides(
        x_w, y_h, lambda t: t, lambda x_cn: below.read_sides(x_cn, x_w, y_h) if below else x_cn
    )
    table = functools.partial(_between_ends, down=grid.y, right=grid.x, reflect=reflect)
    return dataclasses.replace(grid, table=table, footprint=footprint)


def among(points_n2, below: Nodes | None, footprint=None, reflect: bool = False) -> Place:
    """Points anywhere of such a network."""
    x, y = points_n2[:, 0], -points_n2[:, 1]
    return Place(
        x,
        y,
        functools.partial(_between_ends, down=y, right=x, reflect=reflect),
        lambda x_cn: below.read(x_cn, x, y) if below else x_cn,
        footprint=footprint,
    )


def centres(size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """x and y (downwards) of the pixels of a frame of `size` (height, width)."""
    return tuple((2 * jnp.arange(n) + 1) / n - 1 for n in reversed(size))


def _between_ends(table_chw, down: jax.Array, right: jax.Array, reflect: bool = False):
    """A table at places from -1 to 1, where its first and last entries lie."""
    _, h, w = table_chw.shape
    return bilinear(table_chw, (down + 1) / 2 * (h - 1), (right + 1) / 2 * (w - 1), reflect)


def place_of(
    spec: InrSpec, last: Callable[[Nodes | None], Place], reach: float = 1.0, reflect: bool = False
) -> Callable[[Block], Place]:
    """Nodes for every level but the last, which is where `last` says, of the nodes below it.

    Places may be as far as `reach` from the frame's middle; 1 is its end.
    """
    levels, reached = [], (reach, reach)
    for size in reversed(spec.levels[:-1]):
        nodes = Nodes.reaching(size, reached, spec.upsampling == "spline")
        levels, reached = [nodes, *levels], nodes.reach

    def of(block: Block) -> Place:
        level = spec.levels.index(block.size)
        below = levels[level - 1] if level else None
        if block.size == spec.size:
            return last(below)
        return levels[level].place(below, reflect)

    return of


def in_window(spec: InrSpec, window: jax.Array, coarser: int = 1) -> Callable[[Block], Place]:
    """The middles of a patch's pixels: as many as the native size has, of a larger image.

    `window` int32 `[3]`: pixels of the image's longer side, and the patch's top row and left column
    among them. `coarser`: so many pixels a side are one; they divide the native size.
    """
    h, w = spec.size
    long, top, left = window.astype(float)
    pixel = jnp.asarray([2 * max(h, w) / w, 2 * max(h, w) / h]) / long  # of the frame -1 to 1

    def middles(first, n, side):
        return (first + coarser * (jnp.arange(n // coarser) + 0.5)) * side - 1

    x, y = middles(left, w, pixel[0]), middles(top, h, pixel[1])
    return place_of(spec, lambda below: beside(x, y, below, pixel * coarser))


def on_grid(spec: InrSpec, jitter_key: jax.Array | None = None) -> Callable[[Block], Place]:
    """The middles of the native size's pixels; with a key moved within them, all by as much."""
    (x, y), pixel = centres(spec.size), (2 / spec.size[1], 2 / spec.size[0])
    if jitter_key is not None:
        moved = (jax.random.uniform(jitter_key, (2,)) - 0.5) * jnp.asarray(pixel)
        x, y = x + moved[0], y + moved[1]
    return place_of(spec, lambda below: beside(x, y, below, jnp.asarray(pixel)))
