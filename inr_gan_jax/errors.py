"""The one error that a user's mistake may raise."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_PINS = "constraints.txt"


class UserError(Exception):
    """Something that the user can mend: one line that names the culprit and what to do."""


def pip_install(extras: str) -> str:
    """The command that adds extras: in a checkout with its pins, to an installed wheel by name."""
    if (Path(__file__).parents[1] / _PINS).is_file():
        return f"pip install -c {_PINS} -e .[{extras}]"
    return f'pip install "inr_gan_jax[{extras}]"'


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean "x"?` for the known word closest to `word`, else the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""
