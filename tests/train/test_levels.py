"""D sees what the generator's levels add up to; coordinates move within their cells."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import assert_close, gradients_of, settled, tiny, trainer_of

from inr_gan_jax import config as configs
from inr_gan_jax.config import parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.models import coords, inr, places
from inr_gan_jax.models.families import FAMILIES, inr_spec
from inr_gan_jax.train import losses
from inr_gan_jax.train.recipe import Phase

TALL = {"height": 16, "width": 8}  # levels of 8x4 and 16x8


def two_levels(**train):
    config = tiny(mixing_prob=0.0, path_weight=0.0, r1_interval=0)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **train))
    model = dataclasses.replace(config.model, input_resolution=8, fine_from=16, **TALL)
    levels = ((8, 4),) if train.get("d_levels") else ()
    discriminator = dataclasses.replace(config.discriminator, **TALL, levels=levels)
    return dataclasses.replace(config, model=model, discriminator=discriminator)


def reals(size=(16, 8)):
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, 256, (16, *size, 1), np.uint8),
            "label": rng.integers(0, 3, 16).astype(np.int32)}  # fmt: skip


@pytest.fixture
def batch(monkeypatch):
    """Real images of that size, also for the helpers."""
    monkeypatch.setattr("helpers.training.real_batch", reals)
    return reals()


def styles_of(generator, z, classes):
    w = generator.mapping(z, classes)
    return jnp.repeat(w[:, None], generator.num_styles, 1)


def latents(trainer, state, phase):
    keys = jax.random.split(trainer.steps.inputs.key(state, phase), 4)
    counts = jnp.log(jnp.asarray([5.0, 1, 2]))
    image_keys = [jax.vmap(jax.random.fold_in, (None, 0))(k, jnp.arange(16)) for k in keys]
    z = jax.vmap(lambda key: jax.random.normal(key, (8,)))(image_keys[0])
    classes = jax.vmap(lambda key: jax.random.categorical(key, counts))(image_keys[1])
    return z, jax.nn.one_hot(classes, 3)


def cut_off(params):
    """The network that ends after the level of 8 rows."""
    blocks = tuple(block for block in params.spec.blocks if block.size == (8, 4))
    return dataclasses.replace(params, spec=dataclasses.replace(params.spec, blocks=blocks))


def smaller(x):
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def test_sums_are_the_images_of_networks_cut_off():
    trainer = trainer_of(two_levels(d_levels=True))
    state = settled(trainer)
    generator = trainer.networks.generator(state.g, state.g_buffers)
    ws = jax.random.normal(jax.random.key(3), (4, generator.num_styles, 8))
    below, image = generator.levels(ws)
    params = generator.inr_params(ws)
    np.testing.assert_allclose(image, inr.grid(params), atol=1e-5)
    np.testing.assert_allclose(below, inr.grid(cut_off(params)), atol=1e-5)
    one_by_one = generator.levels(ws, remat=True)
    np.testing.assert_allclose(one_by_one[0], below, atol=1e-5)
    published = {"inr_gan": [32, 64, 128], "paper": [128, 256, 512], "cips_skip": []}
    for family, sizes in published.items():
        assert [max(size) for size in inr_spec(FAMILIES[family]()).rgb_levels] == sizes


def test_both_networks_learn_from_every_level(batch):
    """G's and D's gradients from formulas, with R1 and R2 on all that D sees."""
    trainer = trainer_of(two_levels(d_levels=True, align_weight=3.0, r1_gamma=0.5, r2_gamma=0.3))
    state = settled(trainer)
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    real_classes = jax.nn.one_hot(batch["label"], 3)

    def fakes(g, phase):
        z, classes = latents(trainer, state, phase)
        generator = trainer.networks.generator(g, state.g_buffers)
        params = generator.inr_params(styles_of(generator, z, classes))
        return (inr.grid(cut_off(params)), inr.grid(params)), classes

    def judge(d, x, level, classes):
        return trainer.networks.discriminator(d)(x, classes, [level])

    def g_main(g):
        (below, image), classes = fakes(g, Phase.G_MAIN)
        drawn = jnp.mean(jnp.square(below - smaller(image)))
        return jnp.mean(jax.nn.softplus(-judge(state.d, image, below, classes))) + 3 * drawn

    def d_main(d):
        (below, image), classes = fakes(state.g, Phase.D_MAIN)

        def of_fake(below, image):
            return judge(d, image, below, classes)

        def of_real(x):
            return judge(d, x, smaller(x), real_classes)

        def squares(gradients):
            return sum(jnp.mean(jnp.sum(x**2, axis=(1, 2, 3))) for x in jax.tree.leaves(gradients))

        r1 = squares(jax.grad(lambda x: of_real(x).sum())(real))
        r2 = squares(jax.grad(lambda both: of_fake(*both).sum())((below, image)))
        value = jnp.mean(jax.nn.softplus(of_fake(below, image)))
        return value + jnp.mean(jax.nn.softplus(-of_real(real))) + 0.25 * r1 + 0.15 * r2

    for phase, loss, params in (
        (Phase.G_MAIN, g_main, state.g),
        (Phase.D_MAIN, d_main, state.d),
    ):
        got, metrics = gradients_of(trainer, state, phase)
        assert_close(got, jax.jit(jax.grad(loss))(params), 3e-4)
        assert ("align" in metrics) == (phase == Phase.G_MAIN)
    assert np.abs(got["block8"]["from_level"]["weight"]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ["exact", "differences"])
def test_halves_and_devices_with_everything_on(batch, penalty):
    everything = {"r2_gamma": 0.3, "r1_gamma": 0.5, "penalty": penalty}
    if penalty == "exact":  # of pairs the last bias has no gradient but rounding
        everything["loss"] = "relativistic"
    config = two_levels(d_levels=True, align_weight=1.0, jitter=True, **everything)
    augment = dataclasses.replace(config.augment, mode="fixed", p=0.8)
    config = dataclasses.replace(config, augment=augment)
    state = settled(trainer_of(config)).replace(ada_p=jnp.asarray(0.8))
    remat = dataclasses.replace(config.train, remat=True)
    if penalty == "exact":
        remat = dataclasses.replace(remat, microbatches=2)
    other = dataclasses.replace(config, train=remat)
    devices = 2 if penalty == "exact" else 1
    # A difference over 0.01 leaves float32 five digits of a logit's seven.
    tolerance = 3e-4 if penalty == "exact" else 1e-3
    for phase in (Phase.G_MAIN, Phase.D_MAIN):
        expected, _ = gradients_of(trainer_of(config), state, phase)
        got, _ = gradients_of(trainer_of(other, devices, fsdp=devices), state, phase)
        assert_close(got, expected, tolerance)


def test_differences_of_all_levels(batch):
    """Each image that D sees has noise of its own shape."""
    config = two_levels(d_levels=True, r2_gamma=0.3, r1_gamma=0.5, penalty="differences")
    trainer = trainer_of(config)
    _, metrics = jax.eval_shape(trainer.steps.function(Phase.D_MAIN), settled(trainer), batch)
    assert {"r1/penalty", "r2/penalty"} <= metrics.keys()


@pytest.mark.parametrize("frame", ["symmetric", "unit"])
def test_jitter_stays_in_the_cell(frame):
    size = (4, 8)
    place = places.on_grid(size, 1, frame, "nearest")
    finer = coords.sides((4 * 64, 8 * 64), frame)  # from a cell's first coordinate to its last
    first, last = (
        [x.reshape(-1, 64)[:, 0] for x in finer],
        [x.reshape(-1, 64)[:, -1] for x in finer],
    )
    moved = [places.jittered(place, size, frame, jax.random.key(i)).sides for i in range(50)]
    for axis in (0, 1):
        by = np.stack([m[axis] - place.sides[axis] for m in moved])
        cell = np.abs(np.diff(place.sides[axis])).mean()
        np.testing.assert_allclose(by, by[:, :1] + np.zeros_like(by), atol=1e-6)
        assert by.min() >= 0 and by.max() <= cell and by.max() - by.min() > 0.8 * cell
        edges = np.minimum(first[axis], last[axis]), np.maximum(first[axis], last[axis])
        assert all((m[axis] >= edges[0] - 1e-6).all() for m in moved)
        assert all((m[axis] <= edges[1] + cell / 32).all() for m in moved)


def test_jitter_is_each_image_s_own_and_small(batch):
    """Each image of a batch another, each level another; the image at rest is the grid's."""
    config = two_levels(jitter=True)
    trainer = trainer_of(config)
    state = settled(trainer)
    generator = trainer.networks.generator(state.g, state.g_buffers)
    ws = jnp.repeat(jax.random.normal(jax.random.key(3), (1, generator.num_styles, 8)), 4, 0)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(4))
    image = generator.levels(ws, jitter_keys=keys)[-1]
    assert np.abs(image[0] - image[1]).max() > 1e-4
    np.testing.assert_array_equal(image, generator.levels(ws, jitter_keys=keys)[-1])
    got, _ = gradients_of(trainer, state, Phase.G_MAIN)
    plain, _ = gradients_of(trainer_of(two_levels()), state, Phase.G_MAIN)
    differs = jax.tree.map(lambda a, b: np.abs(a - b).max() > 1e-4, got, plain)
    assert any(jax.tree.leaves(differs))


