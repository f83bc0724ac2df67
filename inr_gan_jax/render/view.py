"""`View`: which pixels of which window of an image are wanted."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

FRAME = (-1.0, -1.0, 1.0, 1.0)  # of the training images: left, bottom, right, top
WHOLE = 512  # renders of more pixels a side are made of tiles, in bounded memory
TILE = 256


@dataclass(frozen=True)
class View:
    """What to render: `width` x `height` pixels of `window` = (left, bottom, right, top).

    Pixel (row i, column j) lies at x = left + (right - left) j / width and
    y = bottom + (top - bottom) (height - 1 - i) / height (`align` edge, as in training), half a
    pixel further with `align` center; with `align` corners the first pixel of a row lies at left
    and the last at right, likewise those of a column (as CIPS is trained; its default). The frame
    of the training images is (-1, -1, 1, 1).

    From level `superres_from` on (0 is the coarsest grid) points snap to a grid `density` times
    finer than the level's own; `inf`: they do not snap. By default a render at native size or below
    has no such level, one above has all but the coarsest, at output size over native size.
    `samples` (a square number) points are averaged per pixel. Beyond the frame learned tables
    are clamped or reflected (`tables`).
    """

    width: int
    height: int
    window: tuple[float, float, float, float] = FRAME
    superres_from: int | None = None
    density: float | None = None
    align: str = "edge"
    samples: int = 1
    tables: str = "clamp"

    def __post_init__(self):
        for name in ("width", "height", "samples"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
        if math.isqrt(self.samples) ** 2 != self.samples:
            raise ValueError(f"samples = {self.samples} is no square number (1, 4, 9, 16, ...)")
        if len(self.window) != 4 or not all(math.isfinite(v) for v in self.window):
            raise ValueError(f"window {self.window} must be four numbers: left, bottom, right, top")
        left, bottom, right, top = self.window
        if not (left < right and bottom < top):
            raise ValueError(f"window {self.window} is empty: left < right and bottom < top")
        if self.align not in ("edge", "center", "corners"):
            raise ValueError(f"align must be edge, center or corners, not {self.align!r}")
        if self.tables not in ("clamp", "reflect"):
            raise ValueError(f"tables must be clamp or reflect, not {self.tables!r}")
        if self.density is not None and not self.density >= 1:
            raise ValueError(f"density must be 1 or more (inf: continuous), not {self.density}")


def tile_side(view: View) -> int:
    """Pixels a side of the tiles that `render` makes a view of: one tile if it is small."""
    side = max(view.width, view.height)
    return side if side * math.isqrt(view.samples) <= WHOLE else TILE


def exact(value: float) -> Fraction:
    """The decimal that a user wrote: 0.1 is one tenth, not its nearest binary fraction."""
    return Fraction(str(value)) if isinstance(value, float) else Fraction(value)
