"""Configurations: from ml_collections' ConfigDict to frozen dataclasses, checked once, here.

A file in `configs/` starts from `base(family)` and states only what differs. Behind `parse` nothing
knows ConfigDict any more.
"""

import dataclasses
import math
import typing
from dataclasses import dataclass, field

from ml_collections import ConfigDict

from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.models import generator as generators
from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.generator import GeneratorConfig
from inr_gan_jax.validate import check


@dataclass(frozen=True)
class DataConfig:
    """Where images come from (see data.sources.open_source).

    `source`: `digits`, `tfds:NAME[:SPLIT]`, or the path of a zip or folder. `labels` makes a
    class-conditional run. `data_dir`: where TFDS keeps its data, and copies of what lies in a cloud
    (empty: the defaults). `threads` read in this process, `workers` are processes that read. Up to
    `max_skipped` images that become unreadable are named and replaced by others, in each process.
    """

    source: str = ""
    data_dir: str = ""
    labels: bool = False
    mirror: bool = True
    threads: int = 2
    workers: int = 0
    max_skipped: int = 10


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Progress is counted in kimg (thousands of images); a cadence of 0 is never.

    `microbatches`: passes into which a batch is cut to save memory. `r1_interval = 0`: R1 is part
    of every step, not lazy; likewise `g_interval = 0`: no lazy correction for G. `shared_lr`: rate
    of weights that all images share (paper's generator; 0: `g_lr`). `ema_rampup` 0: no ramp-up.
    `init_from`: a workdir whose networks a fresh run starts from (transfer), `freeze_d`: how many
    layers of D, from the image on, do not learn (FreezeD, Mo et al. 2020). `max_nonfinite`
    iterations in a row whose losses are no numbers end the run. `remat`: images pass G and D one by
    one, and gradients compute them again rather than store how they came about: less memory, more
    work, the same numbers.
    """

    kimg: float = 25_000
    batch_size: int = 64
    microbatches: int = 1
    g_lr: float = 0.0025
    d_lr: float = 0.0025
    shared_lr: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.99
    eps: float = 1e-8
    g_interval: int = 4
    r1_gamma: float = 10.0
    r1_interval: int = 16
    path_weight: float = 0.0
    mixing_prob: float = 0.0
    ema_kimg: float = 20.0
    ema_rampup: float = 0.05
    dtype: str = "bfloat16"
    max_nonfinite: int = 10
    remat: bool = False
    init_from: str = ""
    freeze_d: int = 0


@dataclass(frozen=True)
class AugmentConfig:
    """How what D sees is augmented, for data too few to learn without (Karras et al. 2020b).

    `mode`: none, fixed (with probability `p`) or ada (p starts there and rises by 1 per `kimg`
    thousand images while D's mean sign on real images is above `target`, else falls; it moves every
    `interval` iterations). `pipeline`: see train.augment.PIPELINES.
    """

    mode: str = "none"
    pipeline: str = "bgc"
    p: float = 0.0
    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured of the averaged generator, and how often while it trains.

    `metrics`: names, separated by commas (see metrics.names). `kimg`: the cadence (0: not while
    training). `batch_size`: images at a time on each device. `truncation`: psi. `per_class`: the
    Frechet distances of each class too. `ppl_crop`: path lengths are of the middle of the image, as
    published for faces. `collapse_below`: a class is warned about whose images vary
    less than this part of what real ones do.
    """

    metrics: str = "fid50k_full"
    kimg: float = 0.0
    batch_size: int = 32
    truncation: float = 1.0
    per_class: bool = False
    ppl_crop: bool = False
    collapse_below: float = 0.1


@dataclass(frozen=True)
class LogConfig:
    """How often (kimg) something is written, and how many checkpoints stay."""

    metrics_kimg: float = 4.0
    grid_kimg: float = 200.0
    checkpoint_kimg: float = 200.0
    keep: int = 3
    grid_size: int = 64


@dataclass(frozen=True)
class ProfileConfig:
    """A trace of `steps` iterations, from the `start`-th after this start on (0 steps: none)."""

    steps: int = 0
    start: int = 10


@dataclass(frozen=True)
class MeshConfig:
    """How devices share the work: `fsdp` of them hold the parts of one copy of the networks."""

    fsdp: int = 1


@dataclass(frozen=True)
class Config:
    """A whole run: one configuration, one seed.

    `kernels`: what evaluates the generator's grids while it trains: xla, pallas (fused kernels for
    TPUs) or auto (on a TPU both are timed, once).
    """

    seed: int = 0
    kernels: str = "auto"
    model: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)


