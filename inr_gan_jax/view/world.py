"""What there is to look at around an image, as a pyramid of tiles, down to where float32 ends."""

import math
from dataclasses import dataclass
from fractions import Fraction

from inr_gan_jax.errors import UserError
from inr_gan_jax.render.frames import FLOAT32_STEP
from inr_gan_jax.render.steady import Steady

REACH = 3  # frames a side: one further frame on every side of the image
TILE = Steady.TILE


@dataclass(frozen=True)
class World:
    """The pyramid over an image of native `width` x `height`.

    On level k of it a native pixel has 2^(k + lowest) pixels a side. Level 0 shows all, on
    the last one neighbouring pixels are still two float32 steps apart.
    """

    width: int
    height: int
    align: str

    @property
    def lowest(self) -> int:
        """log2 of the coarsest level's pixels per native pixel, 0 or less."""
        low = 0
        sides = (REACH * self.width, REACH * self.height)
        while max(sides) > TILE * 2**-low and all(s % 2 ** (1 - low) == 0 for s in sides):
            low -= 1
        return low

    @property
    def least(self) -> Fraction:
        """The fewest pixels per native pixel that are ever looked at."""
        longest = max(self.width, self.height)
        return min(self._scale(0), Fraction(TILE, longest))

    @property
    def levels(self) -> int:
        """How many there are."""
        longest = max(self.width, self.height)
        return int(math.log2(1 / FLOAT32_STEP / longest)) - self.lowest + 1

    def size(self, level: int) -> tuple[int, int]:
        """(width, height) of a level in pixels."""
        scale = self._scale(level)
        return int(REACH * self.width * scale), int(REACH * self.height * scale)

    def tile(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """(left, top, width, height) of a tile; UserError where there is none."""
        if not 0 <= level < self.levels:
            raise UserError(f"there is no level {level}: levels are 0 to {self.levels - 1}")
        width, height = self.size(level)
        left, top = column * TILE, row * TILE
        if not (0 <= left < width and 0 <= top < height):
            raise UserError(f"level {level} of {width}x{height} pixels has no tile {column}, {row}")
        return left, top, min(TILE, width - left), min(TILE, height - top)

    def thumbnail(self) -> tuple[int, int]:
        """(width, height) of the frame as a small picture: whole multiples where it is small."""
        part = Fraction(TILE, max(self.width, self.height))
        if part >= 1:
            return self.width * int(part), self.height * int(part)
        return math.ceil(self.width * part), math.ceil(self.height * part)

    def window(self, level: int, area: tuple[int, int, int, int]) -> tuple[Fraction, ...]:
        """(left, bottom, right, top) in the frame of (left, top, width, height) in pixels."""
        left, top, width, height = area
        scale = self._scale(level)
        x = self._side(left, width, self.width * scale)
        bottom = self.size(level)[1] - top - height  # rows count from the bottom
        y = self._side(bottom, height, self.height * scale)
        return x[0], y[0], x[1], y[1]

    def _side(self, first: int, count: int, frame: Fraction) -> tuple[Fraction, Fraction]:
        """Where in the frame, -1 to 1 and `frame` pixels long, some pixels begin and end."""
        start = first - Fraction(REACH - 1, 2) * frame
        if self.align != "corners":
            return 2 * start / frame - 1, 2 * (start + count) / frame - 1
        step = Fraction(2) / max(frame - 1, 1)  # the first and the last pixel lie on the ends
        if count == 1:
            return start * step - 1 - step / 2, start * step - 1 + step / 2
        return start * step - 1, (start + count - 1) * step - 1

    def _scale(self, level: int) -> Fraction:
        return Fraction(2) ** (level + self.lowest)
