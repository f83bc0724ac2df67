"""Augmentation: golden arrays, a slow version, what must hold for any image, and the controller."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.golden import load, nhwc
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erfinv

from inr_gan_jax.config.augmentations import PIPELINES
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.sharding import make_mesh, over_batch
from inr_gan_jax.train import augment as module
from inr_gan_jax.train import warp as warping
from inr_gan_jax.train.augment import Draw, apply, augment, draw, image_keys, update_p
from inr_gan_jax.train.losses import gradient_penalties

GOLDEN = load("augment")
CASES = [name for name in GOLDEN if "@" in name]  # no noise, no second rotation
EVERYTHING = PIPELINES["bgcfnc"]
TAPS = GOLDEN["sym6"] / GOLDEN["sym6"].sum()

apply_jit = jax.jit(apply)
augment_jit = jax.jit(augment, static_argnames="pipeline")
warp_jit = jax.jit(warping.warp)


def images(*shape, seed=0) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def random_draws(operations, count, shape=(1, 1, 1), p=1.0, seed=3):
    keys = image_keys(jax.random.key(seed), count)
    return jax.vmap(lambda key: draw(key, p, shape, operations))(keys)


# Golden arrays.


@functools.cache
def all_percentiles() -> dict[str, np.ndarray]:
    """Every golden case as two images of one batch: cases differ in what their gates let by."""
    x = jnp.tile(nhwc(GOLDEN["image"]), (len(CASES), 1, 1, 1))
    draws = random_draws(tuple(name for name in EVERYTHING if name != "noise"), len(x))
    for name, numbers in draws.items():
        gate, value = map(np.array, numbers)
        for i, case in enumerate(CASES):
            what, q = case.split("@")[0], float(case.split("@")[1])
            applied = what == name or (what == "bgc" and name in PIPELINES["bgc"])
            gate[2 * i : 2 * i + 2] = applied and name != "rotate_after"
            value[2 * i : 2 * i + 2] = erfinv(2 * q - 1) if name in module._NORMAL else q
        draws[name] = Draw(gate, value)
    return dict(zip(CASES, np.split(apply_jit(x, draws), len(CASES)), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    np.testing.assert_allclose(all_percentiles()[case], nhwc(GOLDEN[case]), atol=3e-5)


def test_filters():
    np.testing.assert_array_equal(warping.SYM6, GOLDEN["sym6"])
    np.testing.assert_array_equal(module._SYM2, GOLDEN["sym2"])
    np.testing.assert_allclose(module.filter_bank(), GOLDEN["Hz_fbank"], atol=1e-8)


# Geometry against a slow version: the whole padded image, zeros inserted, loops.


def slow_upsampled(x, size):
    """Zero insertion and a full convolution along the first axis, after padding by size - 1."""
    x = np.concatenate([x[:0:-1], x, x[-2::-1]])
    zeros = np.zeros((2 * len(x), *x.shape[1:]))
    zeros[::2] = x
    return np.apply_along_axis(np.convolve, 0, zeros, 2 * TAPS)[5 : 5 + len(zeros)]


def slow_warp(x, inverse):
    """(warped image, which of its pixels saw only samples 3 pixels or more inside the padding)."""
    height, width, channels = x.shape
    doubled = slow_upsampled(slow_upsampled(x, height).swapaxes(0, 1), width).swapaxes(0, 1)
    rows, columns, _ = doubled.shape
    sampled = np.zeros((2 * height + 10, 2 * width + 10, channels))
    safe = np.zeros(sampled.shape[:2], bool)
    for i, j in np.ndindex(safe.shape):
        place = ((j - 5) / 2 - (width - 1) / 2, (i - 5) / 2 - (height - 1) / 2, 1)
        u, v = (inverse @ place)[:2]
        u, v = 2 * u + 3 * (width - 1), 2 * v + 3 * (height - 1)
        safe[i, j] = 6 <= u < columns - 7 and 6 <= v < rows - 7
        for y in (int(np.floor(v)), int(np.floor(v)) + 1):
            for x in (int(np.floor(u)), int(np.floor(u)) + 1):
                if 0 <= y < rows and 0 <= x < columns:
                    sampled[i, j] += (1 - abs(u - x)) * (1 - abs(v - y)) * doubled[y, x]
    result, all_safe = np.zeros((height, width, channels)), np.zeros((height, width), bool)
    for i, j in np.ndindex(height, width):
        window = np.s_[2 * i : 2 * i + 12, 2 * j : 2 * j + 12]
        result[i, j] = np.einsum("y,x,yxc->c", TAPS, TAPS, sampled[window])
        all_safe[i, j] = safe[window].all()
    return result, all_safe


@pytest.mark.parametrize("height, width, channels", [(9, 9, 1), (7, 12, 2), (11, 8, 3)])
def test_warp_is_the_slow_version(height, width, channels):
    rng = np.random.default_rng(height)
    x = rng.uniform(-1, 1, (height, width, channels))
    affine = np.concatenate([rng.normal(0, 0.4, (4, 2, 2)), rng.uniform(-2, 2, (4, 2, 1))], axis=2)
    matrices = [np.eye(3) + np.pad(m, ((0, 1), (0, 0))) for m in affine]
    matrices += [np.diag([-1.0, 1, 1]), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])]
    seen = 0
    for matrix in matrices:
        expected, safe = slow_warp(x, matrix)
        found = warp_jit(jnp.asarray(x, jnp.float32), jnp.asarray(matrix, jnp.float32))
        np.testing.assert_allclose(np.asarray(found)[safe], expected[safe], atol=1e-5)
        seen += safe.sum()
    assert seen > len(matrices) * height * width / 2


@settings(max_examples=5, deadline=None)
@given(st.integers(7, 8), st.integers(7, 8), st.integers(-3, 3), st.integers(-3, 3))
def test_whole_translations_are_exact_and_reflect(height, width, dx, dy):
    x = images(height, width, 1)
    inverse = jnp.array([[1.0, 0, dx], [0, 1, dy], [0, 0, 1]])
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    expected = padded[3 + dy : 3 + dy + height, 3 + dx : 3 + dx + width]
    np.testing.assert_allclose(warp_jit(x, inverse), expected, atol=1e-6)


def test_what_lies_beyond_one_reflection_is_black():
    """8 pixels and 7 reflected ones; only at that end does the slow version's filter differ."""
    for shift, lit, black in ((10, slice(0, 4), slice(7, 8)), (-40, slice(0), slice(0, 8))):
        inverse = np.eye(3) + shift * np.eye(3, k=2)
        found = np.asarray(warp_jit(jnp.ones((8, 8, 1)), jnp.asarray(inverse, jnp.float32)))
        np.testing.assert_allclose(found, slow_warp(np.ones((8, 8, 1)), inverse)[0], atol=0.2)
        np.testing.assert_allclose(found[:, lit], 1, atol=0.02)
        np.testing.assert_allclose(found[:, black], 0, atol=0.02)


