"""A converted checkpoint as a workdir: what `load`, `generate` and `main` open."""

import json
import pprint

from etils import epath

from inr_gan_jax.config import Config, base, to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import checkpoint
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.storage.checkpoint import FOLDER
from inr_gan_jax.train.workdir import RUN_FILE

CONFIG_FILE = "config.py"


def write_workdir(published: Published, dest: epath.PathLike, *, images: int = 0) -> None:
    """Writes `checkpoints/0`, `config.py` and `run.json`; optimisers will start fresh.

    `run.json` has an empty identity: the first training on a data set makes it that run's.
    `images` is the count to go on from. Raises UserError for a folder in use, or not writable.
    """
    dest, config = epath.Path(dest).expanduser(), published.config
    try:
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise UserError(
                f"--dest={dest} is in use; give a new folder, x.safetensors or x.stablehlo"
            )
        dest.mkdir(parents=True, exist_ok=True)
        record = {"identity": {}, "config": to_plain(config), "draws": published.draws}
        (dest / CONFIG_FILE).write_text(config_file(config))
        (dest / RUN_FILE).write_text(json.dumps(record))
    except OSError as error:
        raise UserError(f"--dest={dest} cannot be written: {error.strerror or error}") from None
    try:
        checkpoint.save(published, dest, images=images)
    except BaseException:  # an interrupt, too: half a workdir is none, and would be in the way
        for name in (CONFIG_FILE, RUN_FILE):
            (dest / name).unlink(missing_ok=True)
        if (dest / FOLDER).exists():
            (dest / FOLDER).rmtree()
        raise


def config_file(config: Config) -> str:
    """Python source of a configuration file: the base of its family and what differs from it."""
    family = config.model.family
    differing = _difference(to_plain(config), base(family).to_dict())
    return f'''"""The configuration of a published checkpoint, as inr_gan_jax.convert read it."""

from inr_gan_jax.config import base

DIFFERING = {pprint.pformat(differing, sort_dicts=False, width=90)}


def get_config():
    """The released recipe with the networks of the checkpoint."""
    config = base({family!r})
    config.update(DIFFERING)
    return config
'''


def _difference(values: dict, defaults: dict) -> dict:
    """The entries of nested `values` that are not the same in `defaults`."""
    differing = {}
    for key, value in values.items():
        if isinstance(value, dict):
            value = _difference(value, defaults[key])
        if value != defaults[key] and value != {}:
            differing[key] = value
    return differing
