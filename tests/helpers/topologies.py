"""A short training run on the devices at hand, and all that it leaves, as a command.

    python tests/helpers/topologies.py --fsdp 2 --microbatches 2 --iterations 10 --out state.npz

XLA_FLAGS says how many devices the host has; as one of several processes (JAX_COORDINATOR_ADDRESS
and the like, see processes.join) it reads its own rows of the batches, and process 0 writes. The
network is as small as it gets, and everything that draws random numbers or averages is switched on.
"""

import argparse
import dataclasses
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.runtime.processes import join
from inr_gan_jax.runtime.sharding import local_copy, make_mesh, replicated, to_devices, together
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.step import Steps
from inr_gan_jax.train.trainer import Trainer

BATCH = 64
LAZY = 4  # path length and R1 are due in every fourth iteration
NETWORKS = {"g": (Phase.G_MAIN, Phase.G_PATH), "d": (Phase.D_MAIN, Phase.D_R1)}


def config_of(family: str, fsdp: int, microbatches: int) -> Config:
    """Class-conditional, 8x8 pixels, with style mixing, path lengths, R1 and ADA.

    Groups of 4 for the minibatch deviation, as by default: of only two images some features are so
    close that R1's derivative of their deviation is off by 1e-3 in float32, on one device too.
    """
    config = base(family, height=8, width=8, channels=1, z_dim=8, w_dim=8, channel_base=64,
                  channel_max=8, rank=2, fine_from=8, input_resolution=4)  # fmt: skip
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.log, embedding.table, embedding.random = 32, 4, min(embedding.random, 4)
    config.discriminator.update(channel_base=64, channel_max=8, mapping_layers=2)
    config.data.update(source="digits", labels=True, mirror=True)
    config.train.update(batch_size=BATCH, microbatches=microbatches, mixing_prob=0.9,
                        path_weight=2.0, g_interval=LAZY, r1_interval=LAZY)  # fmt: skip
    config.augment.update(mode="ada", p=0.5, interval=4, kimg=2.0)
    config.mesh.fsdp = fsdp
    return parse(config, num_classes=10)


def gradients(trainer: Trainer, state, batch: dict) -> dict[str, dict]:
    """What each phase, run on this state, hands to its optimiser, on all devices."""
    keeps = optax.GradientTransformation(
        lambda params: params, lambda grads, state, params=None: (params, grads)
    )
    old = trainer.steps
    specs = old.specs.replace(g_optimizer=old.specs.g, d_optimizer=old.specs.d)
    optimizers = [lambda images: keeps] * 2
    steps = Steps(old.recipe, old.networks, *optimizers, old.mesh, specs)
    state = state.replace(g_optimizer=state.g, d_optimizer=state.d)
    shardings = jax.tree.map(lambda spec: NamedSharding(old.mesh, spec), specs)
    found = {}
    for network, phases in NETWORKS.items():
        for phase in phases:
            step = jax.jit(steps.function(phase), out_shardings=(shardings, replicated(old.mesh)))
            found[phase.name] = getattr(step(state, batch)[0], f"{network}_optimizer")
    return found


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--family", default="inr_gan")
    arguments.add_argument("--fsdp", type=int, default=1)
    arguments.add_argument("--microbatches", type=int, default=1)
    arguments.add_argument("--iterations", type=int, default=10)
    arguments.add_argument("--dtype", default="float64")
    arguments.add_argument("--gradients", action="store_true", help="these in place of a state")
    arguments.add_argument("--out", required=True)
    asked = arguments.parse_args()
    start = time.monotonic()
    jax.config.update("jax_enable_x64", asked.dtype == "float64")
    jax.config.update("jax_disable_most_optimizations", True)
    join()
    config = config_of(asked.family, asked.fsdp, asked.microbatches)
    source = open_source("digits", height=8, width=8, channels=1, labels=True)
    mesh = make_mesh(fsdp=asked.fsdp)
    trainer = Trainer(config, source.class_counts, dtype=asked.dtype, mesh=mesh)
    state = trainer.init(config.seed)
    reader = batches(source, seed=config.seed, batch_size=BATCH, mirror=True, threads=0,
                     process_index=jax.process_index(),
                     process_count=jax.process_count())  # fmt: skip
    if asked.gradients:
        found = gradients(trainer, state, to_devices(mesh, next(reader)))
    else:
        for iteration, batch in enumerate(itertools.islice(reader, asked.iterations)):
            state, _ = trainer.iterate(state, to_devices(mesh, batch), iteration)
        found = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    leaves = jax.tree_util.tree_leaves_with_path(local_copy(together(found)))
    for path, leaf in leaves:
        computed = leaf.dtype == asked.dtype or not jnp.issubdtype(leaf.dtype, jnp.floating)
        assert computed, (jax.tree_util.keystr(path), leaf.dtype)
    if jax.process_index() == 0:
        np.savez(asked.out, **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})
        print(f"{mesh.shape}: {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
