"""All commands behind one: `inr-gan COMMAND`, or `python -m inr_gan_jax COMMAND`."""

import sys

from inr_gan_jax import __version__
from inr_gan_jax.cli.commands import COMMANDS, overview, start
from inr_gan_jax.errors import nearest


def main() -> int | None:
    """Starts the command that the first argument names; the exit code, where none was started."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        return start(COMMANDS[name], arguments)
    if name in ("--help", "-help", "-h", "help"):
        print(overview())
        return None
    if name == "--version":
        print(f"inr_gan_jax {__version__}")
        return None
    hint = nearest(name, COMMANDS)
    print(f"error: no command {name!r}{hint} (inr-gan --help lists them)", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
