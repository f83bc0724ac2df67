"""A script with which a shell completes commands, flags, configurations and files.

    mkdir -p ~/.local/share/bash-completion/completions ~/.zfunc ~/.config/fish/completions
    inr-gan completion bash > ~/.local/share/bash-completion/completions/inr-gan
    inr-gan completion zsh > ~/.zfunc/_inr-gan   # with fpath+=~/.zfunc before compinit in ~/.zshrc
    inr-gan completion fish > ~/.config/fish/completions/inr-gan.fish

Without bash-completion: `source` the file in ~/.bashrc. It holds what the commands have today and
starts no Python: make it again after an update.
"""

import contextlib
import io
import re
from xml.etree import ElementTree

from absl import flags

from inr_gan_jax.cli import scripts
from inr_gan_jax.cli.commands import COMMANDS, start
from inr_gan_jax.cli.config import names
from inr_gan_jax.cli.flags import operand
from inr_gan_jax.cli.run import run

SHELL = flags.DEFINE_enum("shell", None, list(scripts.SHELLS), "For which.", required=True)


def _forget() -> None:
    """Takes away the flags of the command that ran last: absl knows each name once."""
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.endswith(".py"):  # what runs is known by its file, what is imported by its name
            for flag in tuple(defined):
                delattr(flags.FLAGS, flag.name)


def flags_of(name: str) -> list[scripts.Flag]:
    """The flags that a command's own --help shows, read from its --helpxml, in this process."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        start(COMMANDS[name], ["--helpxml"])
    _forget()
    given = {argument.split("=")[0].lstrip("-") for argument in COMMANDS[name].arguments}
    found = []
    for entry in ElementTree.fromstring(told.getvalue()).iter("flag"):
        about = {part.tag: part.text or "" for part in entry}
        if about.get("key") != "yes" or about["name"] in given:
            continue
        text = re.sub(r"^<.*?>: ", "", " ".join(about["meaning"].split()))  # of an enum
        if (of := text.partition(":")[0].lower()) in COMMANDS and of != name:
            continue  # "Report: ..." is for report alone
        values = tuple(value.text for value in entry.iter("enum_value"))
        found.append(scripts.Flag(about["name"], text, about["type"], values))
    return found


def main(_) -> None:
    """Asks all commands for their flags, prints the script."""
    from inr_gan_jax.config import KEYS

    script = scripts.SHELLS[SHELL.value]
    _forget()  # this command is one of them
    described = {name: flags_of(name) for name in COMMANDS}
    print(script(described, names(), list(KEYS)), end="")


if __name__ == "__main__":
    run(main, operand("shell"))
