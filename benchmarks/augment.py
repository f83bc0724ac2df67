"""Augmentation: what it costs beside the discriminator that it serves."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.timing import medians
from inr_gan_jax.models.discriminator import Discriminator, DiscriminatorConfig
from inr_gan_jax.train.augment import augment

BATCH, SIZE = 32, 64


def rows() -> list[dict]:
    """Seconds of D and its gradient over those of augmentation and its gradient."""
    config = DiscriminatorConfig(height=SIZE, width=SIZE, channel_base=4096, mapping_layers=2)
    graphdef, params = nnx.split(Discriminator(config, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (BATCH, SIZE, SIZE, 3))
    key = jax.random.key(1)

    def discriminate(x, params):
        return jnp.sum(nnx.merge(graphdef, params)(x, None, dtype=jnp.float32))

    discriminator = jax.jit(jax.value_and_grad(discriminate, argnums=(0, 1)))
    cases = {"D": lambda: discriminator(x, params)}
    for name in ("bgc", "bgcfnc"):

        def augmented(x, p, name=name):
            value, pull = jax.vjp(lambda x: augment(x, key, p, name), x)
            return value, pull(value)

        cases[name] = functools.partial(jax.jit(augmented), x, 0.5)
    seconds = medians(cases, 5)
    return [
        {
            "what": f"{BATCH} of {SIZE}x{SIZE}: gradient of D / of {name} augmentation",
            "ratio": seconds["D"] / seconds[name],
            "detail": f"{seconds['D']:.3f} s / {seconds[name]:.3f} s",
        }
        for name in ("bgc", "bgcfnc")
    ]
