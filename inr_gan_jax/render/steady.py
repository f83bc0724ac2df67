"""Views of an image by a few programs, whose shapes do not follow from the view.

A plan's shapes depend on where it looks: close up, a tile needs few cells of the coarse grids. To
look around without compiling, plans are padded to the most that any tile of their kind can need.
"""

import copy
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

from inr_gan_jax.render.plan import Axis
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import View


class Steady(Tiled):
    """An image whose tiles of up to `TILE` pixels a side compile nothing after those of `kinds`.

    `least`: the fewest output pixels per native pixel a side that are expected; below it, and
    nowhere else, a program may have to be compiled anew. Pixels are those of Tiled.
    """

    TILE = 128

    def __init__(self, image: Tiled, least: Fraction = Fraction(1, 4)):
        super().__init__(image.params, dtype=image.dtype)
        self.least, self._tick = min(least, Fraction(1)), None

    def ticking(self, tick: Callable[[], None]) -> "Steady":
        """The same image; `tick` is called for every tile that is made of it."""
        other = copy.copy(self)
        other._tick = tick
        return other

    def _side(self, view: View) -> int:
        return self.TILE

    def axis_tiles(self, view: View, tile: int, overlap: int = 0) -> tuple[list[Axis], list[Axis]]:
        plans = super().axis_tiles(view, tile, overlap)
        if tile > self.TILE or overlap or view.samples > 1:
            return plans
        far = min(self.own_density(view)) < 1
        padded = []
        for side, axes in enumerate(plans):
            least = self._sizes(side, view.superres_from, far)
            sizes = [max(size, len(level.coordinate))
                     for size, level in zip(least, axes[0].levels, strict=True)]  # fmt: skip
            padded.append([axis.padded(sizes, self.TILE) for axis in axes])
        return padded[0], padded[1]

    def kinds(self) -> Iterator[View]:
        """A view for each program: rendering every one of them compiles all there is."""
        near = (-1, -1, *(Fraction(1, n) - 1 for n in self.size))  # less than a native pixel
        if self.least < 1:  # from far
            yield self.view(
                1, 1, window=(-1, -1, *(Fraction(2, n) / self.least - 1 for n in self.size))
            )
        if self.params.spec.continuous:  # only one kind of near
            yield self.view(1, 1, window=near)
            return
        for level in range(len(self.params.spec.levels) + 1):
            yield self.view(1, 1, window=near, superres_from=level)

    def _tiles(self, view: View, tile: int, start: int = 0, overlap: int = 0):
        for made in super()._tiles(view, tile, start, overlap):
            if self._tick:
                self._tick()
            yield made

    def _sizes(self, side: int, superres_from: int, far: bool) -> list[int]:
        """Positions of each level that a tile can need along an axis (0: rows, 1: columns)."""
        spec = self.params.spec
        cells, most = [size[side] for size in spec.levels], self.TILE
        part = Fraction(most, cells[-1]) / (self.least if far else 1)  # of the frame
        if spec.has_nodes:
            sizes = [most]
            for n in reversed(cells[:-1]):  # those between which all of the level above lie
                count = math.ceil(part * max(n - 1, 1)) + 5
                sizes.insert(0, count)
                part = Fraction(count, max(n - 1, 1))
            return sizes
        if spec.upsampling == "bilinear":
            return self._corners(cells, superres_from, part)
        if far:
            return [most] * len(cells)
        return [
            most if level >= superres_from else min(most, math.ceil(part * n) + 2)
            for level, n in enumerate(cells)
        ]

    def _corners(self, cells: list[int], superres_from: int, part: Fraction) -> list[int]:
        """The same of levels that are read between two positions of the one below."""
        sizes, most = [], self.TILE
        for level in reversed(range(len(cells))):
            snapped = math.ceil(part * cells[level]) + 3
            sizes.insert(0, most if level >= superres_from else min(most, snapped))
            most, part = 2 * sizes[0], Fraction(snapped, cells[level])
        return sizes
