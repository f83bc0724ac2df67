"""What a run is told: the keys, parsing, checking, and which of them make a run the same run.

A file in `configs/` starts from `base(family)` and states only what differs. The other rooms read
what is here; nothing here knows data, training, metrics or rendering, and what a key may name (an
augmentation, a metric) is listed here.
"""

from inr_gan_jax.config.identity import identity
from inr_gan_jax.config.parse import KEYS, adopt, base, flatten, parse, to_plain
from inr_gan_jax.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    LogConfig,
    MeshConfig,
    PatchConfig,
    ProfileConfig,
    ScheduleConfig,
    TrainConfig,
)

__all__ = [
    "KEYS",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "LogConfig",
    "MeshConfig",
    "PatchConfig",
    "ProfileConfig",
    "ScheduleConfig",
    "TrainConfig",
    "adopt",
    "base",
    "flatten",
    "identity",
    "parse",
    "to_plain",
]
