"""The main command: one line per mode.

    python -m inr_gan_jax.main --config=configs/ffhq.py [--workdir=DIR] [--config.KEY=VALUE ...]

trains, or goes on from the workdir's last checkpoint.
"""

from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from inr_gan_jax.errors import UserError, run

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; its keys are overridden by --config.KEY=VALUE."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default runs/<config>.")


def _train() -> None:
    from inr_gan_jax.config import parse
    from inr_gan_jax.data.sources import open_source
    from inr_gan_jax.devices import use_compilation_cache
    from inr_gan_jax.train.loop import train

    workdir = WORKDIR.value
    if workdir is None:
        workdir = Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    draft = parse(CONFIG.value)
    source = open_source(
        draft.data.source,
        height=draft.model.height,
        width=draft.model.width,
        channels=draft.model.channels,
        labels=draft.data.labels,
        data_dir=draft.data.data_dir or None,
    )
    use_compilation_cache()
    train(parse(CONFIG.value, num_classes=source.num_classes), source, workdir)


MODES = {"train": _train}
MODE = flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")


def main(_) -> None:
    """Runs the mode that the flags ask for."""
    logging.set_verbosity(logging.WARNING)
    if CONFIG.value is None:
        raise UserError("give a configuration: --config=configs/digits.py")
    MODES[MODE.value]()


if __name__ == "__main__":
    run(main)
