"""LPIPS as a part of what a projection minimises."""

from collections.abc import Sequence

import jax
from etils import epath
from jax.tree_util import Partial

from inr_gan_jax.metrics import vgg, weights


def lpips(files: Sequence[epath.PathLike]) -> tuple[Partial, list[str]]:
    """(distance of images and targets `[b, h, w, C]` in [-1, 1] -> `[b]`, hashes of the weights).

    `files` hold VGG16 and LPIPS (see metrics.weights.load, which raises UserError for others).
    """
    arrays, hashes = zip(*(weights.load(name, files) for name in ("vgg16", "lpips")), strict=True)
    return Partial(_distance, vgg.lpips_from_torch(*arrays)), list(hashes)


def _distance(network: vgg.Lpips, images_bhwc: jax.Array, targets_bhwc: jax.Array) -> jax.Array:
    return vgg.lpips(network, vgg.shown(images_bhwc), vgg.shown(targets_bhwc))
