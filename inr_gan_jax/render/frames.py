"""Many frames of one size, planned together, so that they compile once."""

from collections.abc import Iterable, Sequence

import numpy as np

from inr_gan_jax.render.plan import Axis
from inr_gan_jax.render.tiles import Tiled
from inr_gan_jax.render.view import View, tile_side

Plans = dict[tuple[View, int], tuple[list[Axis], list[Axis]]]
FLOAT32_STEP = 2.0**-23  # between the coordinates of neighbouring pixels, near the frame's edge


class Planned(Tiled):
    """An image whose views were planned beforehand (see `plan`)."""

    def __init__(self, image: Tiled, plans: Plans):
        super().__init__(image.params, dtype=image.dtype)
        self._plans = plans

    def show(self, view: View) -> np.ndarray:
        """The pixels `[height, width, C]` of a planned view."""
        return self.render(**vars(view))

    def axis_tiles(self, view: View, tile: int, overlap: int = 0) -> tuple[list[Axis], list[Axis]]:
        return self._plans[view, tile]


def plan(image: Tiled, views: Iterable[View]) -> Plans:
    """The plans of views of one size, padded to one shape: all run one compiled program.

    They hold for every image of the same network. Deeper zooms need fewer cells of the coarse
    grids, so unpadded plans would differ in shape from frame to frame.
    """
    plans: Plans = {}
    for view in views:
        tile = tile_side(view)
        plans[view, tile] = image.axis_tiles(view, tile)
    for side in (0, 1):
        axes = [axis for sides in plans.values() for axis in sides[side]]
        sizes = [max(len(level.coordinate) for level in group)
                 for group in zip(*(axis.levels for axis in axes), strict=True)]  # fmt: skip
        pixels = max(len(axis.pixels) for axis in axes)
        for sides in plans.values():
            sides[side][:] = [axis.padded(sizes, pixels) for axis in sides[side]]
    return plans


def zoom_windows(
    window: Sequence[float], point: Sequence[float], factor: float, count: int, *, back: bool
) -> list[tuple[float, float, float, float]]:
    """`count` windows that shrink geometrically from `window` by `factor` around a point (x, y).

    The point keeps its place on the screen. `back`: in the second half they grow again, so that
    the first follows the last. Raises ValueError for a point outside the window.
    """
    left, bottom, right, top = window
    x, y = point
    if not (left <= x <= right and bottom <= y <= top):
        raise ValueError(f"the point {x:g},{y:g} lies outside the window {tuple(window)}")
    windows = []
    for k in range(count):
        part = 1 - abs(1 - 2 * k / count) if back else k / max(count - 1, 1)
        scale = factor**-part
        windows.append((*(c + (v - c) * scale for v, c in ((left, x), (bottom, y))),
                        *(c + (v - c) * scale for v, c in ((right, x), (top, y)))))  # fmt: skip
    return windows


def deepest_zoom(window: Sequence[float], width: int, height: int) -> float:
    """The factor beyond which neighbouring pixels have one float32 coordinate."""
    left, bottom, right, top = window
    return min((right - left) / width, (top - bottom) / height) / FLOAT32_STEP
