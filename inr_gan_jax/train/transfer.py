"""Transfer: a fresh run that starts from the networks of another one."""

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import Mesh

from inr_gan_jax.config import parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.checkpoint import AVERAGE, located
from inr_gan_jax.storage.checkpoint import Checkpoints
from inr_gan_jax.train.state import TrainState
from inr_gan_jax.train.trainer import Trainer

NETWORKS = {"g": "generator", "g_ema": "averaged generator", "d": "discriminator"}


def transfer(state: TrainState, init_from: epath.PathLike, mesh: Mesh) -> tuple[TrainState, list]:
    """Takes from another run's newest checkpoint what fits into a fresh state.

    Returns the state, with fresh optimisers and counts, and lines that say what was taken and name
    each array that was not, because it is absent there or has another shape. Raises UserError where
    there is no checkpoint or nothing of it fits.
    """
    donor, metadata, step = _open(init_from, mesh)
    lines = [f"starting from {init_from}, step {step}, {metadata['images'] / 1000:g} kimg:"]
    changes, taken = {}, 0
    for field, name in NETWORKS.items():
        if field == "d" and metadata.get("holds") == AVERAGE:
            lines.append(f"  {name}: none there, it starts fresh")
            continue
        ours = getattr(state, field)
        changes[field], missing = _fit(ours, getattr(donor, field))
        total = len(jax.tree.leaves(ours))
        taken += total - len(missing)
        lines.append(f"  {name}: {total - len(missing)} of {total} arrays")
        lines += [f"    not taken: {field}/{line}" for line in missing]
    if not taken:
        raise UserError(f"config.train.init_from={init_from}: no array there fits this run")
    changes["g_buffers"], _ = _fit(state.g_buffers, donor.g_buffers)  # bases of what was taken
    w_avg = donor.w_avg
    if w_avg.shape[-1] == state.w_avg.shape[-1]:
        if w_avg.shape != state.w_avg.shape and w_avg.ndim == 2:  # other classes: all their mean
            w_avg = jnp.mean(w_avg, axis=0)
        changes["w_avg"] = jnp.broadcast_to(w_avg, state.w_avg.shape)
    changes["path_mean"] = donor.path_mean
    moved = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), changes, {
        field: getattr(state, field) for field in changes
    })  # fmt: skip
    return state.replace(**moved), lines


def _open(path: epath.PathLike, mesh: Mesh) -> tuple[TrainState, dict, int]:
    """The whole train state of a run, on `mesh`."""
    try:
        directory, step = located(path)
    except UserError as error:
        raise UserError(f"config.train.init_from: {error}") from None
    with Checkpoints(directory, read_only=True) as checkpoints:
        metadata = checkpoints.metadata(step)
        counts = metadata["class_counts"]
        config = parse(metadata["config"], num_classes=len(counts))
        trainer = Trainer(config, counts, dtype="float32", mesh=mesh)
        return trainer.restored(checkpoints, step, average=True)


def _fit(ours: dict, theirs: dict) -> tuple[dict, list[str]]:
    """`ours` with every array of `theirs` that has its name and shape, and the names of others."""
    donated = {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(theirs)}
    missing = []

    def choose(path, leaf):
        other = donated.get(path)
        if other is not None and other.shape == leaf.shape:
            return other
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        there = "absent" if other is None else list(other.shape)
        missing.append(f"{name}, {list(leaf.shape)} here, {there} there")
        return leaf

    return jax.tree_util.tree_map_with_path(choose, ours), missing
