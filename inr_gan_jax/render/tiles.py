"""An image cut into tiles: what writers of files, films and reports need of it."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.plan import Axis, Sampling, plan_axis
from inr_gan_jax.render.region import native_deviations, render_region
from inr_gan_jax.render.view import TILE, View, exact, tile_side

# Neighbouring tiles share rows or columns, and views of many images all of them.
_planned = functools.lru_cache(maxsize=1024)(plan_axis)


class Tiled:
    """The views of one image of a coordinate network, whole or tile by tile.

    Pixels are float32 `[H, W, C]`, about [-1, 1], unclipped. Views are given as keyword arguments
    (see View). Raises ValueError, one line, for views that cannot be.
    """

    def __init__(self, params: InrParams, *, dtype: str = "float32"):
        """`params` of one image, without batch axis; `dtype` (or bfloat16) of features."""
        self.params, self.dtype = params, dtype

    @property
    def size(self) -> tuple[int, int]:
        """Native (width, height): the training grid's."""
        height, width = self.params.spec.size
        return width, height

    @property
    def channels(self) -> int:
        """1, 3 or 4."""
        return next(b.rgb.outputs for b in self.params.spec.blocks if b.rgb)

    def view(self, width: int | None = None, height: int | None = None, **options) -> View:
        """The View with this image's defaults filled in; ValueError for what cannot be."""
        spec = self.params.spec
        known = [f.name for f in dataclasses.fields(View)]
        for name in options:
            if name not in known:
                raise ValueError(f"unknown option {name!r}; there are {', '.join(known)}")
        native_width, native_height = self.size
        options = {"align": spec.align} | options
        view = View(width or native_width, height or native_height, **options)
        levels = len(spec.levels)
        if spec.continuous:
            if view.superres_from or view.density not in (None, math.inf):
                raise ValueError(
                    "this function is continuous everywhere: it has no superres_from or density"
                )
            view = dataclasses.replace(view, superres_from=0, density=math.inf)
        if view.superres_from is None:
            finer = max(self.own_density(view)) > 1 or view.density is not None
            view = dataclasses.replace(view, superres_from=min(1, levels - 1) if finer else levels)
        if not 0 <= view.superres_from <= levels:
            raise ValueError(
                f"superres_from = {view.superres_from} must be 0 to {levels} (this network has "
                f"levels 0 to {levels - 1}; {levels}: none)"
            )
        return view

    def render(self, width: int | None = None, height: int | None = None, **view) -> np.ndarray:
        """The image at any size (default: native) and window: `[height, width, C]`."""
        view = self.view(width, height, **view)
        picture = np.empty((view.height, view.width, self.channels), np.float32)
        for row, column, pixels in self._tiles(view, self._side(view)):
            picture[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
        return picture

    def tiles(
        self,
        width: int,
        height: int,
        tile: int = TILE,
        *,
        start: int = 0,
        overlap: int = 0,
        **view,
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yields (top row, left column, pixels) of each tile, row by row, in bounded memory.

        Stitched tiles are the whole render. `start` skips that many tiles; each tile has `overlap`
        more pixels on every side where it has a neighbour.
        """
        if tile < 1 or start < 0 or overlap < 0:
            raise ValueError("tile must be 1 or more, start and overlap 0 or more")
        return self._tiles(self.view(width, height, **view), tile, start, overlap)

    def _side(self, view: View) -> int:
        """Pixels a side of the tiles that `render` makes."""
        return tile_side(view)

    def own_density(self, view: View) -> tuple[Fraction, Fraction]:
        """Output pixels per native pixel, along x and y."""
        left, bottom, right, top = map(exact, view.window)
        width, height = self.size
        return 2 * view.width / (right - left) / width, 2 * view.height / (top - bottom) / height

    def _samplings(self, view: View) -> tuple[Sampling, Sampling]:
        left, bottom, right, top = map(exact, view.window)
        scale = math.isqrt(view.samples)
        samplings = []
        for total, low, high, own in zip(
            (view.width, view.height), (left, bottom), (right, top), self.own_density(view),
            strict=True,
        ):  # fmt: skip
            if view.density is None:
                density = max(own, Fraction(1))
            else:
                density = None if math.isinf(view.density) else exact(view.density)
            samplings.append(
                Sampling(
                    total * scale,
                    low,
                    high,
                    align=view.align,
                    superres_from=view.superres_from,
                    density=density,
                    reflect=view.tables == "reflect",
                    scale=scale,
                )
            )
        return samplings[0], samplings[1]

    def axis_tiles(self, view: View, tile: int, overlap: int = 0) -> tuple[list[Axis], list[Axis]]:
        """The plans of all rows and of all columns of tiles, padded to one shape."""
        spec, scale = self.params.spec, math.isqrt(view.samples)
        plans = []
        for rows, sampling in zip((True, False), reversed(self._samplings(view)), strict=True):
            cells = [size[0 if rows else 1] for size in spec.levels]
            axes = []
            for start in range(0, sampling.total, tile * scale):
                end = min(start + (tile + overlap) * scale, sampling.total)
                pixels = range(max(start - overlap * scale, 0), end)
                if rows:  # global indices count from the bottom, rows from the top
                    pixels = [sampling.total - 1 - i for i in pixels]
                axes.append(
                    _planned(
                        sampling, tuple(cells), tuple(pixels), rows=rows, frame=spec.frame,
                        upsampling=spec.upsampling,
                        tables=tuple(t[0 if rows else 1] for t in spec.tables),
                    )
                )  # fmt: skip
            sizes = [
                max(len(axis.levels[i].coordinate) for axis in axes) for i in range(len(cells))
            ]
            longest = max(len(axis.pixels) for axis in axes)
            plans.append([axis.padded(sizes, longest) for axis in axes])
        return plans[0], plans[1]

    def _tiles(self, view: View, tile: int, start: int = 0, overlap: int = 0):
        rows, columns = self.axis_tiles(view, tile, overlap)
        scale = math.isqrt(view.samples)
        for number in range(start, len(rows) * len(columns)):
            i, j = divmod(number, len(columns))
            made = render_region(self.params, rows[i], columns[j], self._deviations, self.dtype)
            pixels = np.asarray(made)
            if scale > 1:
                h, w, c = pixels.shape
                pixels = pixels.reshape(h // scale, scale, w // scale, scale, c).mean((1, 3))
            top, left = max(i * tile - overlap, 0), max(j * tile - overlap, 0)
            height = min((i + 1) * tile + overlap, view.height) - top
            width = min((j + 1) * tile + overlap, view.width) - left
            yield top, left, pixels[:height, :width]

    @functools.cached_property
    def _deviations(self) -> dict | None:
        return native_deviations(self.params)
