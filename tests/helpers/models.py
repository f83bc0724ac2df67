"""Generators as small as they get, with random weights, as objects and as checkpoints."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp

from inr_gan_jax.config import base, parse, to_plain
from inr_gan_jax.model import Model
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints


@functools.cache
def tiny_model(family: str = "inr_gan", classes: int = 0, channels: int = 1, **changes) -> Model:
    """A generator of random weights, 16x16."""
    config = base(family, height=16, width=16, channels=channels)
    config.data.source = "digits"
    small = {"z_dim": 8, "w_dim": 8, "channel_base": 256, "channel_max": 16, "fine_from": 16}
    if family == "inr_gan":
        small |= {"input_resolution": 8, "rank": 2}
    config.model.update(small | changes)
    for embedding in (config.model.embedding_coarse, config.model.embedding_fine):
        embedding.update({"log": 32, "table": 4})
    config = parse(config, num_classes=classes)
    w_avg = jnp.zeros(config.model.w_avg_shape)
    model = Model(config, {}, {}, w_avg, class_counts=[1] * classes)
    params, buffers = jax.jit(model.networks.init_generator)(jax.random.key(1))
    return model.with_arrays(params, buffers, w_avg)


def write_checkpoint(workdir: Path, model: Model, step: int = 1, **metadata) -> None:
    """What `load` needs of a checkpoint of this model."""
    params, buffers = model.arrays
    part = {"g_ema": params, "g_buffers": buffers, "w_avg": model.w_avg}
    metadata = {
        "config": to_plain(model.config),
        "class_counts": list(model.class_counts),
        "images": 2000,
    } | metadata
    with Checkpoints(workdir / FOLDER) as checkpoints:
        checkpoints.save(step, {"model": part, "training": {"n": jnp.int32(0)}}, metadata)


@functools.cache
def mild_model(family: str = "inr_gan", size: int = 8, **options) -> Model:
    """A tiny model of 8x8 images with an eighth of its contrast: RGB layers are linear."""
    options = {"height": size, "width": size} | options
    if family.startswith("inr_gan"):
        options |= {"input_resolution": size // 2, "rank": 2}
    model = tiny_model(family, **options)
    params, buffers = model.arrays

    def quieter(path, leaf):
        name = jax.tree_util.keystr(path)
        return leaf / 8 if "'rgb'" in name and "affine" not in name else leaf

    return model.with_arrays(
        jax.tree_util.tree_map_with_path(quieter, params), buffers, model.w_avg, images_seen=2000
    )
