"""A network's first values."""

import jax
import numpy as np

from inr_gan_jax.config import base, parse
from inr_gan_jax.models.layers import Draws
from inr_gan_jax.models.networks import networks_of


def test_every_number_is_given_once():
    wanted = [("normal", (2, 3)), ("uniform", (4,)), ("normal", ()), ("normal", (0, 5)),
              ("uniform", (1, 2, 2)), ("normal", (7,))]  # fmt: skip
    counted = Draws()
    assert not any(getattr(counted, kind)(shape).any() for kind, shape in wanted)
    draws = Draws(jax.random.key(0), counted.taken)
    cut = {"normal": [], "uniform": []}
    for kind, shape in wanted:
        array = getattr(draws, kind)(shape)
        assert array.shape == shape
        cut[kind].append(array.ravel())
    for kind, arrays in cut.items():
        np.testing.assert_array_equal(np.concatenate(arrays), draws.drawn[kind])


def test_networks_start_as_the_papers_say():
    config = base("inr_gan")
    config.data.source = "digits"
    config.model.height = config.model.width = 64
    config.model.channel_max = 64
    config = parse(config)
    networks = networks_of(config.model, config.discriminator)
    g, buffers = jax.jit(networks.init_generator)(jax.random.key(3))
    d = jax.jit(networks.init_discriminator)(jax.random.key(4))
    drawn = 0
    for path, array in jax.tree_util.tree_leaves_with_path((g, d, buffers)):
        x, name = np.asarray(array).ravel(), jax.tree_util.keystr(path)
        if len(x) < 500 or not x.std():
            continue
        drawn += 1
        scale = 100 if "mapping" in name else 1  # 1 / the learning-rate multiplier
        if name.endswith("['weight']"):
            assert abs(x.mean()) < 5 * scale / len(x) ** 0.5, name
            assert abs(x.std() / scale - 1) < 5 / len(x) ** 0.5, name
    assert drawn > 20
