"""A checkpoint of eight devices goes on on four, two and one, and back, cut in another way."""

import subprocess
import sys

import pytest
from helpers.environment import ROOT, environment

MESHES = [(8, 1), (4, 2), (2, 2), (1, 1), (8, 4), (8, 8)]  # devices, fsdp

CODE = f"""
import sys
import jax, numpy as np
jax.config.update("jax_disable_most_optimizations", True)
from inr_gan_jax.storage.checkpoint import Checkpoints
from inr_gan_jax.config import base, parse
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.state import checkpoint_items
from inr_gan_jax.train.trainer import Trainer

config = base("inr_gan", height=16, width=16, z_dim=8, w_dim=8, channel_base=256, channel_max=16,
              rank=2, input_resolution=8, fine_from=16)
config.discriminator.channel_base = config.discriminator.channel_max = 64
config.data.source, config.train.beta1 = "digits", 0.5
before = None
with Checkpoints(sys.argv[1]) as checkpoints:
    for step, (devices, fsdp) in enumerate({MESHES}):
        mesh = make_mesh(jax.devices()[:devices], fsdp=fsdp)
        trainer = Trainer(parse(config), (), dtype="float32", mesh=mesh)
        if before is None:
            items = checkpoint_items(trainer.init(0))
        else:
            items, metadata, _ = checkpoints.restore(checkpoint_items(trainer.abstract_state()))
            assert metadata == {{"of": step - 1}}
        wanted = checkpoint_items(trainer.shardings)
        assert jax.tree.all(jax.tree.map(lambda x, s: x.sharding == s, items, wanted))
        cut = [leaf for leaf in jax.tree.leaves(items) if not leaf.sharding.is_fully_replicated]
        assert (len(cut) > 50) == (fsdp > 1), (len(cut), fsdp)
        assert all(leaf.addressable_shards[0].data.size * fsdp == leaf.size for leaf in cut)
        after = jax.device_get(items)
        before = before or after
        same = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), before, after)
        assert jax.tree.all(same), (devices, fsdp)
        checkpoints.save(step, items, {{"of": step}})
print("done")
"""


@pytest.mark.slow
def test_every_array_is_the_same_on_every_mesh(tmp_path):
    env = environment(devices=8)
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.stdout.endswith("done\n"), done.stderr
