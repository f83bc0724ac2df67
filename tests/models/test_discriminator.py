"""The discriminator's groups: what images it compares with each other."""

import jax
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
