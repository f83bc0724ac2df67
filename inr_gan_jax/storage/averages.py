"""Averages of a run's generator that are chosen afterwards (post-hoc EMA: Karras et al. 2024).

While a run trains it keeps a few averages with power profiles: weights at image count t are like
t^g up to now. Each checkpoint holds them. Any other such average is a sum of those that are saved,
with the factors for which the sum of their profiles comes nearest ("Analyzing and Improving the
Training Dynamics of Diffusion Models", section 3 and appendix C).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.checkpoint import Checkpoints

PART = "averages"  # of a checkpoint
_WORST = 0.1  # of a profile's own size: what misses it by more is another average


class Profile(NamedTuple):
    """Weights like t^exponent from 0 to `end`, an image count."""

    exponent: float
    end: float


def exponent_of(width: float) -> float:
    """g for a width (standard deviation of the profile over its end), in (0, 0.288...).

    width^2 = (g + 1) / ((g + 2)^2 (g + 3)). ValueError for others.
    """
    if not 0 < width < 12**-0.5:  # 1 / sqrt(12) is that of an even profile
        raise ValueError(f"a width of {width:g} is not above 0 and below {12**-0.5:.3f}")
    t = width**-2
    return float(max(np.roots([1, 7, 16 - t, 12 - t]).real))


def widths_of(text: str) -> tuple[float, ...]:
    """`0.05,0.1` -> widths; ValueError for what is none, or is there twice."""
    widths = tuple(float(part) for part in text.split(",")) if text else ()
    if len(set(map(key_of, widths))) < len(widths):
        raise ValueError("a width is there twice")
    for width in widths:
        exponent_of(width)
    return widths


def key_of(width: float) -> str:
    """The name of an average in a checkpoint."""
    return f"width_{width:g}".replace(".", "_")


def inner(a: Profile, b: Profile) -> float:
    """<a, b>, the integral of the product of two profiles (equation 126)."""
    ratio = a.end / b.end
    power = ratio**b.exponent if ratio < 1 else ratio**-a.exponent
    size = (a.exponent + 1) * (b.exponent + 1) / (a.exponent + b.exponent + 1)
    return size * power / max(a.end, b.end)


def combination(saved: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """Factors, which add up to 1, of the saved ones; and what is missing, of the wanted's size."""
    n = len(saved)
    system = np.ones((n + 1, n + 1))  # a multiplier holds the sum
    system[:n, :n] = [[inner(a, b) for b in saved] for a in saved]
    system[n, n] = 0
    right = np.array([*(inner(a, wanted) for a in saved), 1.0])
    scale = np.append(1 / np.sqrt(np.diag(system)[:n]), np.sqrt(system[0, 0]))
    solved = np.linalg.lstsq(scale[:, None] * system * scale, scale * right, rcond=1e-12)[0]
    factors = (scale * solved)[:n]
    own = inner(wanted, wanted)
    missing = factors @ system[:n, :n] @ factors - 2 * factors @ right[:n] + own
    return factors, float(np.sqrt(max(missing, 0) / own))


def reconstructed(
    checkpoints: Checkpoints, step: int, shapes: dict, width: float
) -> tuple[dict, float]:
    """(parameters, what is missing of the profile) of the average of a width at a checkpoint.

    `shapes` are those of the parameters. Reads the averages of this checkpoint and of those before
    it. UserError where there are none, or too few of them for this width.
    """
    try:
        exponent = exponent_of(width)
    except ValueError as error:
        raise UserError(f"--ema={width:g}: {error}") from None
    found = []  # (checkpoint, key, profile)
    for one in (s for s in checkpoints.steps() if s <= step):
        metadata = checkpoints.metadata(one)
        for kept in widths_of(metadata["config"]["train"].get("power_ema", "")):
            found.append((one, key_of(kept), Profile(exponent_of(kept), metadata["images"])))
    here = [profile for one, _, profile in found if one == step]
    if not here:
        raise UserError(
            f"{checkpoints.directory / str(step)} holds one average only: others can be chosen of "
            "runs that trained with --config.train.power_ema=0.05,0.1"
        )
    factors, missing = combination([p for *_, p in found], Profile(exponent, here[0].end))
    if missing > _WORST:
        raise UserError(
            f"--ema={width:g} cannot be made of the averages in {len({s for s, *_ in found})} "
            f"checkpoints ({missing:.0%} of it would be missing): widths near "
            f"{', '.join(k.removeprefix('width_').replace('_', '.') for _, k, _ in found[-2:])} "
            "can; keep more checkpoints (config.log.keep)"
        )
    total = None
    for one in dict.fromkeys(s for s, *_ in found):
        keys = {k: f for (s, k, _), f in zip(found, factors, strict=True) if s == one}
        wanted = {PART: dict.fromkeys(keys, shapes)}
        restored, _, _ = checkpoints.restore(wanted, one, part=f"{PART}/")
        for key, factor in keys.items():
            share = jax.tree.map(
                lambda x, f=factor: f * np.asarray(x, np.float64), restored[PART][key]
            )
            total = share if total is None else jax.tree.map(np.add, total, share)
    return jax.tree.map(lambda x, s: x.astype(s.dtype), total, shapes), missing
