"""How a kernel walks over a block, and the bytes that this moves through a device's memory."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.experimental import pallas as pl

from inr_gan_jax.models.parameters import Block

LANES = 128
STEP = 2**21  # bytes of the widest float32 features of one step
HELD = 2**22  # bytes of the embedding that stays on chip while images pass


@dataclass(frozen=True)
class Tiling:
    """A block's grid in strips of whole rows: `outer` x `inner` of them, `rows` each.

    Images pass between the two: the embedding of an outer strip is fetched once for all of them,
    and an image's weights are made once for an outer strip. A step is (outer, image, inner); the
    functions of a step tell which block of an array it sees.
    """

    outer: int
    inner: int
    rows: int

    def strip(self, t, b, i) -> tuple:
        """Of `[B, N, C]`, cut along N."""
        return b, t * self.inner + i, 0

    def columns(self, t, b, i) -> tuple:
        """Of `[B, C, N]`, cut along N."""
        return b, 0, t * self.inner + i

    def outer_strip(self, t, b, i) -> tuple:
        """Of `[N, C]`, which all images share."""
        return t, 0

    def image(self, t, b, i) -> tuple:
        """Of `[B, m, n]`: an image's own."""
        return b, 0, 0

    def visit(self, t, b, i) -> tuple:
        """Of `[outer, B, m, n]`."""
        return t, b, 0, 0

    def whole(self, t, b, i) -> tuple:
        """Of `[m, n]`: all of it."""
        return 0, 0


def tiling(block: Block, *, shared_embedding: bool) -> Tiling:
    """Strips that fit on chip, and that a TPU can address: whole tiles, or the whole level."""
    (height, width), factor = block.size, block.upsample
    widest = max(max(layer.outputs, layer.h, layer.e) for layer in block.layers)
    widest = _padded(widest, LANES)  # narrow features lie in as many lanes

    def is_legal(rows: int) -> bool:
        below = rows // factor * (width // factor)
        aligned = rows * width % LANES == 0 and below % 16 == 0
        return rows % factor == 0 and (aligned or rows == height)

    choices = [rows for rows in _divisors(height) if is_legal(rows)]
    small = [rows for rows in choices if 4 * rows * width * widest <= STEP]
    rows = max(small, default=choices[0])
    steps, inner = height // rows, height // rows
    if shared_embedding:
        strip = rows * width * _padded(block.embedding.features(block.size), LANES) * 2
        inner = max(n for n in _divisors(steps) if n == 1 or n * strip <= HELD)
    return Tiling(steps // inner, inner, rows)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _padded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Operand:
    """An array of a kernel: the block of it that a step sees, and which one (`index` of a step)."""

    array: jax.ShapeDtypeStruct
    block: tuple[int, ...]
    index: Callable[..., tuple]

    @property
    def spec(self) -> pl.BlockSpec:
        """What Pallas is told."""
        return pl.BlockSpec(self.block, self.index)

    @property
    def block_bytes(self) -> int:
        """Of a block as it lies in memory: in tiles of 128 lanes and 8 words of 32 bits."""
        size = self.array.dtype.itemsize
        *major, sublanes, lanes = (1, 1, *self.block)
        return math.prod(major) * _padded(sublanes, 32 // size) * _padded(lanes, LANES) * size


def moved_bytes(operands: list[Operand], grid: tuple[int, ...]) -> int:
    """Bytes that the operands move: a block is fetched, or written, once while it stays the same.

    Steps are taken in order, the last axis of `grid` first, as a TPU takes them.
    """
    steps = list(itertools.product(*map(range, grid)))
    return sum(
        len(list(itertools.groupby(tuple(map(int, one.index(*step))) for step in steps)))
        * one.block_bytes
        for one in operands
    )
