"""`Picture`: what is shown, as the text that stands in an address."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from inr_gan_jax.errors import UserError, nearest

SPACES = ("weights", "style", "latent")


@dataclass(frozen=True)
class Picture:
    """One image of a model, and how its function is seen.

    `seeds`: one; or two, with a part `u` of the way from the first to the second; or four (top
    left, top right, bottom left, right), with `v` from top to bottom, blended in `space`.
    `mix`: the seed of whose styles `layers` (first, last) are taken. `level`, `density`, `tables`:
    as superres_from, density and tables in render.view.View.
    """

    seeds: tuple[int, ...] = (0,)
    u: float = 0.0
    v: float = 0.0
    space: str = "weights"
    truncation: float = 1.0
    class_index: int | None = None
    mix: int | None = None
    layers: tuple[int, int] | None = None
    level: int | None = None
    density: float | None = None
    tables: str = "clamp"

    @property
    def seen(self) -> dict:
        """Options of its View."""
        options = {"superres_from": self.level, "density": self.density, "tables": self.tables}
        return {k: v for k, v in options.items() if v not in (None, "clamp")}

    @property
    def function(self) -> "Picture":
        """The same without how it is seen."""
        return dataclasses.replace(self, level=None, density=None, tables="clamp")

    def text(self) -> str:
        """`seeds=3&psi=0.7`: `parse` makes the same picture of it."""
        plain = Picture()
        given = {"seeds": ",".join(map(str, self.seeds))}
        for name, (field, _) in _FIELDS.items():
            value = getattr(self, field)
            if name == "layers" and value is not None:
                value = "{}-{}".format(*value)
            if name not in given and value != getattr(plain, field):
                given[name] = value if isinstance(value, (str, int)) else f"{value:.9g}"
        return urlencode(given, safe=",")


def parse(text: str | Mapping[str, str]) -> Picture:
    """`seeds=1,2&u=0.3&space=style&psi=0.7` -> Picture; UserError, one line, for anything else."""
    given = text
    if isinstance(text, str):
        pairs = parse_qsl(text.removeprefix("#"), keep_blank_values=True)
        given = dict(pairs)
        if len(given) < len(pairs) or (text and not pairs):
            raise UserError(f"{text!r} is not of the form seeds=1,2&u=0.3, each name once")
    values = {}
    for name, value in given.items():
        if name not in _FIELDS:
            raise UserError(
                f"a picture is told like seeds=1,2&u=0.3: {name!r} is not one of "
                f"{', '.join(_FIELDS)}{nearest(name, list(_FIELDS))}"
            )
        field, read = _FIELDS[name]
        try:
            values[field] = read(value)
        except ValueError as error:
            raise UserError(f"{name}={value[:40]}: {error}") from None
    picture = Picture(**values)
    if (picture.mix is None) != (picture.layers is None):
        raise UserError("mix=SEED and layers=FIRST-LAST go together")
    if picture.mix is not None and len(picture.seeds) > 1:
        raise UserError("styles are mixed into one image: give one seed, not several")
    return picture


def _number(low: float, high: float, *, infinite: bool = False):
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high or (infinite and value == math.inf)):
            raise ValueError(f"must be a number from {low:g} to {high:g}" + ", or inf" * infinite)
        return value

    return read


def _whole(high: int):
    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) >= high:
            raise ValueError(f"must be a whole number from 0 to {high - 1}")
        return int(text)

    return read


def _seeds(text: str) -> tuple[int, ...]:
    seeds = tuple(map(_whole(2**32), text.split(",", 4)))
    if len(seeds) not in (1, 2, 4):
        raise ValueError("must be one, two or four seeds")
    return seeds


def _layers(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    layers = _whole(1000)(first), _whole(1000)(last)
    if layers[0] > layers[1]:
        raise ValueError("the first must not come after the last")
    return layers


def _one_of(*choices: str):
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return read


_FIELDS = {
    "seeds": ("seeds", _seeds),
    "u": ("u", _number(0, 1)),
    "v": ("v", _number(0, 1)),
    "space": ("space", _one_of(*SPACES)),
    "psi": ("truncation", _number(-2, 2)),
    "class": ("class_index", _whole(2**31)),
    "mix": ("mix", _whole(2**32)),
    "layers": ("layers", _layers),
    "level": ("level", _whole(100)),
    "density": ("density", _number(1, 2**23, infinite=True)),
    "tables": ("tables", _one_of("clamp", "reflect")),
}
