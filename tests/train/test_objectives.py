"""What D may learn by beside the released loss, each against its formula, and kept exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import assert_same_run, cut_back
from helpers.training import (
    BATCH,
    after_phase,
    assert_close,
    gradients_of,
    real_batch,
    settled,
    shallow,
    tiny,
    trainer_of,
)

from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.models.discriminator import DiscriminatorConfig
from inr_gan_jax.models.families import FAMILIES
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.train import loop
from inr_gan_jax.train.recipe import Phase


def settings(classes=0, *, augment=None, discriminator=None, **train):
    config = tiny(classes=classes, mixing_prob=0.0, path_weight=0.0, r1_gamma=0.0, **train)
    return dataclasses.replace(
        config,
        augment=dataclasses.replace(config.augment, **(augment or {})),
        discriminator=dataclasses.replace(config.discriminator, **(discriminator or {})),
    )


def inputs_of(trainer, state, classes):
    """(what G makes of the latents of D's phase, their classes; real images, theirs)."""
    keys = jax.random.split(trainer.steps.inputs.key(state, Phase.D_MAIN), 4)
    of_images = [jax.vmap(jax.random.fold_in, (None, 0))(k, jnp.arange(BATCH)) for k in keys]
    z = jax.vmap(lambda key: jax.random.normal(key, (8,)))(of_images[0])
    drawn = real = None
    if classes:
        counts = jnp.log(jnp.asarray([5.0, 1, 2]))
        drawn = jax.vmap(lambda key: jax.random.categorical(key, counts))(of_images[1])
        drawn, real = jax.nn.one_hot(drawn, 3), jax.nn.one_hot(real_batch()["label"], 3)
    generator = trainer.networks.generator(state.g, state.g_buffers)
    w = generator.mapping(z, drawn)
    fake = generator.image(jnp.repeat(w[:, None], generator.num_styles, 1))
    return fake, drawn, jnp.asarray(real_batch()["image"], jnp.float32) / 127.5 - 1, real


@pytest.mark.parametrize("classes", [0, 3])
def test_a_direction_learns_the_difference_of_means(classes):
    """And everything else D's loss, with the direction held: Takida et al. 2024, section 5."""
    trainer = trainer_of(settings(classes, discriminator={"san": True}))
    state = settled(trainer)
    fake, drawn, real, labels = inputs_of(trainer, state, classes)

    def features(d, x, one_hot):
        """What the last layer gets, from a twin without it whose last layer tells nothing."""
        module = trainer.networks.discriminator(d)
        if classes:
            grabbed = {}
            original = module.out.__class__.__call__

            def out(self, x):
                y = original(self, x)
                if self is module.out:
                    grabbed["x"] = y
                return y

            module.out.__class__.__call__ = out
            try:
                module(x, one_hot)
            finally:
                module.out.__class__.__call__ = original
            return grabbed["x"], module.mapping(None, one_hot)

        def along(row):
            basis = d | {"out": {"weight": row[None], "bias": jnp.zeros(1)}}
            return trainer.networks.discriminator(basis)(x)

        columns = jax.vmap(along, out_axes=-1)(jnp.eye(module.out.weight.shape[1]))
        return columns / d["scale"], d["out"]["weight"]

    def loss(d):
        held = jax.lax.stop_gradient
        logits, along = {}, {}
        for name, x, one_hot in (("fake", fake, drawn), ("real", real, labels)):
            f, direction = features(d, x, one_hot)
            direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
            bias = 0 if classes else d["out"]["bias"][0]
            logits[name] = d["scale"] * jnp.sum(f * held(direction), -1) + bias
            along[name] = jnp.sum(held(f) * direction, -1)
        value = jnp.mean(jax.nn.softplus(logits["fake"])) + jnp.mean(
            jax.nn.softplus(-logits["real"])
        )
        return value + jnp.mean(along["fake"]) - jnp.mean(along["real"])

    got, _ = gradients_of(trainer, state, Phase.D_MAIN)
    assert_close(got, jax.jit(jax.grad(loss))(state.d), 5e-4)


def test_logits_far_from_the_other_kind_are_penalised():
    """Tseng et al. 2021, equation 5, and its running means."""
    trainer = trainer_of(settings(lecam=0.3))
    means = {"fake": jnp.asarray(-0.2), "real": jnp.asarray(0.4)}
    state = settled(trainer).replace(logit_means=means)
    fake, _, real, _ = inputs_of(trainer, state, 0)

    def logits(d):
        judge = trainer.networks.discriminator(d)
        return judge(fake), judge(real)

    def loss(d):
        of_fake, of_real = logits(d)
        value = jnp.mean(jax.nn.softplus(of_fake)) + jnp.mean(jax.nn.softplus(-of_real))
        far = jnp.mean(jnp.maximum(of_real + 0.2, 0) ** 2)
        return value + 0.3 * (far + jnp.mean(jnp.maximum(0.4 - of_fake, 0) ** 2))

    after, metrics = after_phase(trainer, state, Phase.D_MAIN)
    assert_close(after.d_optimizer, jax.jit(jax.grad(loss))(state.d), 3e-4)
    of_fake, of_real = logits(state.d)
    np.testing.assert_allclose(
        after.logit_means["fake"], 0.99 * -0.2 + 0.01 * of_fake.mean(), rtol=1e-4
    )
    np.testing.assert_allclose(
        after.logit_means["real"], 0.99 * 0.4 + 0.01 * of_real.mean(), rtol=1e-4
    )
    assert "lecam" in metrics


def test_generated_images_pass_for_real():
    """With the probability p of augmentation, class and all."""
    trainer = trainer_of(settings(3, augment={"mode": "fixed", "p": 0.5, "pipeline": "apa"}))

    def loss(d, mixed, classes, fake, drawn):
        judge = trainer.networks.discriminator(d)
        value = jnp.mean(jax.nn.softplus(judge(fake, drawn)))
        return value + jnp.mean(jax.nn.softplus(-judge(mixed, classes)))

    gradient = jax.jit(jax.grad(loss))
    for p, share in ((0.0, 0), (1.0, BATCH), (0.5, None)):
        state = settled(trainer).replace(ada_p=jnp.asarray(p))
        fake, drawn, real, labels = inputs_of(trainer, state, 3)
        key = trainer.steps.inputs.key(state, Phase.D_MAIN, 5)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(BATCH))
        shown = jax.vmap(jax.random.uniform)(keys) < p
        assert share is None or shown.sum() == share
        if share is None:
            assert 2 < shown.sum() < BATCH - 2
        mixed = jnp.where(shown[:, None, None, None], fake, real)
        classes = jnp.where(shown[:, None], drawn, labels)
        got, _ = gradients_of(trainer, state, Phase.D_MAIN)
        assert_close(got, gradient(state.d, mixed, classes, fake, drawn), 3e-4)


