"""From ml_collections' ConfigDict to frozen dataclasses, and back to plain values.

Behind `parse` nothing knows ConfigDict any more.
"""

import dataclasses
import math
import typing

from ml_collections import ConfigDict

from inr_gan_jax.config import recipes
from inr_gan_jax.config.check import check
from inr_gan_jax.config.schema import DERIVED, Config
from inr_gan_jax.errors import UserError, nearest
from inr_gan_jax.models import families, sizes
from inr_gan_jax.models.families import GeneratorConfig


def base(family: str, *, recipe: str = "released", **model) -> ConfigDict:
    """One of the published systems with a recipe (see recipes.RECIPES), every key present.

    `model` overrides fields of the generator (GeneratorConfig). Raises UserError for unknown names.
    """
    if family not in families.FAMILIES:
        raise UserError(
            f"model.family {family!r} is not one of {', '.join(families.FAMILIES)}"
            + nearest(family, families.FAMILIES)
        )
    config = Config(model=families.FAMILIES[family](**model))
    # Once through `_build`: a key that holds a float, however it is written, takes floats.
    draft = ConfigDict(to_plain(_build(Config, dataclasses.asdict(config), "config")))
    adopt(draft, recipe)
    return draft


def adopt(draft: ConfigDict, recipe: str) -> None:
    """Sets what a recipe is, whatever stood there; UserError for an unknown name."""
    released = to_plain(Config(model=families.FAMILIES[draft.model.family]()))
    draft.update_from_flattened_dict(recipes.values_of(recipe, released))


def parse(config: ConfigDict | dict, *, num_classes: int = 0) -> Config:
    """Checks a configuration and returns it frozen; UserError (one line) for the first fault.

    `num_classes` comes from the data (0: unconditional).
    """
    plain = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    plain = recipes.completed(plain)
    for section, names in DERIVED.items():
        for name in names:
            if isinstance(plain.get(section), dict) and name in plain[section]:
                raise UserError(f"config.{section}.{name} follows from the rest; remove it")
    model = _build(GeneratorConfig, plain.get("model", {}), "config.model")
    model = _completed(dataclasses.replace(model, num_classes=num_classes), plain)
    discriminator = plain.get("discriminator", {})
    if isinstance(discriminator, dict):  # what it must be, it is before it is checked
        shape = {
            name: getattr(model, name) for name in DERIVED["discriminator"] if name != "levels"
        }
        train = plain.get("train")
        sees = isinstance(train, dict) and train.get("d_levels")
        shape["levels"] = _levels(model) if sees else ()
        discriminator = discriminator | shape
    parsed = _build(Config, plain | {"model": model, "discriminator": discriminator}, "config")
    check(parsed)
    return parsed


def _completed(model: GeneratorConfig, plain: dict) -> GeneratorConfig:
    """With what follows from the aspect, and from the largest size that is trained on."""
    if model.aspect not in ("", "auto"):
        model = dataclasses.replace(model, **_size(model))
    patches = plain.get("patches", {})
    largest = patches.get("largest", 0) if isinstance(patches, dict) else 0
    if model.family == "inr_gan_any" and isinstance(largest, int):
        last = "fine" if sizes.nominal(model.height, model.width) >= model.fine_from else "coarse"
        embedding = getattr(model, f"embedding_{last}")
        embedding = dataclasses.replace(embedding, finest=max(largest, embedding.finest))
        model = dataclasses.replace(model, **{f"embedding_{last}": embedding})
    return model


def _size(model: GeneratorConfig) -> dict[str, int]:
    try:
        height, width = sizes.of_aspect(model.aspect, model.height, model.width)
    except ValueError as error:
        auto = ", or auto with config.patches.largest"
        raise UserError(f"config.model.aspect = {error}{auto}") from error
    return {"width": width, "height": height}


def _levels(model: GeneratorConfig) -> tuple[tuple[int, int], ...]:
    """Sizes of the generator's levels that D can see: its own blocks end at 4 pixels."""
    try:
        levels = families.inr_spec(model).rgb_levels
    except ValueError:  # for `check` to say
        return ()
    return tuple(size for size in levels if sizes.nominal(*size) > 4)


def to_plain(config: Config) -> dict:
    """The inverse of `parse`: nested plain values, for JSON (derived fields left out)."""
    plain = dataclasses.asdict(config)
    for section, names in DERIVED.items():
        for name in names:
            del plain[section][name]
    return plain


def flatten(value, path: str = "config"):
    """(dotted key, value) pairs of nested dictionaries, tuples as lists."""
    if not isinstance(value, dict):
        yield path, list(map(list, value)) if isinstance(value, tuple) else value
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
