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


@dataclass(frozen=True)
class DataConfig:
    """Where images come from (see data.sources.open_source).

    `source`: `digits`, `tfds:NAME[:SPLIT]`, or the path of a zip or folder. `labels` makes a
    class-conditional run. `data_dir`: where TFDS keeps its data (empty: its default). `threads`
    read in this process, `workers` are processes that read.
    """

    source: str = ""
    data_dir: str = ""
    labels: bool = False
    mirror: bool = True
    threads: int = 2
    workers: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Progress is counted in kimg (thousands of images); a cadence of 0 is never.

    `microbatches`: passes into which a batch is cut to save memory. `r1_interval = 0`: R1 is part
    of every step, not lazy; likewise `g_interval = 0`: no lazy correction for G. `shared_lr`: rate
    of weights that all images share (paper's generator; 0: `g_lr`). `ema_rampup` 0: no ramp-up.
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


@dataclass(frozen=True)
class LogConfig:
    """How often (kimg) something is written, and how many checkpoints stay."""

    metrics_kimg: float = 4.0
    grid_kimg: float = 200.0
    checkpoint_kimg: float = 200.0
    keep: int = 3
    grid_size: int = 64


@dataclass(frozen=True)
class Config:
    """A whole run: one configuration, one seed."""

    seed: int = 0
    model: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    log: LogConfig = field(default_factory=LogConfig)


# Fields of the networks that follow from others and are not to be set in a configuration.
DERIVED = {
    "model": ("num_classes",),
    "discriminator": ("height", "width", "channels", "num_classes"),
}

# What makes a family what it is: a name alone must not claim it.
DEFINING = {
    "inr_gan": {"upsampling": "nearest", "instance_norm": False},
    "inr_gan_bil": {"upsampling": "bilinear", "instance_norm": True},
    "cips": {"modulation": "style_demod"},
    "stylegan2": {},
    "paper": {"modulation": "fmm_paper"},
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
    _check(parsed)
    return parsed


def to_plain(config: Config) -> dict:
    """The inverse of `parse`: nested plain values, for JSON (derived fields left out)."""
    plain = dataclasses.asdict(config)
    for section, names in DERIVED.items():
        for name in names:
            del plain[section][name]
    return plain


def identity(config: Config, content_hash: str) -> dict[str, object]:
    """What makes a run the same run, flat: model, data, seed, batch size and optimiser.

    Mesh, cadence, length, kernels, precision and paths may change between starts.
    """
    plain = to_plain(config)
    recipe = {k: v for k, v in plain["train"].items() if k not in ("kimg", "microbatches", "dtype")}
    parts = {
        "seed": config.seed,
        "model": plain["model"],
        "discriminator": plain["discriminator"],
        "train": recipe,
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


def _check(config: Config) -> None:
    model, train = config.model, config.train
    if model.family not in generators.FAMILIES:
        raise UserError(f"config.model.family = {model.family!r}" + nearest(model.family, DEFINING))
    for name, value in DEFINING[model.family].items():
        if getattr(model, name) != value:
            raise UserError(
                f"config.model.family={model.family} means config.model.{name}={value!r}, not "
                f"{getattr(model, name)!r}; start from the family's own file in configs/"
            )
    try:
        generators.check(model)
        if model.family != "stylegan2":
            spec = generators.inr_spec(model)
            styles = sum(len(block.layers) for block in spec.blocks) + 1
            if train.mixing_prob and model.family == "paper":
                raise ValueError(f"train.mixing_prob > 0 needs several styles, not 1 of {styles}")
    except ValueError as error:
        raise UserError(f"config: {error}") from None
    if config.seed < 0:
        raise UserError(f"config.seed = {config.seed} must be 0 or more")
    positive = ("kimg", "batch_size", "microbatches", "g_lr", "d_lr", "ema_kimg", "eps")
    for name in positive:
        if not getattr(train, name) > 0:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must be above 0")
    for name in ("g_interval", "r1_interval", "r1_gamma", "path_weight", "shared_lr", "ema_rampup"):
        if getattr(train, name) < 0:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must not be negative")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(train, name) < 1:
            raise UserError(f"config.train.{name} = {getattr(train, name)} must be in [0, 1)")
    if not 0 <= train.mixing_prob <= 1:
        raise UserError(f"config.train.mixing_prob = {train.mixing_prob} must be in [0, 1]")
    if train.dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.train.dtype = {train.dtype!r} must be float32 or bfloat16"
            + nearest(train.dtype, ("float32", "bfloat16"))
        )
    if train.path_weight and not train.g_interval:
        raise UserError("config.train.path_weight needs config.train.g_interval of 1 or more")
    if config.log.keep < 1 or config.log.grid_size < 1:
        raise UserError("config.log.keep and config.log.grid_size must be 1 or more")
    if config.data.threads < 0 or config.data.workers < 0:
        raise UserError("config.data.threads and config.data.workers must be 0 or more")
    if not config.data.source:
        raise UserError(
            "config.data.source is empty: give --config.data.source=images.zip (or a folder, "
            "digits, or tfds:NAME)"
        )


def check_batch(batch_size: int, microbatches: int, group: int, devices: int) -> None:
    """UserError, naming the nearest legal sizes, where a batch cannot be cut for the devices."""
    unit = math.lcm(devices * microbatches * group, 2 * devices * microbatches)
    if batch_size % unit:
        below = max(batch_size // unit, 1) * unit
        raise UserError(
            f"config.train.batch_size = {batch_size} must be a multiple of {unit} ({devices} "
            f"device(s) x {microbatches} microbatch(es) x groups of {group}): "
            f"for instance {below} or {below + unit}"
        )


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