def test_fixup_begins_as_its_skips():
    """Branches end in zeros; they learn, and halves of the batch see the same."""
    size = {"height": 16, "width": 16, "channels": 1}
    shape = {"channel_base": 128, "channel_max": 8}
    generator = FAMILIES["stylegan2"](**size, z_dim=8, w_dim=8)
    networks = networks_of(generator, DiscriminatorConfig(**size, **shape, fixup=True))
    plain = networks_of(generator, DiscriminatorConfig(**size, **shape))
    key = jax.random.key(0)
    params, usual = networks.init_discriminator(key), plain.init_discriminator(key)
    for block in ("block16", "block8"):
        assert not params[block]["conv1"]["weight"].any()
        np.testing.assert_allclose(
            params[block]["conv0"]["weight"], usual[block]["conv0"]["weight"] * 2**-0.5, rtol=1e-6
        )
    x = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))

    def judge(params):
        return networks.discriminator(params)(x)

    gradient = jax.grad(lambda p: jnp.sum(judge(p)))(params)
    for block in ("block16", "block8"):
        assert np.abs(gradient[block]["conv1"]["weight"]).max() > 0
        other = {**params, block: {**params[block], "conv0": usual[block]["conv0"]}}
        np.testing.assert_array_equal(judge(other), judge(params))
    np.testing.assert_allclose(
        networks.discriminator(usual)(x, folded=True), networks.discriminator(usual)(x), rtol=1e-4,
        atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("devices", [2])
def test_halves_and_devices(devices):
    config = settings(
        3, lecam=0.3, r2_gamma=0.2,
        augment={"mode": "fixed", "p": 0.5, "pipeline": "apa"},
        discriminator={"san": True, "fixup": True},
    )  # fmt: skip
    means = {"fake": jnp.asarray(-0.2), "real": jnp.asarray(0.4)}
    state = settled(trainer_of(config)).replace(logit_means=means, ada_p=jnp.asarray(0.5))
    halves = dataclasses.replace(config, train=dataclasses.replace(config.train, microbatches=2))
    for phase in (Phase.D_MAIN,):
        expected, _ = gradients_of(trainer_of(config), state, phase)
        got, _ = gradients_of(trainer_of(halves, devices, fsdp=devices), state, phase)
        assert_close(got, expected, 3e-4)


def test_a_run_goes_on_exactly(tmp_path):
    """With its running means; without them a checkpoint holds what it always held."""
    config = shallow(8, lecam=0.1, kimg=0.032)
    config.discriminator.san = True
    config.log.metrics_kimg = config.log.grid_kimg = 0.0
    config.log.checkpoint_kimg = 0.016
    source = open_source("digits", height=8, width=8, channels=1, labels=False)
    loop.train(parse(config), source, tmp_path / "once")
    twice = cut_back(tmp_path / "once", 2, tmp_path / "twice")
    loop.train(parse(config), source, twice)
    assert_same_run(tmp_path / "once", twice)
