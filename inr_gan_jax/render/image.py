"""`ContinuousImage`: one image as a function that can be rendered at any size and window."""

import functools
import math

import jax
import jax.numpy as jnp
from etils import epath

from inr_gan_jax.models import inr
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import files
from inr_gan_jax.render.inr_file import open_params
from inr_gan_jax.render.tiles import Tiled


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


def open_image(path: epath.PathLike, index: int = 0, *, dtype: str = "float32") -> ContinuousImage:
    """Opens image number `index` of a file that `ContinuousImage.save` or `save_images` wrote.

    `dtype` (or bfloat16) is that of the features when it is rendered. Raises UserError, one line,
    for a file that is missing, damaged, foreign or too new, or that has fewer images.
    """
    return ContinuousImage(open_params(path, index), dtype=dtype)


_points = jax.jit(inr.points_one, static_argnames=("superres_from", "density", "reflect"))


@functools.partial(jax.jit, static_argnames="superres_from")
def _gradient(params: InrParams, points_n2: jax.Array, superres_from: int) -> jax.Array:
    def image(points):
        return inr.points_one(params, points, superres_from=superres_from)

    directions = (jnp.broadcast_to(d, points_n2.shape) for d in jnp.eye(2))
    return jnp.stack([jax.jvp(image, (points_n2,), (d,))[1] for d in directions], axis=-1)
