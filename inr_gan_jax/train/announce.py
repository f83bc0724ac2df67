"""What a run says of itself before it trains, and when it is done."""

import os
import shlex
import shutil
import sys

from etils import epath

from inr_gan_jax.config import Config
from inr_gan_jax.data.patches import Patches
from inr_gan_jax.data.sources import Source
from inr_gan_jax.models.networks import count_parameters
from inr_gan_jax.runtime import devices
from inr_gan_jax.storage.checkpoint import FOLDER
from inr_gan_jax.train.monitor import Monitor
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.watch import Watch


def announce(monitor: Monitor, trainer: Trainer, source: Source, workdir: epath.Path) -> None:
    """What is going to be trained, on what, how."""
    model, wanted, dtype = trainer.config.model, trainer.config.train.dtype, trainer.steps.dtype
    sizes = trainer.abstract_state()
    g, d = (f"{count_parameters(tree):,}" for tree in (sizes.g, sizes.d))
    monitor.say(
        f"{model.family} {model.width}x{model.height}: generator {g} parameters, "
        f"discriminator {d}; {devices.describe()}"
    )
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    monitor.say(f"data: {source.name}, {len(source):,} images{classes}")
    if isinstance(source, Patches):
        aspect = f" (aspect {model.aspect})" if model.aspect else ""
        monitor.say("; ".join(source.told) + aspect)
    for line in trainer.steps.recipe.remarks():
        monitor.say(line)
    if trainer.steps.recipe.powers:
        size, keep = 4 * count_parameters(sizes.averages), trainer.config.log.keep
        monitor.say(
            f"averages of widths {trainer.config.train.power_ema}: {size / 1e6:,.1f} MB more in "
            f"each checkpoint, of which {keep} stay (config.log.keep)"
        )
    if dtype != wanted:
        monitor.say(f"this CPU multiplies {dtype} sooner than {wanted}: {dtype} is used")
    monitor.say(f"workdir: {workdir}; compiling takes a while the first time")


def summary(trainer: Trainer) -> str:
    """What the compiled phases cost, in one line."""
    try:
        return trainer.program().summary()
    except ValueError as error:  # of a compiler whose text is new: no reason not to train
        return f"what this costs could not be read: {error}"[:300]


def say_what_next(monitor: Monitor, config: Config, workdir: epath.Path) -> None:
    """Where the results are, and commands that work as they are printed."""
    python, here = sys.executable, shlex.quote(str(workdir))
    if shutil.which("python") == python:
        python = "python"
    elif not os.path.relpath(python).startswith(".."):  # a virtual environment that is not active
        python = os.path.relpath(python)
    classes = config.model.num_classes
    condition = f" --class_index={min(3, classes - 1)}" if classes else ""
    monitor.say(
        f"  images while it learned:  {workdir / Watch.FOLDER}\n"
        f"  checkpoints:              {workdir / FOLDER}\n"
        f"  curves:                   {python} -m tensorboard.main --logdir={here}\n"
        f"  look into them:           {python} -m inr_gan_jax.view --checkpoint={here}\n"
        f"  more images:              {python} -m inr_gan_jax.generate --checkpoint={here} "
        f"--seeds=0-15 --outdir=out{condition}"
    )