def test_levels_are_reduced_by_means():
    x = jax.random.normal(jax.random.key(0), (3, 16, 8, 2))
    np.testing.assert_allclose(losses.reduced(x, (8, 4)), smaller(x), atol=1e-6)
    assert losses.alignment([smaller(x) + 2, x]) == pytest.approx(4, rel=1e-5)
    assert losses.alignment([smaller(x) + 2, smaller(smaller(x)), x]) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(
    ("family", "train", "message"),
    [
        ("stylegan2", {"d_levels": True}, "stylegan2 has no levels of more than 4"),
        ("cips", {"d_levels": True}, "cips has no levels of more than 4"),
        ("inr_gan", {"align_weight": 1.0}, "align_weight needs config.train.d_levels=True"),
        ("inr_gan", {"align_weight": -1.0, "d_levels": True}, "must not be negative"),
        ("cips_skip", {"jitter": True}, "cips_skip is no function on cells"),
    ],
)
def test_what_cannot_be(family, train, message):
    config = configs.base(family)
    config.data.source = "digits"
    config.train.update(train)
    with pytest.raises(UserError, match=message):
        parse(config)


def test_kernels_are_refused():
    config = configs.base("inr_gan")
    config.data.source, config.kernels, config.train.jitter = "digits", "pallas", True
    with pytest.raises(UserError, match="no kernels for it; use kernels=xla"):
        parse(config)
