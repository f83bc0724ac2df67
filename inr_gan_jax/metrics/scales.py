"""The same images at many sizes: rendered, resized, averaged, and patches cut out of them.

Sizes are (width, height), arrays `[B, H, W, C]`.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from inr_gan_jax.data.images import to_image
from inr_gan_jax.metrics.images import THREADS, Generated, Real, to_uint8
from inr_gan_jax.metrics.pixel import coverage
from inr_gan_jax.models.families import inr_spec
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.frames import plan
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.render.plan import Axis
from inr_gan_jax.render.region import native_deviations, render_region
from inr_gan_jax.runtime.sharding import local_copy, make_mesh, over_batch, replicated

Size = tuple[int, int]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
SEED = 0  # of latents, as in metrics, and of the places of patches
PLACES = (1 << 30) + 2  # what else is folded into an image's key: Generated, ppl
ROUNDING = (2 / 255) ** 2 / 12  # mean squared error of rounding [-1, 1] to 8 bits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grid:
    """A planned render of `size`: the plans of all rows and of all columns of tiles, stacked."""

    rows: Axis
    columns: Axis
    size: Size = field(metadata={"static": True})


def planned(image: ContinuousImage, size: Size) -> Grid:
    """The default view of a size, for every image of the same network."""
    ((rows, columns),) = plan(image, [image.view(*size)]).values()
    return Grid(*(jax.tree.map(lambda *a: np.stack(a), *axes) for axes in (rows, columns)), size)


def render(params: InrParams, grid: Grid) -> jax.Array:
    """Images `[B, H, W, C]` float32, tile by tile, so that features of one tile are held."""

    def one(params, deviations):
        def strip(row):
            made = jax.lax.map(lambda c: render_region(params, row, c, deviations), grid.columns)
            return made.transpose(1, 0, 2, 3).reshape(made.shape[1], -1, made.shape[3])

        strips = jax.lax.map(strip, grid.rows)
        width, height = grid.size
        return strips.reshape(-1, *strips.shape[2:])[:height, :width]

    deviations = jax.vmap(native_deviations, in_axes=(params.axes,))(params)
    return jax.vmap(one, in_axes=(params.axes, 0))(params, deviations)


class Renders:
    """A model's images at any size: image k is that of `metrics.images.Generated`.

    `native`: the training grid's (width, height). Raises ValueError for the StyleGAN2 baseline,
    which is no coordinate function.
    """

    def __init__(self, model, truncation: float = 1.0):
        self._generated = Generated(model, truncation)
        spec = inr_spec(model.config.model)
        self._function = ContinuousImage(InrParams({}, {}, spec))
        mesh = make_mesh(jax.local_devices())
        whole, self._split = replicated(mesh), over_batch(mesh)
        self._arrays = jax.device_put(local_copy(Generated.arrays(model)), whole)
        # Two programs, so that another size compiles nothing but its own render.
        networks = InrParams(whole, self._split, spec)
        self._inr = jax.jit(
            self._generated.inr, in_shardings=(whole, self._split), out_shardings=networks
        )
        self._render = jax.jit(
            lambda params, grid: to_uint8(render(params, grid)),
            in_shardings=(networks, whole),
            out_shardings=self._split,
        )

    @property
    def native(self) -> Size:
        """(width, height) of the training grid."""
        return self._function.size

    def reader(self, size: Size, method: str) -> Callable[[np.ndarray], dict]:
        """A function of images' numbers (a multiple of the devices'), giving them as uint8.

        `image` `[b, H, W, C]`, rendered at `size` (`inr`) or made of the native render by Pillow
        (`bicubic`, `lanczos`), `native`, that render, and `number`.
        """
        sizes = [self.native] + [size] * (method == "inr" and size != self.native)
        grids = [planned(self._function, size) for size in sizes]

        def read(numbers):
            params = self._inr(
                self._arrays, jax.device_put(Generated.read(SEED)(numbers), self._split)
            )
            native, *others = (np.asarray(self._render(params, grid)) for grid in grids)
            image = others[0] if others else resized(native, size, method)
            return {"image": image, "native": native, "number": numbers.astype(np.uint32)}

        return read


def real_reader(real: Real, size: Size) -> Callable[[np.ndarray], dict]:
    """What `Renders.reader` gives, less `native`, of real images resized with Lanczos."""

    def read(numbers):
        image = resized(real.read(numbers)["image"], size, "lanczos")
        return {"image": image, "number": numbers.astype(np.uint32)}

    return read


def resized(images_bhwc: np.ndarray, size: Size, method: str) -> np.ndarray:
    """uint8 images resized by Pillow, whose filters grow with the factor when shrinking."""
    height, width = images_bhwc.shape[1:3]
    if (width, height) == size:
        return images_bhwc

    def one(image_hwc):
        made = np.asarray(to_image(image_hwc).resize(size, FILTERS[method]))
        return made.reshape(*made.shape[:2], -1)

    with ThreadPoolExecutor(THREADS) as pool:
        return np.stack(list(pool.map(one, images_bhwc)))


def area(images_bhwc: jax.Array, size: Size) -> jax.Array:
    """Means over the area of each pixel of `size`, float32; more pixels than there are repeat."""
    (width, height), shape = size, images_bhwc.shape
    if shape[1:3] == (height, width):
        return images_bhwc.astype(jnp.float32)
    return jnp.einsum(
        "yh,bhwc,xw->byxc",
        coverage(shape[1], height),
        images_bhwc.astype(jnp.float32),
        coverage(shape[2], width),
        precision=jax.lax.Precision.HIGHEST,
    )


def psnr(a_bhwc: jax.Array, b_bhwc: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio `[B]` in dB of uint8 images, seen in [-1, 1], of two sizes.

    The larger ones are averaged over areas to the size of the smaller ones. An error less than that
    of rounding to 8 bits counts as that: 58.9 dB at most.
    """
    size = min(a_bhwc.shape[2:0:-1], b_bhwc.shape[2:0:-1])
    a, b = (area(images, size) / 127.5 - 1 for images in (a_bhwc, b_bhwc))
    error_b = jnp.mean(jnp.square(a - b), axis=(1, 2, 3))
    return 10 * jnp.log10(4 / jnp.maximum(error_b, ROUNDING))


@functools.partial(jax.jit, static_argnames="size")
def patches(images_bhwc: jax.Array, numbers_b: jax.Array, size: Size) -> jax.Array:
    """A patch of `size` of each image, whole pixels, anywhere with the same probability.

    Where it lies is a function of the image's number and of the sizes, for real images, too.
    """
    (width, height), shape = size, images_bhwc.shape

    def cut(image_hwc, number):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SEED), number), PLACES)
        rooms = jnp.asarray([shape[1] - height, shape[2] - width])
        row, column = jax.random.randint(key, (2,), 0, rooms + 1)
        return jax.lax.dynamic_slice(image_hwc, (row, column, 0), (height, width, shape[3]))

    return jax.vmap(cut)(images_bhwc, numbers_b)