# Fields of the networks that follow from others and are not to be set in a configuration.
DERIVED = {
    "model": ("num_classes",),
    "discriminator": ("height", "width", "channels", "num_classes"),
}


def base(family: str, **model) -> ConfigDict:
    """The released recipe for one of the published systems, every key present.

    `model` overrides fields of the generator (GeneratorConfig). Raises UserError for unknown names.
    """
    if family not in generators.FAMILIES:
        raise UserError(
            f"model.family {family!r} is not one of {', '.join(generators.FAMILIES)}"
            + nearest(family, generators.FAMILIES)
        )
    config = Config(model=generators.FAMILIES[family](**model))
    # Once through `_build`: a key that holds a float, however it is written, takes floats.
    return ConfigDict(to_plain(_build(Config, dataclasses.asdict(config), "config")))


def parse(config: ConfigDict | dict, *, num_classes: int = 0) -> Config:
    """Checks a configuration and returns it frozen; UserError (one line) for the first fault.

    `num_classes` comes from the data (0: unconditional).
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    for section, names in DERIVED.items():
        for name in names:
            if isinstance(plain.get(section), dict) and name in plain[section]:
                raise UserError(f"config.{section}.{name} follows from the rest; remove it")
    model = _build(GeneratorConfig, plain.get("model", {}), "config.model")
    model = dataclasses.replace(model, num_classes=num_classes)
    discriminator = plain.get("discriminator", {})
    if isinstance(discriminator, dict):  # what it must be, it is before it is checked
        shape = {name: getattr(model, name) for name in DERIVED["discriminator"]}
        discriminator = discriminator | shape
    parsed = _build(Config, plain | {"model": model, "discriminator": discriminator}, "config")
    check(parsed)
    return parsed


def to_plain(config: Config) -> dict:
    """The inverse of `parse`: nested plain values, for JSON (derived fields left out)."""
    plain = dataclasses.asdict(config)
    for section, names in DERIVED.items():
        for name in names:
            del plain[section][name]
    return plain


def identity(config: Config, content_hash: str) -> dict[str, object]:
    """What makes a run the same run, flat: model, data, seed, batch size, optimiser, augmentation.

    Mesh, cadence, length, kernels, precision and paths may change between starts.
    """
    plain = to_plain(config)
    free = ("kimg", "microbatches", "dtype", "init_from", "max_nonfinite", "remat")
    recipe = {key: value for key, value in plain["train"].items() if key not in free}
    recipe["transferred"] = bool(config.train.init_from)
    parts = {
        "seed": config.seed,
        "model": plain["model"],
        "discriminator": plain["discriminator"],
        "train": recipe,
        "augment": plain["augment"],
        "data": {
            "content": content_hash,
            "labels": config.data.labels,
            "mirror": config.data.mirror,
        },
    }
    return dict(flatten(parts))


def flatten(value, path: str = "config"):
    """(dotted key, value) pairs of nested dictionaries, tuples as lists."""
    if not isinstance(value, dict):
        yield path, list(map(list, value)) if path.endswith("paper_blocks") else value
    else:
        for key, child in value.items():
            yield from flatten(child, f"{path}.{key}")


KEYS = [key for key, _ in flatten(to_plain(Config()))]


def _build(cls, values, path: str):
    """A dataclass from a dict: unknown keys, wrong types and bad values become a UserError."""
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a section with keys, not {values!r}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise UserError(f"unknown key {path}.{key}" + nearest(key, hints))
    made = {key: _convert(hints[key], value, f"{path}.{key}") for key, value in values.items()}
    try:
        return cls(**made)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _convert(hint, value, path: str):
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _build(hint, value, path)
    if hint is tuple and isinstance(value, (tuple, list)):
        if not all(isinstance(row, (tuple, list)) for row in value):
            raise UserError(f"{path} = {value!r} must be a list of rows")
        return tuple(map(tuple, value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise UserError(f"{path} = {value!r} must be {hint.__name__}, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} = {value} must be finite")
    return value
