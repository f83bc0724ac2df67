"""Flags that commands share: those that a command asks for; `~` and numbers as they are meant."""

import os

import pytest
from absl import flags
from helpers.commands import command

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.errors import UserError

# Which flags of a view each command honours.
VIEWS = {
    "generate": set(shared.View.TEXTS),
    "render": set(shared.View.TEXTS),
    "video": {"size", "window", "superres_from", "density"},
    "style_mix": {"size"},
    "project": {"size", "window"},
    "keypoints": set(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_commands_have_the_view_flags_that_they_honour(name):
    with command(name) as main:
        assert set(flags.FLAGS) & set(shared.View.TEXTS) == VIEWS[name]
        if VIEWS[name]:
            flags.FLAGS(["command", "--checkpoint=x", *required(name), "--size=30x20"])
            size = {"width": 30, "height": 20}
            assert main.__globals__["VIEW"].options() == size


def required(name: str) -> list[str]:
    needed = {
        "generate": ["outdir"],
        "render": ["dest"],
        "style_mix": ["rows", "cols", "layers", "dest"],
        "project": ["target", "outdir"],
    }
    return [f"--{flag}=x" for flag in needed.get(name, [])]


def test_home_in_any_flag_that_names_files():
    with command("render"):
        flags.FLAGS(["render", "--dest=~/x.png", "--image=~/x.inr", "--checkpoint=gs://b/~/run"])
        home = os.path.expanduser("~")
        assert flags.FLAGS.dest == f"{home}/x.png" and flags.FLAGS.image == f"{home}/x.inr"
        assert flags.FLAGS.checkpoint == "gs://b/~/run"
    with command("main"):
        flags.FLAGS(["main", "--detector_weights=~/a.pth,~/b.pth", "--workdir=~/run"])
        assert flags.FLAGS.detector_weights == [f"{home}/a.pth", f"{home}/b.pth"]
        assert flags.FLAGS.workdir == f"{home}/run"


def test_numbers_are_finite_where_they_must():
    with command("generate") as main:
        truncation = main.__globals__["TRUNCATION"]
        flags.FLAGS(["generate", "--checkpoint=x", "--outdir=x", "--truncation=0.5"])
        assert shared.finite(truncation) == 0.5
        flags.FLAGS(["generate", "--checkpoint=x", "--outdir=x", "--truncation=inf"])
        with pytest.raises(UserError, match="--truncation=inf must be finite"):
            shared.finite(truncation)