# Colour, filter, noise and cutout where the golden arrays do not reach.


def test_gray_is_the_mean_of_three_equal_channels():
    gray = images(3, 4, 5, 1)
    draws = random_draws(PIPELINES["color"], 3)
    rgb = apply_jit(jnp.repeat(gray, 3, axis=-1), draws)
    np.testing.assert_allclose(apply_jit(gray, draws)[..., 0], np.mean(rgb, axis=-1), atol=2e-6)


def test_alpha_meets_all_but_colour():
    x = images(2, 6, 5, 4)
    draws = random_draws(("brightness", "hue", "imgfilter", "cutout"), 2)
    colourless = {name: d for name, d in draws.items() if name not in PIPELINES["color"]}
    found = apply_jit(x, draws)
    np.testing.assert_allclose(found[..., :3], apply_jit(x[..., :3], draws), atol=1e-5)
    np.testing.assert_allclose(found[..., 3], apply_jit(x, colourless)[..., 3], atol=1e-5)


def test_filter_with_gates_of_some_bands():
    x = images(1, 7, 5, 2)
    gate, value = np.array([[True, False, True, True]]), np.array([[0.5, 9.0, -1.2, 0.3]])
    gains = np.ones(4)
    for i in (0, 2, 3):
        one = np.where(np.arange(4) == i, 2 ** value[0, i], 1)
        gains *= one / np.sqrt(np.sum(np.array([10, 1, 1, 1]) / 13 * one**2))
    taps = gains @ GOLDEN["Hz_fbank"]
    expected = np.asarray(x[0], np.float64)
    for axis in (0, 1):
        padded = np.pad(expected, np.eye(3, dtype=int)[axis, :, None] * [21, 21], mode="reflect")
        expected = np.apply_along_axis(np.convolve, axis, padded, taps, "valid")
    found = apply(x, {"imgfilter": Draw(gate, jnp.asarray(value, jnp.float32))})
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_noise_has_one_level_per_image():
    x = images(3, 8, 9, 3)
    draws = random_draws(("noise",), 3, (8, 9, 3))
    level, pixels = draws["noise"].value
    added = np.abs(0.1 * level)[:, None, None, None] * pixels
    assert abs(np.std(pixels) - 1) < 0.1
    np.testing.assert_allclose(apply(x, draws) - x, added, atol=1e-6)


