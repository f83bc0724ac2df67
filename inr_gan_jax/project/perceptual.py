"""LPIPS as a part of what a projection minimises."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from etils import epath
from jax.tree_util import Partial

from inr_gan_jax.metrics import vgg, weights

LARGEST = 256  # pixels a side that LPIPS is shown; larger images are averaged down


def lpips(files: Sequence[epath.PathLike]) -> tuple[Partial, list[str]]:
    """(distance of images and targets `[b, h, w, C]` in [-1, 1] -> `[b]`, hashes of the weights).

    `files` hold VGG16 and LPIPS (see metrics.weights.load, which raises UserError for others).
    """
    arrays, hashes = zip(*(weights.load(name, files) for name in ("vgg16", "lpips")), strict=True)
    return Partial(_distance, vgg.lpips_from_torch(*arrays)), list(hashes)


def _distance(network: vgg.Lpips, images_bhwc: jax.Array, targets_bhwc: jax.Array) -> jax.Array:
    return vgg.lpips(network, _shown(images_bhwc), _shown(targets_bhwc))


def _shown(x_bhwc: jax.Array) -> jax.Array:
    """RGB, transparency over white, at most about LARGEST pixels a side."""
    if x_bhwc.shape[-1] == 4:
        part = (x_bhwc[..., 3:] + 1) / 2
        x_bhwc = x_bhwc[..., :3] * part + (1 - part)
    b, h, w, c = x_bhwc.shape
    factor = max(1, max(h, w) // LARGEST)
    h, w = h // factor, w // factor
    cells = x_bhwc[:, : h * factor, : w * factor].reshape(b, h, factor, w, factor, c)
    return jnp.broadcast_to(cells.mean(axis=(2, 4)), (b, h, w, 3))
