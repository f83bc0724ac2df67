"""The main command run by tests: a network as small as it gets, and what its runs leave."""

import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from helpers.environment import ROOT

from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.train import workdir as workdirs

TINY = [
    *("model.channel_base=128", "model.channel_max=8", "model.z_dim=8", "model.w_dim=8"),
    *("model.rank=2", "discriminator.channel_base=64", "discriminator.channel_max=8"),
    *("model.mapping_layers=1", "model.extra_layers=0", "train.batch_size=8", "log.grid_size=20"),
]
CADENCE = ["log.metrics_kimg=0.16", "log.grid_kimg=0.4", "log.checkpoint_kimg=0.4",
           "evaluate.metrics=fd_pixel100_full", "evaluate.kimg=0.4"]  # fmt: skip
DIGITS = f"--config={ROOT}/configs/digits.py"


def overrides(*keys: str) -> list[str]:
    return [f"--config.{key}" for key in keys]


def leaves(workdir: Path) -> dict[str, bytes]:
    """The bytes of every array of the newest checkpoint."""
    newest = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    found = {}
    for part in ("model", "training"):
        checkpointer = ocp.PyTreeCheckpointer()
        shapes = checkpointer.metadata(newest / part).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        tree = checkpointer.restore(newest / part, restore_args=as_numpy)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            leaf = np.asarray(leaf)
            name = f"{part}{jax.tree_util.keystr(path)}"
            found[name] = str((leaf.dtype, leaf.shape)).encode() + leaf.tobytes()
    return found


def assert_same_run(one: Path, other: Path) -> None:
    ours, theirs = leaves(one), leaves(other)
    assert ours.keys() == theirs.keys()
    for part in ("g_ema", "w_avg", "['g']", "['d']", "g_optimizer", "d_optimizer", "iteration"):
        assert any(part in name for name in ours), part
    assert [name for name in ours if ours[name] != theirs[name]] == []


def cut_back(workdir: Path, step: int, to: Path) -> Path:
    """A copy of a workdir whose checkpoints after `step` are lost: where a run goes on from."""
    shutil.copytree(workdir, to)
    steps = [int(path.name) for path in (to / "checkpoints").iterdir()]
    assert step in steps and max(steps) > step
    for later in (s for s in steps if s > step):
        shutil.rmtree(to / "checkpoints" / str(later))
    return to


def opened(workdir, config, source):
    """train.workdir.opened with the networks of the configuration."""
    networks = networks_of(config.model, config.discriminator)
    return workdirs.opened(epath.Path(workdir), config, source, networks)
