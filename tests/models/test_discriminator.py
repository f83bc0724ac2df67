"""The discriminator's rematerialised blocks: less is stored, the numbers are the same."""

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.generator import FAMILIES
from inr_gan_jax.models.networks import networks_of


def test_rematerialised_blocks_change_memory_and_nothing_else():
    config = DiscriminatorConfig(height=16, width=16, channels=3, channel_base=128, channel_max=16)
    networks = networks_of(FAMILIES["stylegan2"](height=16, width=16), config)
    params = networks.init_discriminator(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))

    def penalty(params, remat):  # as R1: a gradient of a gradient
        def logits(x):
            return networks.discriminator(params)(x, remat=remat)

        return jnp.sum(jax.grad(lambda x: jnp.sum(logits(x)))(images) ** 2) + jnp.sum(
            logits(images)
        )

    plain, saving = (jax.grad(lambda p, r=remat: penalty(p, r)) for remat in (False, True))
    assert "remat" in str(jax.make_jaxpr(saving)(params))
    assert "remat" not in str(jax.make_jaxpr(plain)(params))
    for a, b in zip(*(jax.tree.leaves(jax.jit(g)(params)) for g in (plain, saving)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(jnp.abs(a).max()))
