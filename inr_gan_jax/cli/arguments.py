"""Texts of flags -> values, for the commands that take seeds and views; mistakes are UserErrors."""

import math
import re

import numpy as np

from inr_gan_jax.errors import UserError, nearest

MOST = 10_000_000  # seeds at once


def parse_seeds(text: str, flag: str = "seeds") -> list[int]:
    """`0-3,7` -> [0, 1, 2, 3, 7]; UserError for anything else than seeds from 0 to 2^32 - 1."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**32:
            raise UserError(f"--{flag}={text}: {part!r} is no seed or range like 0-15 (below 2^32)")
        if len(seeds) + last - first >= MOST:
            raise UserError(f"--{flag}={text}: more than {MOST:,} at once; take a part of them")
        seeds.extend(range(first, last + 1))
    return seeds


def parse_size(text: str) -> tuple[int, int]:
    """`640x480` -> (width, height)."""
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise UserError(f"--size={text} must be WIDTHxHEIGHT in pixels, like 640x480")
    return int(match[1]), int(match[2])


def parse_window(text: str, flag: str = "window") -> tuple[float, float, float, float]:
    """`-1,-1,0,0` -> (left, bottom, right, top)."""
    try:
        window = tuple(float(part) for part in text.split(","))
    except ValueError:
        window = ()
    if len(window) != 4 or not all(map(math.isfinite, window)):
        raise UserError(f"--{flag}={text} must be left,bottom,right,top, like -1,-1,0,0.5")
    return window


def parse_class(model, seeds: list[int], class_index: str | None) -> np.ndarray | None:
    """Classes `[n]`, one per seed: `class_index` for all, or drawn as the training data has them.

    `class_index` is a number or one of `model.class_names`. None for an unconditional model;
    UserError where the class does not fit the model.
    """
    if not model.num_classes:
        if class_index is not None:
            raise UserError("--class_index: this model is not class-conditional")
        return None
    if class_index is None:
        return model.classes(seeds)
    if class_index in model.class_names:
        return np.full(len(seeds), model.class_names.index(class_index))
    if not class_index.isdecimal() or int(class_index) >= model.num_classes:
        shown = ", ".join(model.class_names[:20]) + ", ..." * (len(model.class_names) > 20)
        names = f", or a name: {shown}{nearest(class_index, model.class_names)}" if shown else ""
        raise UserError(f"--class_index={class_index} must be 0 to {model.num_classes - 1}{names}")
    return np.full(len(seeds), int(class_index))
