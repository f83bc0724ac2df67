"""Rendering: what a view of a part, or of a low resolution, costs beside the full image."""

import itertools

import jax

from benchmarks.networks import random_image
from benchmarks.timing import medians
from inr_gan_jax.costs import flops
from inr_gan_jax.render.region import render_region
from inr_gan_jax.render.view import TILE


def rows() -> list[dict]:
    """Full image over 64x64 view, seconds, for models of 256x256."""
    found = []
    for family, repeats in (("inr_gan", 9), ("cips", 3)):
        image = random_image(family)
        seconds = medians(
            {
                "full": lambda image=image: image.render(256, 256),
                "view": lambda image=image: image.render(64, 64),
            },
            repeats,
        )
        found.append(
            {
                "what": f"{family} 256: seconds of the full image / of a 64x64 view",
                "ratio": seconds["full"] / seconds["view"],
                "detail": f"{seconds['full']:.3f} s / {seconds['view']:.3f} s",
            }
        )
    return [*found, _tiled()]


def _tiled() -> dict:
    """FLOP rates of 4096x4096 in tiles (two rows of them) and of the native image."""
    image, side = random_image("inr_gan"), 4096
    count = 2 * side // TILE
    view = {"superres_from": 1}

    def tiles():
        return [pixels for *_, pixels in itertools.islice(image.tiles(side, side, **view), count)]

    def flop(side, pixels, **options):
        (rows, *_), (columns, *_) = image.axis_tiles(image.view(side, side, **options), pixels)
        part = jax.make_jaxpr(lambda p: render_region(p, rows, columns, None))(image.params)
        return flops.count(part).total()

    seconds = medians({"tiles": tiles, "native": lambda: image.render(256, 256)}, 3)
    rates = {
        "tiles": count * flop(side, TILE, **view) / seconds["tiles"] / 1e9,
        "native": flop(256, 256) / seconds["native"] / 1e9,
    }
    return {
        "what": "INR-GAN at 4096x4096 in tiles / native, GFLOP/s (superres_from=1, density 16)",
        "ratio": rates["tiles"] / rates["native"],
        "detail": f"{rates['tiles']:.0f} / {rates['native']:.0f}; {count / seconds['tiles']:.2f} "
        f"tiles of {TILE}x{TILE} a second",
    }
