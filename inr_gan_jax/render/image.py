"""`ContinuousImage`: one image as a function that can be rendered at any size and window."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from inr_gan_jax.models import inr
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import files
from inr_gan_jax.render.inr_file import open_params
from inr_gan_jax.render.tiles import Tiled

FURTHEST = 4  # from the middle: so far nodes may have to go for points


class ContinuousImage(Tiled):
    """One image of a coordinate network. `render`, `tiles`, `points`, `gradient`, `save`.

    Pixels are float32 `[H, W, C]`, about [-1, 1], unclipped. Views are given as keyword arguments
    (see View). Raises ValueError, one line, for views that cannot be.
    """

    def save(
        self, path: epath.PathLike, width: int | None = None, height: int | None = None, **options
    ) -> None:
        """Writes the image to a file of any size (default: native); the suffix says which kind.

        .png .jpg .webp .npy (float32), .tif and .dzi (any size, in bounded memory, can be
        interrupted and resumed), .inr (the function itself). Options: those of View and of
        `files.save`. Raises UserError, one line, for files that cannot be written.
        """
        files.save(self, path, width, height, **options)

    def __repr__(self) -> str:
        levels = ", ".join(f"{width}x{height}" for height, width in self.params.spec.levels)
        return f"ContinuousImage({self.channels} channels, levels {levels})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows: whole multiples of the native size, 256 pixels or more a side."""
        width, height = self.size
        times = math.ceil(256 / max(width, height))
        return encode_png(to_uint8(self.render(width * times, height * times)))

    def points(
        self,
        points,
        *,
        superres_from: int | None = None,
        density: float = math.inf,
        tables: str = "clamp",
        footprint: float = 0.0,
    ) -> jax.Array:
        """The image at points `[N, 2]`, (x, y) in the frame (-1, -1, 1, 1): `[N, C]`.

        Options as in View; by default points snap to the native grid, where there is one. Else
        `footprint` is the side of the square that a point stands for, in units of the frame (native
        pixels have 2 / size): finer detail is averaged away; 0: none is. Raises ValueError for
        networks that are not pixel-independent, or that have no footprint.
        """
        points = self._checked(points)
        options = {"superres_from": superres_from, "density": density, "reach": self._reach(points)}
        at = self._footprint(footprint)
        return _points(self.params, points, footprint=at, reflect=tables == "reflect", **options)

    def gradient(
        self, points, *, superres_from: int | None = None, footprint: float = 0.0
    ) -> jax.Array:
        """Spatial derivatives at points `[N, 2]`: `[N, C, 2]`, d/dx and d/dy per frame unit.

        Exact, by forward differentiation (jax.jvp) of the function that is continuous from level
        `superres_from` (default 1) on; levels below it are constant within their cells. Of networks
        with a `footprint` (see points) it is exact but on lines through nodes that are read
        bilinearly. Raises ValueError for networks that are not pixel-independent.
        """
        if superres_from is None:
            superres_from = min(1, len(self.params.spec.levels) - 1)
        points, at = self._checked(points), self._footprint(footprint)
        return _gradient(
            self.params, points, at, superres_from=superres_from, reach=self._reach(points)
        )

    def _reach(self, points: jax.Array) -> float:
        """How far from the middle nodes must go: a power of two, that programs are few."""
        if not self.params.spec.has_nodes:
            return 1.0
        furthest = float(np.max(np.abs(points), initial=1.0))
        if not furthest <= FURTHEST:
            raise ValueError(
                f"points must be finite, and no further than {FURTHEST} from the middle"
            )
        return 2.0 ** math.ceil(math.log2(furthest))

    def _footprint(self, side: float) -> jax.Array | None:
        if not self.params.spec.has_nodes:
            if side:
                raise ValueError("this network has no footprint: leave it 0")
            return None
        if side < 0:
            raise ValueError(f"footprint must be 0 or more, not {side}")
        return jnp.full((2,), side, jnp.float32)

    def _checked(self, points) -> jax.Array:
        points = jnp.asarray(points, jnp.float32)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must be [n, 2], not {list(points.shape)}")
        return points


def open_image(path: epath.PathLike, index: int = 0, *, dtype: str = "float32") -> ContinuousImage:
    """Opens image number `index` of a file that `ContinuousImage.save` or `save_images` wrote.

    `dtype` (or bfloat16) is that of the features when it is rendered. Raises UserError, one line,
    for a file that is missing, damaged, foreign or too new, or that has fewer images.
    """
    return ContinuousImage(open_params(path, index), dtype=dtype)


_STATIC = ("superres_from", "density", "reflect", "reach")
_points = jax.jit(inr.points_one, static_argnames=_STATIC)


@functools.partial(jax.jit, static_argnames=_STATIC)
def _gradient(params: InrParams, points_n2: jax.Array, footprint, **options) -> jax.Array:
    def image(points):
        return inr.points_one(params, points, footprint=footprint, **options)

    directions = (jnp.broadcast_to(d, points_n2.shape) for d in jnp.eye(2))
    return jnp.stack([jax.jvp(image, (points_n2,), (d,))[1] for d in directions], axis=-1)