def test_cutout_of_half_the_sides():
    centre = jnp.array([[0.5, 0.25]])  # x, y
    found = apply(jnp.ones((1, 8, 4, 1)), {"cutout": Draw(jnp.array([True]), centre)})
    expected = np.pad(np.zeros((4, 2)), ((0, 4), (1, 1)), constant_values=1)
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


# Random numbers.


def test_gates_open_as_often_as_p_says():
    def gates(p):
        return {n: np.asarray(d.gate) for n, d in random_draws(EVERYTHING, 4000, p=p).items()}

    assert not any(gate.any() for gate in gates(0.0).values())
    assert all(gate.all() for gate in gates(1.0).values())
    half = gates(0.5)
    half["a rotation"] = half["rotate"] | half["rotate_after"]
    for name, gate in half.items():
        chance = 1 - 0.5**0.5 if name in ("rotate", "rotate_after") else 0.5
        # More than four standard deviations.
        np.testing.assert_allclose(gate.mean(0), chance, atol=0.035, err_msg=name)


def test_values_are_uniform_or_normal_and_apart():
    draws = random_draws(EVERYTHING, 4000, p=0.5)
    values = {name: d.value[0] if name == "noise" else d.value for name, d in draws.items()}
    for name, value in values.items():
        mean, deviation = (0, 1) if name in module._NORMAL else (0.5, 12**-0.5)
        np.testing.assert_allclose(np.mean(value, 0), mean, atol=0.08, err_msg=name)
        np.testing.assert_allclose(np.std(value, 0), deviation, atol=0.06, err_msg=name)
    pairs = np.corrcoef(np.column_stack([*values.values(), *(d.gate for d in draws.values())]).T)
    assert np.abs(pairs - np.eye(len(pairs))).max() < 0.08


def test_an_operation_draws_alike_in_every_pipeline():
    longer, shorter = random_draws(EVERYTHING, 4000, p=0.5), random_draws(PIPELINES["color"], 2)
    for name in shorter:
        np.testing.assert_array_equal(shorter[name].value, longer[name].value[:2])


def test_an_image_is_augmented_alike_in_any_company():
    """Its own key and pixels decide, not what else is in the batch or how the batch is split."""
    key, x = jax.random.key(5), images(2, 5, 7, 3)
    whole = augment_jit(x, key, 0.8, "bgc")
    beside_another = augment_jit(x.at[0].set(0.3), key, 0.8, "bgc")
    np.testing.assert_array_equal(beside_another[1], whole[1])
    np.testing.assert_allclose(augment_jit(x, image_keys(key, 4)[:2], 0.8, "bgc"), whole, atol=1e-6)
    assert np.abs(augment_jit(x, image_keys(key, 4)[2:], 0.8, "bgc") - whole).max() > 0.1
    twins = augment_jit(x.at[1].set(x[0]), key, 0.8, "bgc")
    assert np.abs(twins[0] - twins[1]).max() > 0.1


def test_devices_exchange_nothing():
    sharding = over_batch(make_mesh())
    assert sharding.mesh.size == 2

    def gradient(x, p):
        return jax.grad(lambda x: jnp.sum(augment(x, jax.random.key(0), p, "bgcfnc") ** 2))(x)

    x = jax.device_put(images(4, 4, 5, 3), sharding)
    program = jax.jit(gradient, out_shardings=sharding).lower(x, 0.5).compile().as_text()
    for exchange in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert exchange not in program


# The whole.


@pytest.mark.parametrize("pipeline, channels", [("bgcfnc", 4), ("bgc", 3), ("color", 1)])
def test_at_zero_the_image_comes_back(pipeline, channels):
    x = images(2, 5, 7, channels)
    found, same = (augment_jit(x, jax.random.key(1), p, pipeline) for p in (1.0, 0.0))
    assert np.isfinite(found).all() and np.abs(found - x).max() > 0.05
    np.testing.assert_allclose(same, x, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(sorted(PIPELINES)),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4])),
)
def test_any_shape_and_type_gives_float32(pipeline, shape):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.bfloat16)
    found = jax.eval_shape(lambda x: augment(x, jax.random.key(0), 0.5, pipeline), x)
    assert found.shape == x.shape and found.dtype == jnp.float32


