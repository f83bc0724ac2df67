"""Views by few programs: the same pixels, and shapes that do not follow from the view."""

import functools
from fractions import Fraction

import jax
import numpy as np
import pytest
from helpers.models import mild_model
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.render.steady import Steady

KINDS = ("inr_gan", "inr_gan_bil", "cips", "inr_gan_any", "spline")
LEAST = Fraction(1, 4)


@functools.cache
def steady(kind: str) -> Steady:
    if kind == "spline":
        model = mild_model("inr_gan_any", size=16, nodes="spline", upsampling="continuous")
    else:
        more = {"upsampling": "continuous"} if kind == "inr_gan_any" else {}
        model = mild_model(kind, size=16, **more)
    label = 0 if model.num_classes else None
    return Steady(model.image(seed=3, classes=label), LEAST)


def shapes(image: Steady, view) -> tuple:
    """What a program is compiled for."""
    plans = image.axis_tiles(view, image.TILE)
    return tuple(a.shape for axes in plans for a in jax.tree.leaves(axes[0]))


@functools.cache
def known(kind: str) -> set:
    image = steady(kind)
    return {shapes(image, view) for view in image.kinds()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_view_runs_a_program_that_is_known(kind, data):
    """Of any size, window, level and density, from four times smaller to as close as it goes."""
    image = steady(kind)
    zoom = data.draw(st.sampled_from([Fraction(1, 4), Fraction(1, 2), 1, 3, 16, 2**18]))
    x, y = (Fraction(data.draw(st.integers(-3000, 3000)), 1000) for _ in range(2))
    width, height = (data.draw(st.integers(1, image.TILE)) for _ in range(2))
    sides = [Fraction(2 * n, m) / zoom for n, m in zip((width, height), image.size, strict=True)]
    options = {}
    if not image.params.spec.continuous:
        levels = len(image.params.spec.levels)
        options["superres_from"] = data.draw(st.sampled_from([None, *range(levels + 1)]))
        options["density"] = data.draw(st.sampled_from([None, 1, 2, float("inf")]))
    window = (x, y, x + sides[0], y + sides[1])
    view = image.view(width, height, window=window, **options)
    assert shapes(image, view) in known(kind)


@pytest.mark.parametrize("kind", ["inr_gan_bil", "inr_gan_any"])
def test_pixels_are_the_images_own(kind):
    """In one tile, in several, and tile by tile; every one of them ticks."""
    image, ticks = steady(kind), []
    plain = ContinuousImage(image.params)
    window = (-0.7, -1.3, 0.6, 0.2)
    for width, height in ((50, 70), (200, 130)):
        want = plain.render(width, height, window=window)
        ticking = image.ticking(lambda: ticks.append(1))
        np.testing.assert_allclose(ticking.render(width, height, window=window), want, atol=2e-6)
    assert len(ticks) == 1 + 4
    made = np.zeros_like(want)
    for top, left, pixels in image.tiles(width, height, tile=image.TILE, window=window):
        made[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
    np.testing.assert_allclose(made, want, atol=2e-6)
