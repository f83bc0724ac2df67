"""A converted checkpoint as a workdir: what `load`, `generate` and `main` open."""

import json
import pprint

import jax
import jax.numpy as jnp
from etils import epath

from inr_gan_jax.config import Config, base, to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train.state import TrainState, checkpoint_items
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.workdir import RUN_FILE

CONFIG_FILE = "config.py"


def write_workdir(published: Published, dest: epath.PathLike, *, images: int = 0) -> None:
    """Writes `checkpoints/0`, `config.py` and `run.json`; optimisers are fresh.

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
        (dest / CONFIG_FILE).write_text(config_file(config))
        (dest / RUN_FILE).write_text(json.dumps({"identity": {}, "config": to_plain(config)}))
    except OSError as error:
        raise UserError(f"--dest={dest} cannot be written: {error.strerror or error}") from None
    metadata = {
        "config": to_plain(config),
        "class_counts": published.class_counts,
        "content_hash": "",
        "images": images,
        "iteration": 0,
        "data_position": images,
    }
    with Checkpoints(dest / FOLDER) as checkpoints:
        checkpoints.save(0, checkpoint_items(_state(published, images)), metadata)
        checkpoints.wait()
        if not checkpoints.steps():
            raise UserError(f"--dest={dest} cannot be written (see above)")


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


def _state(published: Published, images: int) -> TrainState:
    """The train state: the networks' arrays, and optimisers that have seen nothing."""
    mesh = make_mesh(jax.devices()[:1])
    trainer = Trainer(published.config, published.class_counts, dtype="float32", mesh=mesh)
    g, g_ema, d, buffers, w_avg = jax.tree.map(
        jnp.asarray,
        (published.g, published.g_ema, published.d, published.buffers, published.w_avg),
    )
    return TrainState(
        g=g,
        g_ema=g_ema,
        d=d,
        g_buffers=buffers,
        g_optimizer=trainer.g_optimizer.init(g),
        d_optimizer=trainer.d_optimizer.init(d),
        w_avg=w_avg,
        path_mean=jnp.zeros(()),
        ada_p=jnp.zeros(()),
        ada_signs=jnp.zeros(()),
        iteration=jnp.asarray(0, jnp.int32),
        images=jnp.asarray(images, jnp.int32),
    )
