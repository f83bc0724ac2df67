"""Between images: what each space is linear in, ends that are the ends, and one compilation."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers.golden import build, relative
from helpers.models import tiny_model

from inr_gan_jax.model import Model
from inr_gan_jax.models import inr, parameters
from inr_gan_jax.render import between, region
from inr_gan_jax.render.between import SPACES, Between, lerp, slerp

FAMILIES = (
    "inr_gan",
    "inr_gan_bil",
    "inr_gan_fmm_tanh",
    "inr_gan_fmm_sigmoid",
    "inr_gan_predicted_coords",
    "cips",
    "paper",
)


def params_of(name: str) -> inr.InrParams:
    graphdef, params, buffers, golden = build(name)
    module = nnx.merge(graphdef, params, buffers)
    ws = module.mapping(jnp.asarray(golden["z"]))[:, None] if name == "paper" else golden["ws"]
    return jax.jit(module.inr_params)(jnp.asarray(ws))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def conditional() -> Model:
    return tiny_model(classes=3)


@pytest.mark.parametrize("name", FAMILIES)
def test_materialised_networks_are_the_same_networks(name):
    params = params_of(name)
    made = jax.jit(between.materialize)(params)
    assert {layer.modulation for b in made.spec.blocks for layer in b.modulated} == {"full"}
    assert relative(jax.jit(inr.grid)(made), jax.jit(inr.grid)(params)) < 1e-5
    batched = [w for k, w in jax.tree_util.tree_leaves_with_path(made.image) if "weight" in str(k)]
    assert batched and all(w.ndim == 3 and len(w) == len(params) for w in batched)
    assert not any("weight" in str(k) for k, _ in jax.tree_util.tree_leaves_with_path(made.shared))


@pytest.mark.parametrize("name", ["inr_gan", "paper"])
def test_blended_networks_have_blended_weights(name):
    """Interpolation is linear in effective weights; in the factors it would not be."""
    params = params_of(name)
    made = jax.jit(between.materialize)(params)
    part = dataclasses.replace(made, image=lerp(made[0].image, made[1].image, 0.25))
    weights = jax.jit(parameters.weights)
    expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, *(weights(params[k]) for k in (0, 1)))
    for got, want in zip(*map(jax.tree.leaves, (weights(part), expected)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-4)
    factors = dataclasses.replace(params, image=lerp(params[0].image, params[1].image, 0.25))
    grid = jax.jit(inr.grid_one)
    assert relative(grid(factors), grid(part)) > 1e-3


def test_ends_are_the_ends_and_spaces_differ(model):
    def pixels(t, space):
        made = model.interpolate(4, 9, t, space=space)
        return made if space == "pixel" else made.render()

    ends = model.images(seeds=[4, 9])
    for space in SPACES:
        for t, end in zip((0.0, 1.0), ends, strict=True):
            assert relative(pixels(t, space), end) < 1e-5, (space, t)
    middles = [pixels(0.5, space) for space in SPACES]
    for a, b in itertools.combinations(middles, 2):
        assert relative(a, b) > 1e-2
    np.testing.assert_allclose(middles[SPACES.index("pixel")], ends.mean(0), atol=1e-5)


def test_latents_and_seeds_are_interchangeable(model):
    a, b = model.latents([4, 9])
    expected = model.interpolate(4, 9, 0.3, space="latent").render()
    np.testing.assert_array_equal(model.interpolate(a, b, 0.3, space="latent").render(), expected)


def test_slerp_turns_evenly_and_keeps_the_length():
    a, b = jnp.asarray([2.0, 0, 0]), jnp.asarray([0, 2.0, 0])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = t * np.pi / 2
        np.testing.assert_allclose(slerp(a, b, t), [2 * np.cos(angle), 2 * np.sin(angle), 0],
                                   atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(slerp(a, a, 0.5), a)
    np.testing.assert_allclose(slerp(a, 3 * a, 0.5), 2 * a)


def test_style_mixing_takes_layers_from_both(model):
    ws = model.styles(seeds=[4, 9])
    layers = model.num_styles
    for k in (0, 2, layers):
        mixed = jnp.concatenate([ws[0, :k], ws[1, k:]])
        assert relative(model.mix(4, 9, k).render(), model.image(ws=mixed).render()) < 1e-6
    assert relative(model.mix(4, 9, layers).render(), model.images(seeds=[4])[0]) < 1e-5
    with pytest.raises(ValueError, match=f"from_layer = 99 must be 0 to {layers}"):
        model.mix(4, 9, 99)


@pytest.mark.parametrize("space", SPACES)
def test_paths_and_patches(model, space):
    view = {"width": 12, "height": 8, "window": (-0.5, -0.5, 1, 0.5)}
    between = Between(model, model.latents([1, 2, 3, 4]), space=space, **view)
    alone = [model.image(s).render(**view) for s in (1, 2, 3, 4)]
    assert len(between) == 4
    for position, expected in ((0, 0), (2.0, 2), (4.0, 0)):
        assert relative(between.render(between.along(position)), alone[expected]) < 1e-5
    closing = between.render(between.along(3.5))
    back = between.render(between.blend(between.anchor(0), between.anchor(3), 0.5))
    assert relative(closing, back) < 1e-4
    for (u, v), expected in zip(((0, 0), (1, 0), (0, 1), (1, 1)), alone, strict=True):
        assert relative(between.render(between.across(u, v)), expected) < 1e-4
    if space == "pixel":
        assert relative(between.render(between.across(0.5, 0.5)), np.mean(alone, 0)) < 1e-5


@pytest.mark.parametrize("space", ["weights", "style", "latent"])
def test_frames_share_one_compilation(model, space):
    between = Between(model, model.latents([1, 2]), space=space, width=10, height=14)
    between.render(between.along(0.1))
    programs = region.render_region._cache_size(), model._inr._cache_size()
    for t in (0.2, 0.5, 0.9):
        between.render(between.along(t))
    assert programs == (region.render_region._cache_size(), model._inr._cache_size())


def test_classes(conditional):
    a, b = conditional.images(seeds=[1, 2], classes=[0, 2])
    for t, end in ((0.0, a), (1.0, b)):
        image = conditional.interpolate(1, 2, t, space="style", classes=[0, 2])
        assert relative(image.render(), end) < 1e-5
    start = conditional.interpolate(1, 2, 0.0, space="latent", classes=[1, 1]).render()
    assert relative(start, conditional.images(seeds=[1], classes=1)[0]) < 1e-5
    with pytest.raises(ValueError, match="nothing between classes"):
        conditional.interpolate(1, 2, 0.5, space="latent", classes=[0, 2])


def test_what_cannot_be_is_said(model):
    with pytest.raises(ValueError, match="space must be one of weights, style, latent, pixel"):
        model.interpolate(1, 2, 0.5, space="factors")
    with pytest.raises(ValueError, match="unknown option 'hight'"):
        Between(model, model.latents([1, 2]), space="pixel", hight=3)
    baseline = tiny_model("stylegan2")
    with pytest.raises(ValueError, match="no coordinate function"):
        baseline.interpolate(1, 2, 0.5)
