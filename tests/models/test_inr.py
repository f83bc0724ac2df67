"""The coordinate network: points and grid mean the same, cost what they must, need no module."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.functions import abstract_params, params_of, random_params, size_config
from helpers.golden import build, relative
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.costs import flops
from inr_gan_jax.models import coords, families, inr, parameters
from inr_gan_jax.models.fourier import Embedding, embed
from inr_gan_jax.models.modulation import effective_weight
from inr_gan_jax.models.parameters import InrParams
from inr_gan_jax.models.products import wide_product

INDEPENDENT = ("inr_gan", "inr_gan_fmm_tanh", "inr_gan_predicted_coords", "cips", "paper")


@pytest.mark.parametrize("name", [*INDEPENDENT, "inr_gan_bil"])
def test_strips_are_the_whole_grid(name, monkeypatch):
    """Cut from any block on; -bil cannot be cut."""
    params = params_of(name)
    whole = jax.jit(inr.grid)(params)
    sizes = {4 * math.prod(b.size) * max(a.outputs for a in b.layers) for b in params.spec.blocks}
    seen = set()
    for bytes_ in (0, *sorted(sizes)):
        monkeypatch.setattr(inr, "WHOLE", bytes_)
        monkeypatch.setattr(inr, "STRIP", bytes_ // 8 + 1)
        seen.add(inr.division(params.spec))
        cut = jax.jit(lambda p: inr.grid(p))(params)  # a function that was not compiled before
        assert relative(cut, whole) < 1e-5
    assert (len(params.spec.blocks), 1) in seen
    assert (len(seen) > 1) == (name != "inr_gan_bil")


@pytest.mark.parametrize("few", [1, 2, 5])
def test_a_few_images_at_a_time_are_the_same_images(few, monkeypatch):
    """Of five images, so that the last group is a smaller one, or all are one."""
    params = random_params(size_config(), 5)
    monkeypatch.setattr(inr, "FEW", few * max(inr._sizes(params.spec)))
    cut = jax.jit(lambda p: inr.grid_by_few(p))  # a function that was not traced before
    assert ("scan" in str(jax.make_jaxpr(cut)(params))) == (few < 5)
    assert relative(cut(params), jax.jit(inr.grid)(params)) < 1e-5


@pytest.mark.parametrize("cosine", [False, True])
def test_waves_of_a_grid_are_those_of_its_points(cosine):
    """Of its sides and of each point alone, for all kinds of directions, shifts and phases."""
    rng = np.random.default_rng(0)
    kinds = {"random": 3, "shared": 4, "predicted": 2}
    embedding = Embedding(raw=True, log=32, diagonal=True, cosine=cosine, shifted=True, **kinds)
    shared = {k: rng.standard_normal((kinds[k], 2)) for k in ("random", "shared")}
    shared["shift"] = rng.standard_normal(4)
    image = {"basis": rng.standard_normal((2, 2)), "phase": rng.standard_normal(2)}
    x, y = coords.sides((5, 8), "symmetric")
    points = (jnp.tile(x, 5), jnp.repeat(y, 8))
    of = functools.partial(embed, embedding, shared, image, *points, (5, 8), None)
    plain = of()
    assert plain.shape == (embedding.features((5, 8)), 40)
    np.testing.assert_allclose(jax.jit(lambda: of((x, y)))(), plain, atol=2e-6)


def test_published_networks_are_cut_where_their_features_are_large():
    found = {
        name: inr.division(families.inr_spec(family()))
        for name, family in families.FAMILIES.items()
        if name != "stylegan2"
    }
    all_levels = dict.fromkeys(("cips", "cips_skip", "cips_res", "paper"), (0, 64))
    assert found == {"inr_gan": (5, 16), "inr_gan_bil": (7, 1), "inr_gan_any": (7, 1)} | all_levels


@pytest.mark.parametrize("name", INDEPENDENT)
def test_points_equal_the_training_grid(name):
    params = params_of(name)
    h, w = params.spec.size
    image = jax.jit(inr.grid)(params)
    at_points = jax.jit(inr.points)(params, coords.grid_points(h, w))
    spread = float(image.max() - image.min())
    assert np.abs(at_points.reshape(image.shape) - image).max() < 1e-5 * spread


@settings(max_examples=8, deadline=None)
@given(
    long=st.sampled_from([8, 16, 32]),
    quarters=st.integers(1, 4),
    tall=st.booleans(),
    channels=st.sampled_from([1, 3, 4]),
    data=st.data(),
)
def test_points_equal_grid_for_any_shape_and_order(long, quarters, tall, channels, data):
    short = long * quarters // 4
    height, width = (long, short) if tall else (short, long)
    params = random_params(size_config(height=height, width=width, channels=channels), batch=1)
    image = jax.jit(inr.grid)(params)
    assert image.shape == (1, height, width, channels)
    chosen = np.asarray(
        data.draw(st.lists(st.integers(0, height * width - 1), min_size=1, max_size=9))
    )
    # Anywhere within a pixel's cell, not only at its corner, is that pixel.
    inside = data.draw(st.floats(0, 0.9))
    cell = np.asarray([2 / width, 2 / height])
    points = np.asarray(coords.grid_points(height, width))[chosen] + inside * cell
    got = jax.jit(inr.points)(params, jnp.asarray(points, jnp.float32))[0]
    expected = np.asarray(image[0]).reshape(-1, channels)[chosen]
    assert np.abs(got - expected).max() < 1e-5 * np.ptp(image)


def test_each_image_may_have_its_own_points():
    params = params_of("inr_gan")
    points = jax.random.uniform(jax.random.key(1), (2, 5, 2), minval=-1, maxval=1)
    got = jax.jit(inr.points)(params, points)
    for i in range(2):
        alone = jax.jit(inr.points_one)(params[i], points[i])
        np.testing.assert_allclose(got[i], alone, rtol=1e-4, atol=1e-5)


def test_functions_of_parameters_and_coordinates_alone():
    """vmap, jit, grad and jvp, from plain arrays, with no module in sight."""
    params = params_of("inr_gan")
    leaves, treedef = jax.tree.flatten(params)
    rebuilt = jax.tree.unflatten(treedef, [np.asarray(leaf) for leaf in leaves])
    one = rebuilt[0]
    point = jnp.asarray([[0.1, -0.3]])

    def brightness(params):
        return jnp.mean(inr.points_one(params, point))

    gradient = jax.jit(jax.grad(brightness))(one)
    value, tangent = jax.jit(lambda p, t: jax.jvp(brightness, (p,), (t,)))(one, gradient)
    squared = sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(gradient))
    assert squared > 0
    np.testing.assert_allclose(tangent, squared, rtol=1e-4)
    batched = jax.jit(jax.vmap(inr.grid_one, in_axes=(rebuilt.axes,)))(rebuilt)
    np.testing.assert_allclose(batched[0], jax.jit(inr.grid_one)(one), atol=1e-4)
    assert np.isclose(value, brightness(one))


def test_shared_leaves_have_no_batch_axis():
    few, many = (random_params(size_config(), batch=n) for n in (2, 5))
    shapes = [jax.tree.map(jnp.shape, p) for p in (few, many)]
    assert shapes[0].shared == shapes[1].shared
    assert {leaf.shape[0] for leaf in jax.tree.leaves(many.image)} == {5} and len(many) == 5


def cost(function, *args) -> int:
    """FLOPs of its products (a compiler's count takes a loop's body once)."""
    return flops.count(jax.make_jaxpr(function)(*args)).total()


@pytest.mark.parametrize("family", ["inr_gan", "cips", "paper"])
def test_points_cost_what_they_cost(family):
    """At published size one point takes under 1% of the grid's FLOPs, n points n times one."""
    params = abstract_params(families.FAMILIES[family]())

    def points(n):
        return cost(inr.points, params, jax.ShapeDtypeStruct((n, 2), jnp.float32))

    weights = cost(lambda p: jax.vmap(parameters.weights, (p.axes,))(p), params)
    assert points(1) < 0.01 * cost(inr.grid, params)
    assert points(65) - weights == pytest.approx(65 * (points(1) - weights), rel=0.01)


