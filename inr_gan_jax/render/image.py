"""`ContinuousImage`: one image as a function that can be rendered at any size and window."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from inr_gan_jax.models import inr
from inr_gan_jax.models.inr import InrParams
from inr_gan_jax.render.plan import Axis, Sampling, plan_axis
from inr_gan_jax.render.region import native_deviations, render_region

FRAME = (-1.0, -1.0, 1.0, 1.0)
WHOLE = 512  # renders of more pixels a side are made of tiles, in bounded memory
TILE = 256


@dataclass(frozen=True)
class View:
    """What to render: `width` x `height` pixels of `window` = (left, bottom, right, top).

    Pixel (row i, column j) lies at x = left + (right - left) j / width and
    y = bottom + (top - bottom) (height - 1 - i) / height (`align` edge, as in training), half a
    pixel further with `align` center. The frame of the training images is (-1, -1, 1, 1).

    From level `superres_from` on (0 is the coarsest grid) points snap to a grid `density` times
    finer than the level's own; `inf`: they do not snap. By default a render at native size or below
    has no such level, one above has all but the coarsest, at output size over native size.
    `samples` (a square number) points are averaged per pixel. Beyond the frame learned tables
    are clamped or reflected (`tables`).
    """

    width: int
    height: int
    window: tuple[float, float, float, float] = FRAME
    superres_from: int | None = None
    density: float | None = None
    align: str = "edge"
    samples: int = 1
    tables: str = "clamp"

    def __post_init__(self):
        for name in ("width", "height", "samples"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
        if math.isqrt(self.samples) ** 2 != self.samples:
            raise ValueError(f"samples = {self.samples} is no square number (1, 4, 9, 16, ...)")
        if len(self.window) != 4 or not all(math.isfinite(v) for v in self.window):
            raise ValueError(f"window {self.window} must be four numbers: left, bottom, right, top")
        left, bottom, right, top = self.window
        if not (left < right and bottom < top):
            raise ValueError(f"window {self.window} is empty: left < right and bottom < top")
        if self.align not in ("edge", "center"):
            raise ValueError(f"align must be edge or center, not {self.align!r}")
        if self.tables not in ("clamp", "reflect"):
            raise ValueError(f"tables must be clamp or reflect, not {self.tables!r}")
        if self.density is not None and not self.density >= 1:
            raise ValueError(f"density must be 1 or more (inf: continuous), not {self.density}")


class ContinuousImage:
    """One image of a coordinate network. `render`, `tiles`, `points`, `gradient`, `save`.

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

    def render(self, width: int | None = None, height: int | None = None, **view) -> np.ndarray:
        """The image at any size (default: native) and window: `[height, width, C]`."""
        view = self.view(width, height, **view)
        picture = np.empty((view.height, view.width, self.channels), np.float32)
        for row, column, pixels in self._tiles(view, tile_side(view)):
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

    def save(
        self, path: epath.PathLike, width: int | None = None, height: int | None = None, **options
    ) -> None:
        """Writes the image to a file of any size (default: native); the suffix says which kind.

        .png .jpg .webp .npy (float32), .tif and .dzi (any size, in bounded memory, can be
        interrupted and resumed), .inr (the function itself). Options: those of View and of
        `files.save`. Raises UserError, one line, for files that cannot be written.
        """
        from inr_gan_jax.render import files  # which knows this class

        files.save(self, path, width, height, **options)

    def __repr__(self) -> str:
        levels = ", ".join(f"{width}x{height}" for height, width in self.params.spec.levels)
        return f"ContinuousImage({self.channels} channels, levels {levels})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: whole multiples of the native size, 256 pixels or more a side."""
        from inr_gan_jax.pictures.encode import encode_png
        from inr_gan_jax.pictures.pixels import to_uint8

        width, height = self.size
        times = math.ceil(256 / max(width, height))
        return encode_png(to_uint8(self.render(width * times, height * times)))

    def view(self, width: int | None = None, height: int | None = None, **options) -> View:
        """The View with this image's defaults filled in; ValueError for what cannot be."""
        known = [f.name for f in dataclasses.fields(View)]
        for name in options:
            if name not in known:
                raise ValueError(f"unknown option {name!r}; there are {', '.join(known)}")
        native_width, native_height = self.size
        view = View(width or native_width, height or native_height, **options)
        levels = len(self.params.spec.levels)
        if view.superres_from is None:
            finer = max(self.own_density(view)) > 1 or view.density is not None
            view = dataclasses.replace(view, superres_from=min(1, levels - 1) if finer else levels)
        if not 0 <= view.superres_from <= levels:
            raise ValueError(
                f"superres_from = {view.superres_from} must be 0 to {levels} (this network has "
                f"levels 0 to {levels - 1}; {levels}: none)"
            )
        return view

    def points(
        self,
        points,
        *,
        superres_from: int | None = None,
        density: float = math.inf,
        tables: str = "clamp",
    ) -> jax.Array:
        """The image at points `[N, 2]`, (x, y) in the frame (-1, -1, 1, 1): `[N, C]`.

        Options as in View; by default points snap to the native grid. Raises ValueError for
        networks that are not pixel-independent.
        """
        points = self._checked(points)
        options = {"superres_from": superres_from, "density": density}
        return _points(self.params, points, **options, reflect=tables == "reflect")

    def gradient(self, points, *, superres_from: int | None = None) -> jax.Array:
        """Spatial derivatives at points `[N, 2]`: `[N, C, 2]`, d/dx and d/dy per frame unit.

        Exact, by forward differentiation (jax.jvp) of the function that is continuous from level
        `superres_from` (default 1) on; levels below it are constant within their cells. Raises
        ValueError for networks that are not pixel-independent.
        """
        if superres_from is None:
            superres_from = min(1, len(self.params.spec.levels) - 1)
        return _gradient(self.params, self._checked(points), superres_from=superres_from)

    def _checked(self, points) -> jax.Array:
        points = jnp.asarray(points, jnp.float32)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be [n, 2], not {list(points.shape)}")
        return points

    def own_density(self, view: View) -> tuple[Fraction, Fraction]:
        """Output pixels per native pixel, along x and y."""
        left, bottom, right, top = map(_exact, view.window)
        width, height = self.size
        return 2 * view.width / (right - left) / width, 2 * view.height / (top - bottom) / height

    def _samplings(self, view: View) -> tuple[Sampling, Sampling]:
        left, bottom, right, top = map(_exact, view.window)
        scale = math.isqrt(view.samples)
        samplings = []
        for total, low, high, own in zip(
            (view.width, view.height), (left, bottom), (right, top), self.own_density(view),
            strict=True,
        ):  # fmt: skip
            if view.density is None:
                density = max(own, Fraction(1))
            else:
                density = None if math.isinf(view.density) else _exact(view.density)
            samplings.append(
                Sampling(
                    total * scale,
                    low,
                    high,
                    centred=view.align == "center",
                    superres_from=view.superres_from,
                    density=density,
                    reflect=view.tables == "reflect",
                )
            )
        return samplings[0], samplings[1]

    def _axis_tiles(self, view: View, tile: int, overlap: int = 0) -> tuple[list[Axis], list[Axis]]:
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
                    plan_axis(
                        sampling, cells, pixels, rows=rows, frame=spec.frame,
                        bilinear=spec.upsampling == "bilinear",
                    )
                )  # fmt: skip
            sizes = [
                max(len(axis.levels[i].coordinate) for axis in axes) for i in range(len(cells))
            ]
            longest = max(len(axis.pixels) for axis in axes)
            plans.append([axis.padded(sizes, longest) for axis in axes])
        return plans[0], plans[1]

    def _tiles(self, view: View, tile: int, start: int = 0, overlap: int = 0):
        rows, columns = self._axis_tiles(view, tile, overlap)
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


def tile_side(view: View) -> int:
    """Pixels a side of the tiles that `render` makes a view of: one tile if it is small."""
    side = max(view.width, view.height)
    return side if side * math.isqrt(view.samples) <= WHOLE else TILE


def _exact(value: float) -> Fraction:
    """The decimal that a user wrote: 0.1 is one tenth, not its nearest binary fraction."""
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)


_points = jax.jit(inr.points_one, static_argnames=("superres_from", "density", "reflect"))


@functools.partial(jax.jit, static_argnames="superres_from")
def _gradient(params: InrParams, points_n2: jax.Array, superres_from: int) -> jax.Array:
    def image(points):
        return inr.points_one(params, points, superres_from=superres_from)

    directions = (jnp.broadcast_to(d, points_n2.shape) for d in jnp.eye(2))
    return jnp.stack([jax.jvp(image, (points_n2,), (d,))[1] for d in directions], axis=-1)
