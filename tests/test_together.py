"""Seeds trained as one program are the runs that they would be alone."""

import jax
import numpy as np
import pytest
from etils import epath

from benchmarks import together
from inr_gan_jax import main
from inr_gan_jax.config import base
from inr_gan_jax.errors import UserError
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train.trainer import Trainer


def draft(seed: int, kimg: float = 0.032):
    config = base("inr_gan", height=8, width=8, channels=1, z_dim=8, w_dim=8, channel_base=64,
                  channel_max=8, rank=2, fine_from=8, input_resolution=4)  # fmt: skip
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.log, embedding.table, embedding.random = 32, 3, 4
    config.discriminator.channel_base, config.discriminator.channel_max = 64, 8
    config.data.source, config.seed = "digits", seed
    config.log.checkpoint_kimg = config.log.grid_kimg = kimg
    # With so large an eps a step is in proportion to its gradient, and rounding stays small.
    config.train.update(batch_size=16, dtype="float32", kimg=kimg, r1_gamma=1.0)
    config.train.update(eps=1.0, g_lr=1.0, d_lr=1.0)
    return config


def test_they_are_the_runs_that_they_would_be_alone(tmp_path):
    """Two seeds, after two iterations; the second one's own command then goes on with it."""
    folders = [tmp_path / f"together-{seed}" for seed in (3, 4)]
    together.train([draft(3), draft(4)], folders, points=2)
    found = []
    for folder, seed in zip(folders, (3, 4), strict=True):
        alone = tmp_path / f"alone-{seed}"
        if seed == 4:
            main.train(draft(seed), alone)
        for workdir in (alone, folder)[seed == 3 :]:
            with Checkpoints(epath.Path(workdir) / FOLDER, read_only=True) as checkpoints:
                config, source = main.opened(draft(seed), workdir)
                trainer = Trainer(config, (), dtype="float32")
                state, metadata, step = trainer.restored(checkpoints)
                assert (metadata["images"], step) == (32, 2)
                found.append(jax.device_get((state.g, state.d, state.g_ema)))
    other, alone, member = (jax.tree.leaves(parts) for parts in found)
    fresh, moved = jax.device_get(trainer.init(4)), []
    for start, a, b, c in zip(
        jax.tree.leaves((fresh.g, fresh.d, fresh.g_ema)), alone, member, other, strict=True
    ):
        learned = np.abs(a - start).max()
        assert np.abs(a - b).max() <= max(1e-3 * learned, 1e-6 * np.abs(a).max())
        moved.append(learned > 1e-4 * np.abs(a).max())
        if a.ndim > 1:
            assert np.abs(a - c).max() > 2 * learned
    assert np.mean(moved) > 0.8  # far above what rounding may do
    main.train(draft(4, kimg=0.048), folders[1])
    assert (folders[1] / FOLDER / "3").exists()
    with pytest.raises(UserError, match="has been trained; its own command goes on"):
        together.train([draft(4)], [folders[1]], points=1)
