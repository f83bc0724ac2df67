"""`Still`: the pixels of a generator that makes no functions, seen as they are."""

import copy
from collections.abc import Callable, Iterator

import numpy as np

from inr_gan_jax.errors import UserError
from inr_gan_jax.render.view import FRAME, View


class Still:
    """Pixels `[H, W, C]`, about [-1, 1], rendered as squares, with grey beyond them."""

    def __init__(self, pixels: np.ndarray):
        self.pixels, self.channels = pixels, pixels.shape[-1]
        self.size, self.nbytes = pixels.shape[1::-1], pixels.nbytes
        self._tick = None

    def ticking(self, tick: Callable[[], None]) -> "Still":
        """The same pixels; `tick` is called for every picture that is made of them."""
        other = copy.copy(self)
        other._tick = tick
        return other

    def kinds(self) -> Iterator[View]:
        """None: nothing is compiled."""
        return iter(())

    def render(self, width: int, height: int, *, window=FRAME, **options) -> np.ndarray:
        """Pixels `[height, width, C]` of a window; UserError for options of functions."""
        if options:
            raise UserError(f"{', '.join(options)}: this model makes pixels, not functions")
        if self._tick:
            self._tick()
        left, bottom, right, top = map(float, window)
        x = left + (right - left) * (np.arange(width) + 0.5) / width
        y = top - (top - bottom) * (np.arange(height) + 0.5) / height
        h, w = self.pixels.shape[:2]
        column, row = np.floor((x + 1) / 2 * w).astype(int), np.floor((1 - y) / 2 * h).astype(int)
        made = np.zeros((height, width, self.channels), np.float32)
        rows, columns = (row >= 0) & (row < h), (column >= 0) & (column < w)
        made[np.ix_(rows, columns)] = self.pixels[np.ix_(row[rows], column[columns])]
        return made
