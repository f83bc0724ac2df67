"""The arrays of a checkpoint, by name: whether they are those that a model wants, and where to."""

from typing import Any

import jax
from etils import epath

from inr_gan_jax.errors import UserError


def check_same(wanted: Any, saved: Any, folder: epath.Path) -> None:
    """Raises UserError for the first leaf that differs: orbax would cast a wrong dtype silently."""
    wanted, saved = _describe(wanted), _describe(saved)
    for name in sorted(wanted.keys() | saved.keys()):
        ours, theirs = wanted.get(name, "absent"), saved.get(name, "absent")
        if ours != theirs:
            raise UserError(f"{folder}: {name} is {theirs} there but {ours} in this model")


def _describe(tree: Any) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Gives a leaf without a sharding one: otherwise orbax wants the devices that saved it."""
    here = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
