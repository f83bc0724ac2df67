"""Adaptive discriminator augmentation (Karras et al. 2020, "Training generative adversarial
networks with limited data", appendix B): D sees every image, real or generated, through random
operations, each applied with probability p, and p follows the signs of D on real images.

`draw` makes the random numbers of one image, `apply` is a pure function of images and such numbers,
`augment` is both, and `update_p` is the controller. All shapes are static, and images pass through
linear maps and additions only: any derivative with respect to them exists.

With every gate shut, p = 0, geometry still resamples, as in the field, but its wavelet is
orthonormal: an image of 4 pixels or more per side, random or smooth, comes back to 3e-7. Flips and
quarter turns are not that exact, for the filter is not symmetric: root mean squares of 0.09 on a
uniformly random image of 64x64 pixels, and of 0.005 on a smooth one.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.config.augmentations import GROUPS, PIPELINES
from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.models.products import at_least_float32
from inr_gan_jax.train.warp import reflected, warp

_ALL = sum(GROUPS.values(), ())
_NORMAL = {"scale", "aniso", "xfrac", "brightness", "contrast", "saturation", "imgfilter", "noise"}
# Which of the four numbers in its row an operation uses; all others use the first.
_NUMBERS = {"xint": slice(2), "xfrac": slice(2), "imgfilter": slice(4), "cutout": slice(2)}

_SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
_BAND_POWER = np.asarray([10, 1, 1, 1]) / 13  # of natural images, expected


class Draw(NamedTuple):
    """The random numbers of one operation.

    `gate`: whether it applies, bool `[]` (`[4]` for the image filter: one for each band).
    `value`: uniform on [0, 1), or normal for those in `_NORMAL`; `[]`, or `[2]` for x and y, or
    `[4]` for the bands; for the noise (level `[]`, pixels `[H, W, C]`).
    """

    gate: jax.Array
    value: jax.Array | tuple[jax.Array, jax.Array]


Draws = dict[str, Draw]


def draw(key: jax.Array, p, shape: tuple[int, ...], operations: tuple[str, ...]) -> Draws:
    """Random numbers for one image of `shape` (H, W, C): operation -> `Draw`.

    An operation's numbers depend on the key and on itself, not on the others in the pipeline:
    each has its row in tables that are drawn whole, for few random calls compile much faster.
    """
    uniform_key, normal_key, pixel_key = jax.random.split(key, 3)
    coins, uniform = jax.random.uniform(uniform_key, (2, len(_ALL), 4))
    normal = jax.random.normal(normal_key, (len(_ALL), 4))
    draws = {}
    for name in operations:
        row = _ALL.index(name)
        # At least one of the two rotations with probability p.
        chance = 1 - jnp.sqrt(1 - p) if name in ("rotate", "rotate_after") else p
        gate = coins[row, slice(4) if name == "imgfilter" else 0] < chance
        value = (normal if name in _NORMAL else uniform)[row, _NUMBERS.get(name, 0)]
        if name == "noise":
            value = value, jax.random.normal(pixel_key, shape)
        draws[name] = Draw(gate, value)
    return draws


def _scale(x, y) -> jax.Array:
    return jnp.array([[x, 0, 0], [0, y, 0], [0, 0, 1]], float)


def _rotate(angle) -> jax.Array:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], float)


def _translate(xy) -> jax.Array:
    return jnp.array([[1, 0, xy[0]], [0, 1, xy[1]], [0, 0, 1]], float)


# (value, (W, H)) -> [3, 3]: the inverse of the transform, in pixels from the centre, y down.
_GEOMETRY: dict[str, Callable] = {
    "xflip": lambda u, size: _scale(1 - 2 * jnp.floor(2 * u), 1),
    "rotate90": lambda u, size: _rotate(jnp.pi / 2 * jnp.floor(4 * u)),
    "xint": lambda u, size: _translate(-jnp.round(0.125 * (2 * u - 1) * size)),
    "scale": lambda n, size: _scale(2 ** (-0.2 * n), 2 ** (-0.2 * n)),
    "rotate": lambda u, size: _rotate(jnp.pi * (2 * u - 1)),
    "aniso": lambda n, size: _scale(2 ** (-0.2 * n), 2 ** (0.2 * n)),
    "rotate_after": lambda u, size: _rotate(jnp.pi * (2 * u - 1)),
    "xfrac": lambda n, size: _translate(-0.125 * n * size),
}


def _geometry(x_hwc: jax.Array, draws: Draws) -> jax.Array:
    size = jnp.asarray([x_hwc.shape[1], x_hwc.shape[0]], float)
    inverse = jnp.eye(3)
    for name, matrix in _GEOMETRY.items():
        if name in draws:
            gate, value = draws[name]
            inverse = inverse @ jnp.where(gate, matrix(value, size), jnp.eye(3))
    return warp(x_hwc, inverse)


_GRAY = np.full((3, 3), 1 / 3, np.float32)  # projects colours onto the axis of grays, R = G = B
_COLOR_PART = np.eye(3, dtype=np.float32) - _GRAY
_ABOUT_GRAY = np.cross(np.ones(3), np.eye(3)).astype(np.float32).T / 3**0.5  # axis x colour


def _colors(matrix) -> jax.Array:
    return jnp.eye(4).at[:3, :3].set(matrix)


def _hue(angle) -> jax.Array:
    """Rotation about the axis of grays."""
    return _colors(_GRAY + jnp.cos(angle) * _COLOR_PART + jnp.sin(angle) * _ABOUT_GRAY)


# value -> [4, 4] on homogeneous RGB.
_COLOR: dict[str, Callable] = {
    "brightness": lambda n: jnp.eye(4).at[:3, 3].set(0.2 * n),
    "contrast": lambda n: _colors(2 ** (0.5 * n) * jnp.eye(3)),
    "lumaflip": lambda u: _colors(_COLOR_PART + (1 - 2 * jnp.floor(2 * u)) * _GRAY),
    "hue": lambda u: _hue(jnp.pi * (2 * u - 1)),
    "saturation": lambda n: _colors(_GRAY + 2**n * _COLOR_PART),
}


def _color(x_hwc: jax.Array, draws: Draws) -> jax.Array:
    matrix = jnp.eye(4)
    for name, of in _COLOR.items():
        if name in draws:
            gate, value = draws[name]
            matrix = jnp.where(gate, of(value), jnp.eye(4)) @ matrix
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    if x_hwc.shape[-1] == 1:  # the mean of what would become of R = G = B
        return x_hwc * jnp.sum(linear) / 3 + jnp.mean(offset)
    rgb = x_hwc[..., :3] @ linear.T + offset
    return jnp.concatenate([rgb, x_hwc[..., 3:]], axis=-1)


def filter_bank() -> np.ndarray:
    """The image filter's four bands, `[4, 43]`, low to high: they add up to the identity.

    Low and high pass are |H(z)|^2 / 2 and |H(-z)|^2 / 2 of the wavelet sym2; each further
    octave has its filters dilated by two.
    """
    taps = np.asarray(_SYM2)
    mirrored = taps * (-1) ** np.arange(4)
    low, high = (np.convolve(h, h[::-1]) / 2 for h in (taps, mirrored))

    def dilated(h, factor):
        return np.kron(h, np.eye(1, factor)[0])[: (len(h) - 1) * factor + 1]

    bands = [
        [dilated(low, 4), dilated(low, 2), low],
        [dilated(high, 4), dilated(low, 2), low],
        [dilated(high, 2), low],
        [high],
    ]
    products = [functools.reduce(np.convolve, band) for band in bands]
    return np.stack([np.pad(h, (43 - len(h)) // 2) for h in products])


def _band_matrices(size: int) -> np.ndarray:
    """`[4, size, size]`: each band's filtering of a reflected axis, as a matrix."""
    bank = filter_bank().astype(np.float32)
    pixels = reflected(size, bank.shape[1] // 2, bank.shape[1] // 2)
    matrices = np.zeros((4, size, size), np.float32)
    for i, taps in enumerate(bank.T):
        matrices[:, np.arange(size), pixels[i : i + size]] += taps[:, None]
    return matrices


def _filter(x_hwc: jax.Array, draws: Draws) -> jax.Array:
    gates, values = draws["imgfilter"]
    one_band = jnp.where(jnp.eye(4, dtype=bool) & gates[:, None], 2 ** values[:, None], 1)
    power = jnp.sum(_BAND_POWER * one_band**2, axis=1, keepdims=True)
    gains = jnp.prod(one_band / jnp.sqrt(power), axis=0)
    rows, columns = (jnp.tensordot(gains, _band_matrices(n), 1) for n in x_hwc.shape[:2])
    return jnp.einsum("yi,xj,ijc->yxc", rows, columns, x_hwc)


def _noise(x_hwc: jax.Array, draws: Draws) -> jax.Array:
    gate, (level, pixels) = draws["noise"]
    return x_hwc + jnp.where(gate, jnp.abs(0.1 * level), 0) * pixels


def _cutout(x_hwc: jax.Array, draws: Draws) -> jax.Array:
    gate, centre = draws["cutout"]
    height, width, _ = x_hwc.shape
    x = jnp.abs((jnp.arange(width) + 0.5) / width - centre[0]) < 0.25
    y = jnp.abs((jnp.arange(height) + 0.5) / height - centre[1]) < 0.25
    return jnp.where((gate & y[:, None] & x)[..., None], 0, x_hwc)


def apply(images_bhwc: jax.Array, draws: Draws) -> jax.Array:
    """Images `[B, H, W, C]` in [-1, 1], C = 1, 3 or 4, augmented as `draws`, `[B]` each, say.

    Returns float32. Only what `draws` names is computed. Gray images get the mean of what colour
    operations would make of their three equal channels; alpha passes them unchanged, and meets
    all the others.
    """
    stages = (
        (_geometry, _GEOMETRY),
        (_color, _COLOR),
        (_filter, GROUPS["f"]),
        (_noise, GROUPS["n"]),
        (_cutout, GROUPS["u"]),
    )

    def one(x_hwc, draws):
        for stage, operations in stages:
            if any(name in draws for name in operations):
                x_hwc = stage(x_hwc, draws)
        return x_hwc

    images_bhwc = images_bhwc.astype(at_least_float32(images_bhwc.dtype))
    # A product of rounded positions would move pixels: no backend's shorter floats here.
    with jax.default_matmul_precision("highest"):
        return jax.vmap(one)(images_bhwc, draws)


def image_keys(key: jax.Array, count: int) -> jax.Array:
    """Random keys of the images of a batch, `[count]`: image i's key depends on `key` and i."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


def augment(images_bhwc: jax.Array, key: jax.Array, p, pipeline: str = "bgc") -> jax.Array:
    """Images as D sees them: `[B, H, W, C]` float in [-1, 1], C = 1, 3 or 4, any height and width.

    `key` is one key for the batch, or `[B]` keys: a part of a batch takes its part of the whole
    batch's `image_keys`. `p` in [0, 1] is a number or a scalar of the device; `pipeline` is one
    of `PIPELINES`. Returns float32, about [-1, 1]: colours may go beyond. Raises UserError for
    an unknown pipeline.
    """
    if pipeline not in PIPELINES:
        raise UserError(
            f"augmentation {pipeline!r} is not one of {', '.join(PIPELINES)}"
            f"{nearest(pipeline, PIPELINES)}"
        )
    batch, *shape = images_bhwc.shape
    keys = key if key.ndim else image_keys(key, batch)
    draws = jax.vmap(lambda key: draw(key, p, tuple(shape), PIPELINES[pipeline]))(keys)
    return apply(images_bhwc, draws)


def update_p(p, sign_mean, *, images: int, target: float = 0.6, kimg: float = 500.0) -> jax.Array:
    """The next augmentation probability, float32 in [0, 1] (section 3.1 of the paper).

    `sign_mean` is the mean sign of D's logits on the real images seen since the last update,
    and `images` their number. Above `target` D overfits and p grows, below it p falls, by
    `images` / (1000 `kimg`): in `kimg` thousand images from 0 to 1. Beyond 1 every operation
    would be certain anyway, and p would only come back later.
    """
    step = jnp.sign(sign_mean - target) * (images / (kimg * 1000))
    return jnp.clip(p + step, 0, 1)
