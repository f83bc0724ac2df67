"""Parameters of coordinate networks: golden ones, and random ones of any configuration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from helpers.golden import build

from inr_gan_jax.models import families
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.generator import Generator
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.image import ContinuousImage


@functools.cache
def params_of(name: str) -> InrParams:
    graphdef, params, buffers, golden = build(name)
    module = nnx.merge(graphdef, params, buffers)
    ws = module.mapping(jnp.asarray(golden["z"]))[:, None] if name == "paper" else golden["ws"]
    return jax.jit(module.inr_params)(jnp.asarray(ws))


def size_config(**overrides):
    small = {
        "z_dim": 8,
        "w_dim": 8,
        "channel_base": 512,
        "channel_max": 8,
        "rank": 2,
        "fine_from": 16,
        "input_resolution": 8,
        "embedding_coarse": Embedding(log=32, diagonal=True, cosine=True, table=3),
        "embedding_fine": Embedding(log=32, cosine=True, random=4, table=2),
    }
    return families.inr_gan(**{**small, **overrides})


def random_params(config, batch=2, seed=0) -> InrParams:
    """Random parameters of the shapes that the hypernetwork emits (which need not run for it)."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), abstract_params(config, batch)
    )


def abstract_params(config, batch=1) -> InrParams:
    module = nnx.eval_shape(lambda: Generator(config, rngs=nnx.Rngs(0)))
    ws = jax.ShapeDtypeStruct((batch, module.num_styles, config.w_dim), jnp.float32)
    return jax.eval_shape(lambda m, ws: m.inr_params(ws), module, ws)


def image_of(channels: int = 3, seed: int = 0, **changes) -> ContinuousImage:
    config = size_config(height=16, width=16, channels=channels, **changes)
    image = ContinuousImage(random_params(config, batch=1, seed=seed)[0])
    spread = np.ptp(image.render())  # of random weights: bring them into what uint8 holds
    for block in image.params.spec.blocks:
        rgb = image.params.image[block.name]["rgb"]["w"]
        rgb["style"] = rgb["style"] * 2 / spread
    bias = image.params.shared[image.params.spec.blocks[-1].name]["rgb"]["w"]
    bias["bias"] = bias["bias"] - image.render().mean((0, 1))
    return image
