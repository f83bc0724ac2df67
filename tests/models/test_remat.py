"""Rematerialised networks: less is stored for gradients, the numbers are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.families import FAMILIES
from inr_gan_jax.models.networks import networks_of

SIZE = {"height": 8, "width": 8, "channels": 3}
SMALL = {"z_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8}


def networks(family="stylegan2", **generator):
    discriminator = DiscriminatorConfig(**SIZE, channel_base=64, channel_max=8)
    return networks_of(FAMILIES[family](**SIZE, **SMALL, **generator), discriminator)


def assert_same_gradients(loss, params):
    """Of loss(params, remat), with and without; only one of them computes again."""
    plain, saving = (jax.grad(lambda p, r=remat: loss(p, r)) for remat in (False, True))
    assert "remat" in str(jax.make_jaxpr(saving)(params))
    assert "remat" not in str(jax.make_jaxpr(plain)(params))
    found = [jax.tree.leaves(jax.jit(gradient)(params)) for gradient in (plain, saving)]
    assert max(float(jnp.abs(x).max()) for x in found[0]) > 1e-2
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(a).max()))


def test_discriminator_with_the_penalty_of_r1():
    made = networks()
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))

    def loss(params, remat):  # a gradient of a gradient
        def logits(x):
            return made.discriminator(params)(x, remat=remat)

        slopes = jax.grad(lambda x: jnp.sum(logits(x)))(images)
        return jnp.sum(slopes**2) + jnp.sum(logits(images))

    assert_same_gradients(loss, made.init_discriminator(jax.random.key(0)))


@pytest.mark.parametrize("family", ["stylegan2", "inr_gan"])
def test_generator(family):
    more = {} if family == "stylegan2" else {"rank": 2, "input_resolution": 4, "fine_from": 8}
    made = networks(family, **more)
    params, buffers = made.init_generator(jax.random.key(0))
    ws = jax.random.normal(jax.random.key(1), (3, made.num_styles, 8))
    keys = jax.random.split(jax.random.key(2), 3) if family == "stylegan2" else None

    def loss(params, remat):
        images = made.generator(params, buffers).image(ws, noise_keys=keys, remat=remat)
        return jnp.sum(images * jnp.arange(3)[:, None, None, None])

    assert_same_gradients(loss, params)
