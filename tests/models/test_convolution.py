"""Convolutions against sums over windows, in float64: what a CPU runs is not what others run."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inr_gan_jax.models import products, resample, winograd
from inr_gan_jax.models.convolution import add_bias, conv2d, transposed_conv2d

# kernel, stride, padding, (images, height, width), channels: each way that a CPU has.
CASES = {
    "a product": (1, 1, 0, (2, 5, 4), (3, 4)),
    "strided": (3, 2, 0, (2, 9, 6), (3, 4)),
    "strided, padded": (3, 3, 1, (2, 9, 6), (3, 4)),
    "large, strided": (5, 2, 2, (1, 8, 7), (2, 3)),
    "1x1, strided": (1, 2, 0, (2, 6, 5), (3, 4)),
    "few channels": (3, 1, 1, (2, 8, 6), (3, 4)),
    "oblong": ((3, 1), 1, 0, (2, 8, 6), (3, 4)),
    "wide margin": (3, 1, 3, (1, 4, 4), (2, 3)),
    "many pixels": (3, 1, 0, (2, 34, 34), (2, 3)),
    "winograd": (3, 1, 1, (3, 8, 10), (64, 65)),
}


def arrays(shape, channels, kernel, dtype=float):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*shape, channels[0]))
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    w = rng.standard_normal((*kernel, *channels)) / (math.prod(kernel) * channels[0]) ** 0.5
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def by_windows(x, w, stride, padding):
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (
        np.arange(0, n - k + 1, stride)[:, None] + np.arange(k)
        for n, k in zip(x.shape[1:3], w.shape[:2], strict=True)
    )
    return jnp.einsum("brichx,ihxo->brco", x[:, rows][:, :, :, columns], w)


def penalty(convolve):
    """Gradients of a gradient, as R1 takes them."""
    inner = jax.grad(lambda x, w: jnp.sum(jnp.tanh(convolve(x, w))))
    return jax.jit(jax.grad(lambda x, w: jnp.sum(jnp.square(inner(x, w))), (0, 1)))


def check(case):
    kernel, stride, padding, shape, channels = case
    slow, fast = (
        functools.partial(f, stride=stride, padding=padding) for f in (by_windows, conv2d)
    )
    with jax.enable_x64(True):
        x, w = arrays(shape, channels, kernel)
        np.testing.assert_allclose(jax.jit(fast)(x, w), slow(x, w), rtol=1e-11, atol=1e-12)
        for a, b in zip(penalty(fast)(x, w), penalty(slow)(x, w), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_convolution_and_the_gradients_of_its_gradients(name):
    check(CASES[name])


@pytest.mark.parametrize("fitting, images, rows", [(2, 1, 2), (4, 1, 4), (8, 1, 8), (17, 2, 8)])
def test_winograd_in_pieces(fitting, images, rows, monkeypatch):
    """Bands of an image's rows, single images, groups of them: whatever fits."""
    monkeypatch.setattr(products, "CACHED", fitting * 64 * 10)
    x, _ = arrays((4, 8, 10), (64, 64), 3, np.float32)
    assert winograd._pieces(x, 64)[:2] == (images, rows)
    check((3, 1, 1, (4, 8, 10), (64, 64)))


def test_float32_stays_near_float64():
    x, w = arrays((2, 16, 16), (64, 64), 3, np.float32)
    exact = np.asarray(by_windows(x, w, 1, 1), float)
    assert np.abs(jax.jit(functools.partial(conv2d, padding=1))(x, w) - exact).max() < 2e-5