def test_a_single_pixel():
    assert np.isfinite(augment_jit(images(2, 1, 1, 1), jax.random.key(0), 1.0, "bgcfnc")).all()


def test_only_geometry_resamples():
    for name, operations in PIPELINES.items():
        of = functools.partial(augment, key=jax.random.key(0), p=0.5, pipeline=name)
        program = jax.make_jaxpr(of)(jnp.zeros((1, 8, 8, 3)))
        assert (" gather" in str(program)) == ("xflip" in operations or "scale" in operations)


def test_jit_changes_nothing():
    x, inverse = images(8, 8, 1), jnp.array([[0.9, 0.3, 1], [-0.2, 1.1, 0], [0, 0, 1]])
    np.testing.assert_allclose(warping.warp(x, inverse), warp_jit(x, inverse), atol=1e-6)


def test_pipelines_are_the_published_ones():
    with pytest.raises(UserError, match='did you mean "color"'):
        augment(images(1, 4, 4, 3), jax.random.key(0), 0.5, "colour")
    assert [len(PIPELINES[n]) for n in ("blit", "geom", "color", "bgc")] == [3, 5, 5, 13]
    assert PIPELINES["bgcfnc"] == (*PIPELINES["bgc"], "imgfilter", "noise", "cutout")


# Derivatives. Augmentation is affine, f(x) = A x + b: A and b are read off f alone.


@functools.cache
def affine():
    """(f, A, b) of one image of 4x5 gray pixels, flat."""
    draws = random_draws(EVERYTHING, 1, (4, 5, 1), seed=0)

    def f(x):
        return apply(x.reshape(1, 4, 5, 1), draws).ravel()

    basis = jnp.concatenate([jnp.zeros((1, 20)), jnp.eye(20)]).reshape(21, 4, 5, 1)
    values = apply_jit(basis, jax.tree.map(lambda numbers: jnp.repeat(numbers, 21, 0), draws))
    values = np.float64(values).reshape(21, 20)
    return f, (values[1:] - values[0]).T, values[0]


def test_derivatives_both_ways():
    f, matrix, offset = affine()
    assert np.linalg.matrix_rank(matrix) > 5 and np.abs(offset).max() > 0.01
    x, v, u = images(3, 20)
    pushed = jax.jit(lambda x, v: jax.jvp(f, (x,), (v,))[1])(x, v)
    value, pulled = jax.jit(lambda x, u: (f(x), jax.vjp(f, x)[1](u)[0]))(x, u)
    np.testing.assert_allclose(value, matrix @ x + offset, atol=1e-5)
    np.testing.assert_allclose(pushed, matrix @ v, atol=1e-5)
    np.testing.assert_allclose(pulled, matrix.T @ u, atol=1e-5)


def test_r1_through_augmentation():
    """D(x) = <a, f(x)>^2 / 2: the penalty is <a, f>^2 |A'a|^2."""
    f, matrix, offset = affine()
    x, a = images(2, 20, seed=1)

    def penalty(a):
        return gradient_penalties(lambda x: 0.5 * jnp.dot(a, f(x)) ** 2, x[None, :, None, None])[0]

    found, gradient = jax.jit(jax.value_and_grad(penalty))(a)
    value, a = matrix @ x + offset, np.asarray(a, np.float64)
    inner, pulled = value @ a, matrix.T @ a
    np.testing.assert_allclose(found, inner**2 * (pulled @ pulled), rtol=1e-4)
    slope = 2 * inner * value * (pulled @ pulled) + 2 * inner**2 * (matrix @ pulled)
    np.testing.assert_allclose(gradient, slope, atol=1e-4 * np.abs(slope).max())


# The controller.


def test_controller_follows_the_signs():
    step = 64 * 4 / 500_000
    up, down, still = (update_p(0.3, sign, images=256) for sign in (0.9, -0.2, 0.6))
    np.testing.assert_allclose([up, down, still], [0.3 + step, 0.3 - step, 0.3], rtol=1e-6)
    assert update_p(0.0, -1.0, images=256) == 0 and update_p(1.0, 1.0, images=256) == 1
    assert update_p(jnp.float32(step / 2), 0.0, images=256) == 0
    np.testing.assert_allclose(update_p(0.2, 0.5, images=100, target=0.4, kimg=1.0), 0.3)
