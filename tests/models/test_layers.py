"""A network's first values, and the convolution that every network shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inr_gan_jax.config import base, parse
from inr_gan_jax.models.layers import Draws, conv2d
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


@pytest.mark.parametrize("stride, padding", [(2, 0), (3, 1)])
def test_strided_convolution_and_the_gradients_of_its_gradients(stride, padding):
    """Against a sum over windows, in float64: what a CPU runs is not what other devices run."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, w = (jnp.asarray(rng.standard_normal(s)) for s in ((2, 9, 6, 3), (3, 3, 3, 4)))

        def slow(x, w):
            x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
            rows, columns = (range(0, n - 2, stride) for n in x.shape[1:3])
            seen = [[x[:, i : i + 3, j : j + 3] for j in columns] for i in rows]
            return jnp.einsum("rcbijx,ijxo->brco", jnp.asarray(seen), w)

        def fast(x, w):
            return conv2d(x, w, stride=stride, padding=padding)

        def penalty(convolve):  # as R1: of a gradient with respect to images
            inner = jax.grad(lambda x, w: jnp.sum(jnp.tanh(convolve(x, w))))
            outer = jax.grad(lambda x, w: jnp.sum(jnp.square(inner(x, w))), (0, 1))
            return jax.jit(outer)(x, w)

        np.testing.assert_allclose(jax.jit(fast)(x, w), jax.jit(slow)(x, w), rtol=1e-12, atol=1e-12)
        for a, b in zip(penalty(fast), penalty(slow), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
