"""The pyramid that is looked at: its tiles, and where it ends."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax.errors import UserError
from inr_gan_jax.view.world import REACH, TILE, World

SIDES = st.sampled_from([16, 24, 32, 60, 256, 1024])


@given(width=SIDES, height=SIDES, align=st.sampled_from(["edge", "center", "corners"]))
def test_levels_double_up_to_the_last_that_float32_tells_apart(width, height, align):
    world = World(width, height, align)
    sizes = [world.size(level) for level in range(world.levels)]
    assert max(sizes[0]) <= TILE or any(side % 2 for side in sizes[0])
    for small, large in zip(sizes[:-1], sizes[1:], strict=True):
        assert large == (2 * small[0], 2 * small[1])
    last = world.levels - 1
    window = world.window(last, (sizes[-1][0] // 2, sizes[-1][1] // 2, 2, 2))
    sides = [float(window[k + 2] - window[k]) for k in (0, 1)]  # of two pixels
    step = min(sides) / (1 if align == "corners" else 2)
    assert np.float32(1 - 2 * step) < np.float32(1 - step) < 1
    assert np.float32(1) + np.float32(step / 8) == 1


@given(data=st.data(), align=st.sampled_from(["edge", "center", "corners"]))
def test_tiles_lie_side_by_side(data, align):
    """Those of a level share their edges, and all of them are the world."""
    world = World(data.draw(SIDES), data.draw(SIDES), align)
    level = data.draw(st.integers(0, min(world.levels - 1, 6)))
    width, height = world.size(level)
    areas = [world.tile(level, column, 0) for column in range(-(-width // TILE))]
    assert sum(area[2] for area in areas) == width
    windows = [world.window(level, area) for area in areas]
    pixel = Fraction(2, 1) / (
        world.width * Fraction(2) ** (world.lowest + level) - (align == "corners")
    )
    for a, b in zip(windows[:-1], windows[1:], strict=True):
        assert b[0] - a[2] == (pixel if align == "corners" else 0)
    if align != "corners":
        assert (windows[0][0], windows[-1][2]) == (-REACH, REACH)


@given(st.integers(8, 2000), st.integers(8, 2000))
def test_the_thumbnail_is_the_frame(width, height):
    """Of its shape, in a tile, and never smaller than what programs are made for."""
    world = World(width, height, "edge")
    wide, high = world.thumbnail()
    assert TILE / 2 < max(wide, high) <= TILE
    assert abs(wide / width - high / height) <= 1 / min(width, height)
    assert min(Fraction(wide, width), Fraction(high, height)) >= world.least


@pytest.mark.parametrize(
    ("level", "column", "row", "said"),
    [
        (99, 0, 0, "no level 99"),
        (-1, 0, 0, "no level -1"),
        (3, 3, 0, "no tile 3, 0"),
        (3, 0, 10**9, "no tile 0, 1000000000"),
    ],
)
def test_there_is_nothing_elsewhere(level, column, row, said):
    with pytest.raises(UserError, match=said):
        World(16, 16, "edge").tile(level, column, row)
