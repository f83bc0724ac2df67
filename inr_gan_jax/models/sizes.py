"""Sizes that networks can have: a power of two, halved level by level, and quarters beside it."""

import math
from fractions import Fraction

QUARTERS = tuple(Fraction(n, 4) for n in range(1, 5))


def nominal(height: int, width: int) -> int:
    """The power of two that levels halve: the longer side, or the shorter where only that is one.

    Channels, blocks and what counts as fine go by it.
    """
    long, short = max(height, width), min(height, width)
    return short if _is_power(short) and not _is_power(long) else long


def check_size(height: int, width: int, *, beside: bool = False) -> None:
    """Raises ValueError, one line, unless generator and discriminator can have this image size.

    `beside`: also where the shorter side is the power of two, and the longer one quarters of it.
    """
    long, short = max(height, width), min(height, width)
    quarters = short >= 8 and _is_power(short) and long % (short // 4) == 0 and long <= 4 * short
    if beside and quarters:
        return
    if long < 8 or not _is_power(long):
        raise ValueError(
            f"images of {width}x{height}: the longer side must be a power of two, 8 or more"
        )
    if short < 1 or short % (long // 4):
        legal = ", ".join(str(long * k // 4) for k in (1, 2, 3, 4))
        raise ValueError(
            f"images of {width}x{height}: with a longer side of {long} the shorter one "
            f"must be one of {legal}"
        )


def of_aspect(aspect: str, height: int, width: int) -> tuple[int, int]:
    """(height, width) of a shape "3:2" (width first) about as large as the given size.

    The shorter side is in quarters of the longer, which is the size's power of two, or the longer
    in quarters of the shorter. Raises ValueError, one line, for all else.
    """
    try:
        across, down = map(int, aspect.split(":"))
        shape = Fraction(across, down)
    except (ValueError, ZeroDivisionError):
        shape = Fraction(0)
    if shape not in SHAPES:
        raise ValueError(
            f"{aspect!r} must be width:height, one side in quarters of the other, 4:1 at most "
            "(1:1, 5:4, 4:3, 3:2, 7:4, 2:1, ...)"
        )
    side, ratio = nominal(height, width), max(shape, 1 / shape)
    long = side if 1 / ratio in QUARTERS else int(side * ratio)
    short = int(long / ratio)
    return (short, long) if shape >= 1 else (long, short)


def aspect_of(shape: float) -> str:
    """Width over height -> the nearest shape that `of_aspect` takes, "3:2"."""
    found = min(SHAPES, key=lambda one: abs(math.log(one / shape)))
    return f"{found.numerator}:{found.denominator}"


def _is_power(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


_LONG = {Fraction(n, 4) for n in range(4, 17)} | {1 / short for short in QUARTERS}
SHAPES = sorted(_LONG | {1 / one for one in _LONG})
