"""Loss terms and optimisers against independent versions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax.models.mapping import class_sums, update_w_avg
from inr_gan_jax.train import losses
from inr_gan_jax.train.optim import ema_decay, lazy_adam, replace_nonfinite


def test_r1_of_a_known_function():
    """D(x) = <a, x>^2 / 2 has gradient <a, x> a."""
    a = jax.random.normal(jax.random.key(0), (3, 4, 1))
    x = jax.random.normal(jax.random.key(1), (5, 3, 4, 1))
    inner = np.sum(np.asarray(a * x), axis=(1, 2, 3))
    got = losses.gradient_penalties(lambda x: 0.5 * jnp.sum(a * x, axis=(1, 2, 3)) ** 2, x)
    np.testing.assert_allclose(got, inner**2 * np.sum(np.asarray(a) ** 2), rtol=1e-5)


def test_path_length_of_a_linear_generator():
    """For an image that is a matrix times the styles the gradient is the transposed matrix."""
    matrix = jax.random.normal(jax.random.key(0), (2, 3, 1, 4, 5))  # h, w, c, layer, style
    ws = jax.random.normal(jax.random.key(1), (6, 4, 5))
    noise = jax.random.normal(jax.random.key(2), (6, 2, 3, 1))
    got = losses.path_lengths(lambda ws: jnp.einsum("hwcls,bls->bhwc", matrix, ws), ws, noise)
    gradient = np.einsum("hwcls,bhwc->bls", matrix, noise)
    np.testing.assert_allclose(got, np.sqrt((gradient**2).sum(2).mean(1)), rtol=1e-5)


def test_logistic_losses():
    real, fake = jnp.asarray([0.3, -2.0]), jnp.asarray([1.5, 0.1])
    d = np.mean(np.log1p(np.exp(fake))) + np.mean(np.log1p(np.exp(-real)))
    np.testing.assert_allclose(losses.discriminator_loss(real, fake), d, rtol=1e-6)
    np.testing.assert_allclose(
        losses.generator_loss(fake), np.mean(np.log1p(np.exp(-fake))), rtol=1e-6
    )


def adam_by_hand(gradients, rate, b1, b2, eps):
    """Kingma and Ba's algorithm 1, one scalar at a time."""
    x = m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x -= rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return x


@pytest.mark.parametrize("b1", [0.0, 0.5])
@pytest.mark.parametrize("interval", [0, 4, 16])
def test_lazy_adam(b1, interval):
    c = interval / (interval + 1) if interval else 1
    gradients = [0.3, -1.2, 0.7, 2.0, -0.1]
    optimizer = lazy_adam(0.01, b1=b1, b2=0.99, interval=interval)
    params = {"w": jnp.zeros(())}
    state = optimizer.init(params)
    for g in gradients:
        updates, state = optimizer.update({"w": jnp.asarray(g)}, state, params)
        params = optax.apply_updates(params, updates)
    expected = adam_by_hand(gradients, 0.01 * c, b1**c, 0.99**c, 1e-8)
    np.testing.assert_allclose(params["w"], expected, rtol=1e-4)


def test_shared_weights_may_have_a_rate_of_their_own():
    optimizer = lazy_adam(0.5, shared_learning_rate=2.0)
    one = jnp.ones(())
    params = {"hypernet": {"block8": {"w": one}, "weight": one}, "mapping": {"w": one}}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["hypernet"]["block8"]["w"], -2.0, rtol=1e-6)
    np.testing.assert_allclose(updates["hypernet"]["weight"], -0.5, rtol=1e-6)
    np.testing.assert_allclose(updates["mapping"]["w"], -0.5, rtol=1e-6)


def test_nonfinite_gradients_are_replaced_and_counted():
    gradients = {"a": jnp.asarray([1.0, jnp.nan, jnp.inf]), "b": jnp.asarray(-jnp.inf)}
    clean, bad = replace_nonfinite(gradients)
    np.testing.assert_array_equal(clean["a"], [1.0, 0.0, 1e5])
    assert clean["b"] == -1e5 and bad == 3


@given(
    st.integers(1, 512), st.integers(0, 10**7), st.floats(0.1, 100), st.sampled_from([0.0, 0.05])
)
def test_ema_decay(batch, images, kimg, rampup):
    half_life = min(kimg * 1000, images * rampup) if rampup else kimg * 1000
    expected = 0.5 ** (batch / max(half_life, 1e-8))
    np.testing.assert_allclose(
        ema_decay(batch, jnp.asarray(images), kimg, rampup), expected, rtol=1e-4, atol=1e-30
    )


def test_average_of_a_half_life_is_half():
    average, target = 1.0, 0.0
    for _ in range(1000 // 8):
        average = target + (average - target) * float(ema_decay(8, jnp.asarray(10**6), 1.0, 0.0))
    assert average == pytest.approx(0.5, rel=1e-3)


def test_w_avg_moves_by_half_a_percent():
    w = jnp.asarray([[1.0, 2.0], [3.0, 6.0]])
    np.testing.assert_allclose(
        update_w_avg(jnp.asarray([1.0, 0.0]), *class_sums(w, None)), [1.005, 0.02], rtol=1e-6
    )