def plain_grid(params: InrParams) -> np.ndarray:
    """The published order of work, in numpy: upsample, concatenate, multiply (one image)."""
    spec, h, rgb = params.spec, None, None
    for block in spec.blocks:
        rows, columns = block.size
        cells = coords.grid_cells(rows, columns)
        e = None
        if block.embedding:
            shared = params.shared[block.name].get("embedding", {})
            image = params.image[block.name].get("embedding", {})
            table = shared["table"].reshape(-1, rows * columns) if "table" in shared else None
            x, y = coords.coordinates(cells, spec.frame)
            e = np.asarray(embed(block.embedding, shared, image, x, y, block.size, table))
        if block.upsample > 1:
            up = UP[spec.upsampling]
            h, rgb = (up(np.asarray(x), block.size) for x in (h, rgb))
        for layer in block.layers:
            s = params.shared[block.name][layer.name]["w"]
            w = np.asarray(
                effective_weight(layer.modulation, s, params.image[block.name][layer.name]["w"])
            )
            if layer.instance_norm:
                h = h / (h.std(axis=1, ddof=1, keepdims=True) + 1e-8)
            inputs = np.concatenate([x for x, n in ((h, layer.h), (e, layer.e)) if n])
            h = w @ inputs + np.asarray(s["bias"])[:, None]
            h = np.where(h >= 0, h, 0.2 * h) * 2**0.5
        s = params.shared[block.name]["rgb"]["w"]
        w = np.asarray(effective_weight("style", s, params.image[block.name]["rgb"]["w"]))
        emitted = w @ h + np.asarray(s["bias"])[:, None]
        rgb = emitted if rgb is None else rgb + emitted
    return rgb.reshape(-1, *spec.size).transpose(1, 2, 0)


