"""The discriminator's groups: what images it compares with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.families import FAMILIES
from inr_gan_jax.models.networks import networks_of


@pytest.mark.parametrize("images", [2, 3, 4, 8])
def test_two_batches_in_one_are_judged_as_two(images):
    """Also where a batch is smaller than a group (4)."""
    size = {"height": 8, "width": 8, "channels": 3}
    config = DiscriminatorConfig(**size, channel_base=64, channel_max=8, group=4)
    networks = networks_of(FAMILIES["stylegan2"](**size, z_dim=8, w_dim=8), config)
    judge = networks.discriminator(networks.init_discriminator(jax.random.key(0)))
    batch = jax.random.normal(jax.random.key(1), (2 * images, 8, 8, 3))
    each = np.concatenate([judge(batch[:images]), judge(batch[images:])])
    np.testing.assert_allclose(judge(batch, largest_group=images), each, rtol=1e-5, atol=1e-6)
    if images == 2:  # as one batch of four they are another group
        assert np.abs(judge(batch) - each).max() > 1e-5


@pytest.mark.parametrize("levels", [(), ((16, 8),)])
def test_folded_blocks_are_the_same(levels):
    """Values, gradients and R1's second derivatives, in float64."""
    size = {"height": 32, "width": 16, "channels": 3}
    shape = {"channel_base": 256, "channel_max": 96, "group": 2, "levels": levels}
    networks = networks_of(
        FAMILIES["stylegan2"](**size, z_dim=8, w_dim=8), DiscriminatorConfig(**size, **shape)
    )
    with jax.enable_x64():
        params = networks.init_discriminator(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1))
        images = jax.random.normal(keys[0], (2, 32, 16, 3))
        below = [jax.random.normal(keys[1], (2, 16, 8, 3))] * len(levels)
        assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float64")}

        def told(folded):
            def logits(params, images):
                return networks.discriminator(params)(
                    images, None, below, dtype=images.dtype, folded=folded
                )

            def penalty(params):
                gradient = jax.grad(lambda x: logits(params, x).sum())(images)
                return jnp.sum(gradient**2)

            return jax.jit(lambda p: (logits(p, images), jax.grad(penalty)(p)))(params)

        for a, b in zip(*map(jax.tree.leaves, (told(True), told(False))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


def test_wide_blocks_are_not_folded():
    """Only of those with few channels does another program come."""
    size = {"height": 16, "width": 16, "channels": 3}
    generator = FAMILIES["stylegan2"](**size, z_dim=8, w_dim=8)

    def text(folded, widest):
        shape = {"channel_base": 16 * widest, "channel_max": 128}
        networks = networks_of(generator, DiscriminatorConfig(**size, **shape))
        params = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
        images = jax.ShapeDtypeStruct((4, 16, 16, 3), jnp.float32)

        def judge(params, images):
            return networks.discriminator(params)(images, folded=folded)

        return str(jax.make_jaxpr(judge)(params, images))

    assert text(True, 128) == text(False, 128)
    assert text(True, 32) != text(False, 32)
