"""Flags that several commands have: defined here once, alike in name, kind and meaning.

A command asks for those that it honours, and for no other.
"""

import math
import os
from collections.abc import Callable

from absl import flags

from inr_gan_jax.cli.arguments import parse_size, parse_window
from inr_gan_jax.errors import UserError

flags.disclaim_key_flags()  # they are the command's that asks for them, and in its --help


class _Path(flags.ArgumentParser):
    """A file or folder, local or in a cloud; `~` is the home folder."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "path"


class _Paths(flags.ListParser):
    """Several, with commas between them."""

    def parse(self, argument: str | list[str]) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]

    def flag_type(self) -> str:
        return "paths"


def path(name: str, default: str | None, text: str, **options) -> flags.FlagHolder:
    """A flag that names a file or folder, local or in a cloud; `~` is the home folder."""
    return flags.DEFINE(_Path(), name, default, text, **options)


def paths(name: str, default: list[str], text: str, **options) -> flags.FlagHolder:
    """A flag that names several files, with commas between them."""
    return flags.DEFINE(
        _Paths(), name, default, text, serializer=flags.CsvListSerializer(","), **options
    )


def operand(name: str) -> Callable[[list[str]], list[str]]:
    """How flags are parsed where a first word without dashes is what --NAME names."""

    def parse(argv: list[str]) -> list[str]:
        program, *words = argv
        if words and not words[0].startswith("-"):
            words[0] = f"--{name}={words[0]}"
        return flags.FLAGS([program, *words])

    return parse


def checkpoint(*, required: bool = True) -> flags.FlagHolder:
    """--checkpoint, --cache_dir and --ema: what `load` opens."""
    averages("Relative width of another average of the run, 0.05 say.")
    path("cache_dir", None, "Where published files are kept, converted; default: ~/.cache/...")
    text = "A workdir, one checkpoint, a published file (.pkl, .pt), or hf://user/model."
    return path("checkpoint", None, text, required=required)


def averages(text: str) -> None:
    """--ema: relative widths of averages (see storage.averages); read it by `widths`."""
    flags.DEFINE_list("ema", [], text)


def widths() -> list[float]:
    """What --ema says; UserError for what are no numbers."""
    try:
        return [float(text) for text in flags.FLAGS.ema]
    except ValueError:
        raise UserError(f"--ema={','.join(flags.FLAGS.ema)} must be numbers, 0.05 say") from None


def load(**options):
    """The Model that --checkpoint names."""
    from inr_gan_jax.model import load as load_model

    asked, wanted = flags.FLAGS, widths()
    if len(wanted) > 1:
        raise UserError(f"--ema={','.join(asked.ema)}: one average at a time makes images")
    ema = wanted[0] if wanted else None
    return load_model(asked.checkpoint, cache_dir=asked.cache_dir, ema=ema, **options)


def class_index(text: str) -> flags.FlagHolder:
    """--class_index (see arguments.parse_class): `text` says of what, and what the default is."""
    return flags.DEFINE_string(
        "class_index", None, f"{text} A class's name, or else its number from 0."
    )


def truncation() -> flags.FlagHolder:
    """--truncation: psi; read it by `finite`."""
    return flags.DEFINE_float("truncation", 1.0, "Psi: 1 is none, 0 the average image.")


def finite(flag: flags.FlagHolder) -> float:
    """The value of a flag that takes numbers; UserError for nan and inf."""
    if not math.isfinite(flag.value):
        raise UserError(f"--{flag.name}={flag.value} must be finite")
    return flag.value


class View:
    """Flags of a view (see render.view.View): those of TEXTS that a command honours."""

    TEXTS = {
        "size": "Pixels, WIDTHxHEIGHT; default: the training size.",
        "window": "left,bottom,right,top; default: -1,-1,1,1.",
        "superres_from": "First level (0: coarsest) with points between its training cells.",
        "density": "How much finer those levels are (inf: continuous); default: as size needs.",
        "samples": "Points averaged per pixel: 1, 4, 9, 16, ...",
        "align": "Where in a pixel its point lies (corners: end to end); default: the model's.",
        "tables": "Learned tables beyond the frame; default: clamp.",
    }
    _CHOICES = {"align": ["edge", "center", "corners"], "tables": ["clamp", "reflect"]}
    _NUMBERS = {"superres_from": flags.DEFINE_integer, "density": flags.DEFINE_float,
                "samples": flags.DEFINE_integer}  # fmt: skip

    def __init__(self, *names: str, **texts: str):
        """Defines flags by name, or by a text that says what they mean in this command."""
        self._flags = {
            name: self._define(name, text)
            for name, text in ({name: self.TEXTS[name] for name in names} | texts).items()
        }

    @classmethod
    def _define(cls, name: str, text: str) -> flags.FlagHolder:
        if name in cls._CHOICES:
            return flags.DEFINE_enum(name, None, cls._CHOICES[name], text)
        return cls._NUMBERS.get(name, flags.DEFINE_string)(name, None, text)

    def __getitem__(self, name: str):
        """What a user gave, or None."""
        return self._flags[name].value

    def options(self) -> dict:
        """Keyword arguments of `ContinuousImage.render`: those that a user gave."""
        given = {n: flag.value for n, flag in self._flags.items() if flag.value is not None}
        if "size" in given:
            given["width"], given["height"] = parse_size(given.pop("size"))
        if "window" in given:
            given["window"] = parse_window(given["window"])
        return given
