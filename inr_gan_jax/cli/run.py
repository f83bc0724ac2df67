"""How a command starts and ends: whatever a user got wrong is one line, never a traceback."""

import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

from inr_gan_jax.errors import UserError


def reports_user_errors(command: Callable[..., int | None]) -> Callable[..., int]:
    """Wraps a command: a UserError becomes one line on stderr and exit code 2, not a traceback."""

    def wrapped(*args, **kwargs) -> int:
        try:
            return command(*args, **kwargs) or 0
        except UserError as error:
            return _report(str(error))
        except KeyError as error:  # epath's of "gss://bucket"
            if not str(error.args[0]).endswith("://"):
                raise
            return _report(f"paths that begin with {error.args[0]} are not known; gs://... are")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapped


def run(
    command: Callable[[list[str]], int | None],
    parse: Callable[[list[str]], list[str]] = flags.FLAGS,
) -> None:
    """Starts a command line: parses absl flags, runs, exits; every user's mistake is one line."""

    @reports_user_errors
    def checked(argv: list[str]) -> int | None:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}: flags look like --name=value")
        return command(argv)

    def parsed(argv: list[str]) -> list[str]:
        try:
            return parse(["--help" if word == "-h" else word for word in argv])
        except SystemExit:  # --help, which absl counts as a failure
            sys.exit(0)
        except UserError as error:
            message = str(error)
        except flags.Error as error:
            message = str(error).split("\n")[0]
            message = re.sub(r"^flag (--\w+)=None: .*", r"\1 is missing", message)
            message += " (see --help)"
        sys.exit(_report(message))

    logging.set_verbosity(logging.WARNING)  # TFDS and orbax tell each step
    app.run(checked, flags_parser=parsed)


def _report(message: str) -> int:
    """One line on stderr, whatever a library's message in it looks like; the exit code."""
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    return 2
