"""Networks as small as they get in training: configurations, trainers, single phases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from inr_gan_jax.config import base, parse
from inr_gan_jax.runtime.sharding import make_mesh, to_devices
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import Trainer

BATCH = 16
G_PHASES, D_PHASES = (Phase.G_MAIN, Phase.G_PATH), (Phase.D_MAIN, Phase.D_R1)


def tiny(family="inr_gan", classes=3, **train):
    config = base(family, height=8, width=8, channels=1, z_dim=8, w_dim=8, channel_base=512,
                  channel_max=8, rank=2, fine_from=8,
                  input_resolution=4)  # fmt: skip
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.log, embedding.table = 32, 3
        embedding.random = min(embedding.random, 4)
    config.discriminator.channel_base, config.discriminator.channel_max = 512, 8
    config.discriminator.mapping_layers = 2
    config.data.source = "digits"
    defaults = {"batch_size": BATCH, "path_weight": 2.0, "mixing_prob": 0.5, "dtype": "float32"}
    config.train.update({**defaults, **train})
    return parse(config, num_classes=classes)


def trainer_of(config, devices=1, fsdp=1, kernels="xla") -> Trainer:
    counts = [5, 1, 2][: config.model.num_classes]
    mesh = make_mesh(jax.devices()[:devices], fsdp=fsdp)
    return Trainer(config, counts, dtype="float32", kernels=kernels, mesh=mesh)


@functools.cache
def real_batch() -> dict:
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, 256, (BATCH, 8, 8, 1), np.uint8),
            "label": rng.integers(0, 3, BATCH).astype(np.int32)}  # fmt: skip


def gradients_of(trainer: Trainer, state, phase: Phase) -> tuple[dict, dict]:
    """(gradients that a phase hands to its optimiser, metrics)."""
    after, metrics = after_phase(trainer, state, phase)
    return handed(after, phase), metrics


def handed(after, phase: Phase) -> dict:
    """The gradients in a state that `after_phase` returned."""
    return after.g_optimizer if phase in G_PHASES else after.d_optimizer


def after_phase(trainer: Trainer, state, phase: Phase):
    """(state after a phase, metrics); the optimiser's state is the gradients it was handed."""
    network = "g" if phase in G_PHASES else "d"
    keeps_gradients = optax.GradientTransformation(
        lambda params: params, lambda grads, state, params=None: (params, grads)
    )
    setattr(trainer.steps, f"{network}_optimizer", lambda images: keeps_gradients)
    specs = {f"{network}_optimizer": getattr(trainer.specs, network)}
    trainer.steps.specs = trainer.specs.replace(**specs)
    state = state.replace(**{f"{network}_optimizer": getattr(state, network)})
    arrays = on(trainer, state), to_devices(trainer.mesh, real_batch())
    programs = vars(trainer).setdefault("handing", {})
    if phase not in programs:
        trainer.traced[phase] = jax.jit(trainer.steps.function(phase)).trace(*arrays)
        programs[phase] = trainer.traced[phase].lower().compile()
    return jax.device_get(programs[phase](*arrays))


@functools.cache
def on_one(config, phase: Phase):
    """`after_phase` of the settled state on one device, run once for all tests of a process."""
    trainer = trainer_of(config)
    return after_phase(trainer, settled(trainer), phase)


def on(trainer: Trainer, state):
    shardings = jax.tree.map(lambda s: NamedSharding(trainer.mesh, s), trainer.steps.specs)
    return jax.device_put(state, shardings)


@functools.cache
def fresh(config):
    return trainer_of(config).init(0)


def settled(trainer: Trainer):
    """A state that no counter's start value can hide in."""
    state = fresh(trainer.config)
    w_avg = jax.random.normal(jax.random.key(9), state.w_avg.shape)
    return jax.device_get(
        state.replace(
            w_avg=w_avg, path_mean=jnp.asarray(0.3), iteration=jnp.int32(7), images=jnp.int32(112)
        )
    )


def assert_close(got, want, tolerance):
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        error = np.abs(np.asarray(a) - np.asarray(b)).max()
        scale = np.abs(np.asarray(b)).max()
        assert error <= tolerance * max(scale, 1e-3), (jax.tree_util.keystr(path), error, scale)


def on_one_device(trainer, part):
    """A part of a phase, state -> arrays, as a device runs it."""
    assert trainer.mesh.size == 1
    whole = jax.P()
    return jax.jit(
        jax.shard_map(part, mesh=trainer.mesh, in_specs=whole, out_specs=whole, check_vma=False)
    )


def shallow(size: int, **train) -> ConfigDict:
    """A network with one block of `size` x `size` pixels, to be changed further and parsed."""
    config = base("inr_gan", height=size, width=size, channels=1, z_dim=8, w_dim=8,
                  channel_base=64, channel_max=8, rank=2, extra_layers=0, mapping_layers=1,
                  input_resolution=8, fine_from=size)  # fmt: skip
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.table = 4
    config.discriminator.channel_base, config.discriminator.channel_max = 32, 8
    config.data.source = "digits"
    config.train.batch_size, config.train.dtype = 8, "float32"
    config.train.update(train)
    return config