@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2)])
def test_bfloat16_sums_in_float32(kernel, stride):
    """Results are rounded once, gradients once more."""
    x, w = arrays((2, 8, 8), (32, 32), kernel, jnp.bfloat16)
    wide = [a.astype(jnp.float32) for a in (x, w)]
    both = functools.partial(conv2d, stride=stride, padding=kernel // 2)
    y = jax.jit(both)(x, w)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(float), jax.jit(both)(*wide), rtol=2**-8, atol=1e-3)
    grads = [
        jax.jit(jax.grad(lambda x, w: jnp.sum(both(x, w)), (0, 1)))(*a) for a in ((x, w), wide)
    ]
    for a, b in zip(*grads, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(float), b, rtol=2**-7, atol=2e-2)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_transpose_is_the_transpose(stride):
    with jax.enable_x64(True):
        y, w = arrays((2, 4, 5), (3, 2), 3)
        size = [(n - 1) * stride + 3 for n in (4, 5)]
        x = jax.ShapeDtypeStruct((2, *size, 2), float)

        def slow(y, w):
            down = functools.partial(by_windows, w=w.swapaxes(2, 3), stride=stride, padding=0)
            return jax.linear_transpose(down, x)(y)[0]

        def fast(y, w):
            return transposed_conv2d(y, w.swapaxes(2, 3), stride=stride)

        np.testing.assert_allclose(jax.jit(fast)(y, w), slow(y, w), rtol=1e-11, atol=1e-12)
        for a, b in zip(penalty(fast)(y, w), penalty(slow)(y, w), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 3)], ids=str)
def test_batches_of_batches(axes):
    """Under vmap, of images, of weights or of both; and one after the other, in a scan."""
    with jax.enable_x64(True):
        x, w = arrays((2, 8, 8), (64, 64), 3)
        xs, ws = (
            a if axis is None else jnp.moveaxis(jnp.stack([a, a + 0.1, -a]), 0, axis)
            for a, axis in zip((x, w), axes, strict=True)
        )
        each = penalty(functools.partial(conv2d, padding=1))
        many = jax.jit(jax.vmap(each, axes))(xs, ws)
        for k in range(3):
            one = each(
                *(
                    a if axis is None else jnp.take(a, k, axis)
                    for a, axis in zip((xs, ws), axes, strict=True)
                )
            )
            for a, b in zip(many, one, strict=True):
                np.testing.assert_allclose(a[k], b, rtol=1e-10, atol=1e-10)
        if axes == (0, 0):
            scanned = jax.jit(lambda *a: jax.lax.map(lambda pair: each(*pair), a))(xs, ws)
            for a, b in zip(many, scanned, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_biases_and_their_gradients():
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, bias = (
            jnp.asarray(rng.standard_normal((5, 3, 2, 4))),
            jnp.asarray(rng.standard_normal(4)),
        )
        np.testing.assert_array_equal(add_bias(x, bias), x + bias)
        for a, b in zip(
            penalty(lambda x, bias: jnp.tanh(add_bias(x, bias)))(x, bias),
            penalty(lambda x, bias: jnp.tanh(x + bias))(x, bias),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_of_biases_are_summed_in_float32():
    x = jnp.asarray(np.random.default_rng(3).standard_normal((64, 8, 8, 4)) + 1, jnp.bfloat16)
    got = jax.jit(jax.grad(lambda b: jnp.sum(add_bias(x, b) * x)))(jnp.zeros(4))
    np.testing.assert_allclose(got, np.asarray(x, float).sum((0, 1, 2)), rtol=2**-8)


@pytest.mark.parametrize("padding, gain", [(1, 4.0), (2, 1.0), (0, 1.0)])
def test_what_blurs_is_its_own_gradient(padding, gain):
    plain = functools.partial(resample._filtered, padding=padding, stride=1, gain=gain)
    _compare(lambda x: resample.blur(x, padding, gain), plain)


def test_halving_and_doubling_are_each_others_gradients():
    _compare(
        resample.downsample, functools.partial(resample._filtered, padding=1, stride=2, gain=1.0)
    )
    _compare(resample.upsample, lambda x: resample._upsample_axis(resample._upsample_axis(x, 1), 2))


def _compare(ours, plain):
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(2).standard_normal((2, 6, 8, 3)))
        np.testing.assert_allclose(ours(x), plain(x), rtol=1e-12, atol=1e-13)
        grads = [penalty(lambda x, w, f=f: f(x * w))(x, 1 + x) for f in (ours, plain)]
        for a, b in zip(*grads, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
