"""Networks of a published architecture with random parameters: speed does not depend on values."""

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.config import base, parse
from inr_gan_jax.models.networks import Networks, networks_of
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.render.image import ContinuousImage


def configured(family: str, **model):
    """The configuration of a family, with data that nobody opens."""
    config = base(family, **model)
    config.data.source = "digits"
    return parse(config)


def random_like(shapes):
    """Normal numbers of such shapes and types."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), shapes)


def random_networks(
    family: str, networks: Networks | None = None, **model
) -> tuple[Networks, dict, dict]:
    """(networks, parameters, buffers) of a generator."""
    if networks is None:
        config = configured(family, **model)
        networks = networks_of(config.model, config.discriminator)
    shapes = jax.eval_shape(networks.init_generator, jax.random.key(0))
    return networks, *random_like(shapes)


def random_params(family: str, images: int, **model) -> InrParams:
    """Parameters of coordinate networks, as their hypernetwork emits them."""
    config = configured(family, **model)
    networks = networks_of(config.model, config.discriminator)

    def emit(key):
        ws = jnp.zeros((images, networks.num_styles, config.model.w_dim))
        return networks.generator(*networks.init_generator(key)).inr_params(ws)

    return random_like(jax.eval_shape(emit, jax.random.key(0)))


def random_image(family: str) -> ContinuousImage:
    """One of them, as an image."""
    return ContinuousImage(random_params(family, 1)[0])