def up_nearest(x, size):
    h, w = size
    return x.reshape(-1, h // 2, w // 2).repeat(2, axis=1).repeat(2, axis=2).reshape(-1, h * w)


def up_bilinear(x, size):
    """Interpolation with aligned corners, from its definition."""
    h, w = size
    x = x.reshape(-1, h // 2, w // 2)
    for axis, n in ((1, h), (2, w)):
        at = np.arange(n) * (n // 2 - 1) / (n - 1)
        low = np.minimum(at.astype(int), max(n // 2 - 2, 0))
        weight = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, n // 2 - 1)
        x = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return x.reshape(-1, h * w)


UP = {"nearest": up_nearest, "bilinear": up_bilinear}


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(32, 32), (16, 32), (32, 8)])
def test_multiply_first_equals_the_plain_form(upsampling, size):
    norm = upsampling == "bilinear"
    config = size_config(height=size[0], width=size[1], upsampling=upsampling, instance_norm=norm)
    params = random_params(config)
    for i, image in enumerate(jax.jit(inr.grid)(params)):
        assert relative(image, plain_grid(params[i])) < 1e-5


def test_multiply_first_is_the_form_that_runs():
    """At 256x256 the plain form needs 30.2 GFLOP per image, multiply-first 22.1."""
    params = abstract_params(families.inr_gan())
    assert 21.5e9 < cost(inr.grid, params) < 22.1e9


def test_bfloat16_features_stay_near_float32():
    params = params_of("inr_gan")
    exact = jax.jit(inr.grid)(params)
    rounded = jax.jit(lambda p: inr.grid(p, jnp.bfloat16))(params)
    assert rounded.dtype == jnp.float32
    assert 1e-5 < relative(rounded, exact) < 2e-2


def test_pixel_dependence_is_said():
    params = params_of("inr_gan_bil")
    assert not params.spec.pixel_independent
    with pytest.raises(ValueError, match="not pixel-independent"):
        inr.points(params, jnp.zeros((1, 2)))


def test_the_baseline_has_no_coordinate_function():
    graphdef, params, buffers, golden = build("stylegan2")
    with pytest.raises(ValueError, match="no coordinate function"):
        nnx.merge(graphdef, params, buffers).inr_params(jnp.asarray(golden["ws"]))


def test_effective_weights_are_what_the_network_uses():
    params = params_of("inr_gan")[0]
    weights = parameters.weights(params)
    block = params.spec.blocks[-1]
    layer = block.layers[0]
    s = params.shared[block.name][layer.name]["w"]
    i = params.image[block.name][layer.name]["w"]
    m = np.asarray(i["a"]) @ np.asarray(i["b"]) / np.sqrt(3)
    expected = np.asarray(s["weight"]) * (m + 1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True) + 1e-8
    got = weights[block.name][layer.name]
    assert relative(np.concatenate([got["h"], got["e"]], axis=1), expected) < 1e-5


def test_points_beyond_the_frame_are_extrapolated():
    config = size_config(
        embedding_coarse=Embedding(log=32, cosine=True),
        embedding_fine=Embedding(log=32, cosine=True),
    )
    params = random_params(config, batch=1)
    outside = jax.jit(inr.points)(params, jnp.asarray([[1.7, 0.2], [-1.4, -2.0], [0.0, 0.0]]))
    assert np.isfinite(outside).all() and np.std(outside) > 0
    # The lowest frequency has period 4: a shift by it is the same point.
    again = jax.jit(inr.points)(params, jnp.asarray([[1.7 + 4, 0.2]]))
    np.testing.assert_allclose(again[0, 0], outside[0, 0], atol=1e-2)


def test_spec_is_hashable_and_static():
    spec = families.inr_spec(size_config())
    assert hash(spec) == hash(dataclasses.replace(spec))
    assert families.inr_spec(size_config(rank=3)) == spec  # the rank is the hypernetwork's


def test_a_product_in_bfloat16_has_its_gradients_in_bfloat16():
    """No product of a float32 cotangent, forward sums in float32; in float64 it is a product."""
    from jax.test_util import check_grads

    x, y = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(3, 5), (5, 7)]))
    with jax.enable_x64(True):
        exact = [np.asarray(a, np.float64) for a in (x, y)]
        check_grads(wide_product, exact, order=2, modes=("fwd", "rev"), atol=1e-7, rtol=1e-7)
        np.testing.assert_array_equal(wide_product(*exact), jnp.matmul(*exact))

    def loss(x, y):
        return jnp.sum(jnp.sin(wide_product(x, y)))

    rounded = (x.astype(jnp.bfloat16), y.astype(jnp.bfloat16))
    assert wide_product(*rounded).dtype == jnp.float32
    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(*rounded).jaxpr
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert len(products) == 2  # and the forward one, within its own rule
    assert {v.aval.dtype for e in products for v in e.invars} == {jnp.dtype(jnp.bfloat16)}
