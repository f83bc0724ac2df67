"""All commands by name: what each is for, and the module that it is. Nothing is imported here."""

import runpy
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """A module that `python -m` runs, and one line about it."""

    module: str
    text: str
    arguments: tuple[str, ...] = ()  # what stands before a user's own
    operand: str = ""  # the flag that a first word without dashes means


GROUPS = {
    "train": {
        "train": Command("main", "train a model, or go on after a stop", ("--mode=train",)),
        "doctor": Command("doctor", "what training costs, here or elsewhere; this machine"),
    },
    "look at images": {
        "generate": Command("generate", "images of seeds, at any size and window"),
        "render": Command("render", "one image of any size, tile by tile; functions as files"),
        "video": Command("video", "films and grids of what lies between images, and zooms"),
        "style-mix": Command("style_mix", "a table of images with the styles of others"),
        "view": Command("view", "a page that zooms by itself, in any browser"),
        "project": Command("project", "a photo's place in a model; complete, extend, enlarge it"),
    },
    "measure": {
        "evaluate": Command("main", "FID, KID, IS, PPL, ... of a checkpoint", ("--mode=evaluate",)),
        "report": Command("main", "several output sizes, beside resampling", ("--mode=report",)),
        "keypoints": Command("keypoints", "how linear places in images are in their weights"),
    },
    "bring pictures": {
        "look": Command("data.look", "what a folder, zip or data set holds", operand="source"),
        "prepare": Command("data.prepare", "make a data set: crop, resize, pack"),
    },
    "exchange models": {
        "convert": Command("convert", "published files as workdirs; safetensors, StableHLO"),
        "share": Command("share", "a model for others: a folder, or hf://user/model, with a card"),
    },
    "in this shell": {
        "completion": Command(
            "cli.completion", "complete all this in bash, zsh or fish", operand="shell"
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def overview() -> str:
    """All commands, by what people want to do, a line each."""
    width = max(map(len, COMMANDS))
    lines = ["usage: inr-gan COMMAND [--flag=value ...]"]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:{width}}  {command.text}" for name, command in group.items()]
    lines += [
        "",
        "inr-gan COMMAND --help tells its flags, with examples. These, and hints, call commands by",
        "their modules: inr-gan generate is python -m inr_gan_jax.generate.",
    ]
    return "\n".join(lines)


def start(command: Command, arguments: list[str]) -> None:
    """Runs a command as `python -m` does, with a user's arguments; it exits by itself."""
    sys.argv = [sys.argv[0], *command.arguments, *arguments]
    runpy.run_module(f"inr_gan_jax.{command.module}", run_name="__main__", alter_sys=True)
