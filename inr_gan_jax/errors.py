"""The one error that a user's mistake may raise, and how a command reports it."""

import difflib
import re
import sys
from collections.abc import Callable, Iterable

from absl import app, flags


class UserError(Exception):
    """Something that the user can mend: one line that names the culprit and what to do."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean "x"?` for the known word closest to `word`, else the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""


def reports_user_errors(command: Callable[..., int | None]) -> Callable[..., int]:
    """Wraps a command: a UserError becomes one line on stderr and exit code 2, not a traceback."""

    def wrapped(*args, **kwargs) -> int:
        try:
            return command(*args, **kwargs) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapped


def run(command: Callable[[list[str]], int | None]) -> None:
    """Starts a command line: parses absl flags, runs, exits; every user's mistake is one line."""

    @reports_user_errors
    def checked(argv: list[str]) -> int | None:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}: flags look like --name=value")
        return command(argv)

    app.run(checked, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        message = str(error).split("\n")[0]
    except (AttributeError, KeyError) as error:  # an override of a key that is not there
        key = re.search(r"'(\w+)'", str(error))
        guess = re.search(r'mean "(\w+)"', str(error))
        name = next((a for a in argv[1:] if key and f".{key[1]}" in a), "--config")
        message = f"unknown key {name.split('=')[0]}"
        message += f'; did you mean "{guess[1]}"?' if guess else ""
    except OSError as error:
        message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
