"""The phases of an iteration, each against a slow version of its own, on one device and on two."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import (
    BATCH,
    D_PHASES,
    G_PHASES,
    assert_close,
    gradients_of,
    handed,
    on,
    on_one,
    on_one_device,
    real_batch,
    settled,
    tiny,
    trainer_of,
)

from inr_gan_jax.models import mapping
from inr_gan_jax.runtime.sharding import make_mesh, to_devices
from inr_gan_jax.train import losses
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import Trainer

LATENT_PHASES = {Phase.G_MAIN: BATCH, Phase.G_PATH: BATCH // 2, Phase.D_MAIN: BATCH}


@functools.cache
def plain() -> Trainer:
    """On one device; its phases are compiled once for all tests."""
    return trainer_of(tiny())


@pytest.mark.parametrize(
    "phase, family",
    [*((phase, "inr_gan") for phase in (*G_PHASES, *D_PHASES)), (Phase.G_MAIN, "stylegan2")],
    ids=lambda value: getattr(value, "name", value),
)
def test_halves_and_devices_give_the_gradients_of_the_whole(phase, family):
    """One batch on one device equals the same in halves on two.

    Two devices have a copy of the networks each, or, for some phases, a half of them.
    """
    config = tiny(family)
    state = settled(trainer_of(config))
    after, metrics = on_one(config, phase)
    expected = handed(after, phase)
    assert max(np.abs(g).max() for g in jax.tree.leaves(expected)) > 1e-3
    halves = dataclasses.replace(config, train=dataclasses.replace(config.train, microbatches=2))
    fsdp = 2 if phase in (Phase.G_MAIN, Phase.D_R1) else 1
    got, same = gradients_of(trainer_of(halves, 2, fsdp), state, phase)
    assert_close(got, expected, 1e-4)
    for key, value in metrics.items():
        np.testing.assert_allclose(same[key], value, rtol=1e-3, atol=1e-5)


@functools.cache
def latents(phase, size=BATCH):
    """state -> what `plain` draws for that many images."""
    draw = on_one_device(plain(), lambda s: plain().steps.inputs.latents(s, phase, size, {}))
    return lambda state: jax.tree.map(lambda x: x[0], draw(state))


def images_by_hand(trainer, g, state, inputs, cut):
    generator = trainer.networks.generator(g, state.g_buffers)
    ws = mapping.broadcast_styles(
        generator.mapping(inputs["z"], inputs["classes"]), generator.num_styles
    )
    other = mapping.broadcast_styles(
        generator.mapping(inputs["mix_z"], inputs["classes"]), generator.num_styles
    )
    ws = jnp.concatenate([ws[:, :cut], other[:, cut:]], axis=1)
    return generator, ws


@pytest.mark.parametrize("phase", [*G_PHASES, Phase.D_MAIN], ids=lambda phase: phase.name)
def test_kernels_on_two_devices_give_the_gradients_of_plain_xla_on_one(phase):
    """Path lengths too: they need derivatives that the kernels do not have."""
    fused = trainer_of(tiny(), devices=2, kernels="pallas")
    got, metrics = gradients_of(fused, settled(fused), phase)
    assert ("pallas_call" in str(fused.traced[phase].jaxpr)) == (phase is not Phase.G_PATH)
    after, expected = on_one(tiny(), phase)
    assert_close((got, metrics), (handed(after, phase), expected), 1e-5)


def test_phases_are_the_released_recipe():
    """Each phase's gradients, from the formulas of the recipe written out again."""
    trainer = plain()
    state = settled(trainer)
    train = trainer.config.train
    batch = real_batch()
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    real_classes = jax.nn.one_hot(batch["label"], 3)

    def logits(d, images, classes):
        return trainer.networks.discriminator(d)(images, classes)

    def g_main(g):
        inputs, cut = mixed[Phase.G_MAIN]
        generator, ws = images_by_hand(trainer, g, state, inputs, cut)
        return jnp.mean(
            jnp.log1p(jnp.exp(-logits(state.d, generator.image(ws), inputs["classes"])))
        )

    def g_path(g):
        inputs, cut = mixed[Phase.G_PATH]
        generator, ws = images_by_hand(trainer, g, state, inputs, cut)
        key = jax.random.fold_in(trainer.steps.inputs.key(state, Phase.G_PATH), 6)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(BATCH // 2))
        noise = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys) / 8
        lengths = losses.path_lengths(generator.image, ws, noise)
        mean = 0.99 * state.path_mean + 0.01 * jax.lax.stop_gradient(jnp.mean(lengths))
        return jnp.mean((lengths - mean) ** 2) * train.path_weight * train.g_interval

    def d_main(d):
        inputs, cut = mixed[Phase.D_MAIN]
        generator, ws = images_by_hand(trainer, state.g, state, inputs, cut)
        fake = logits(d, generator.image(ws), inputs["classes"])
        return jnp.mean(jnp.log1p(jnp.exp(fake))) + jnp.mean(
            jnp.log1p(jnp.exp(-logits(d, real, real_classes)))
        )

    def d_r1(d):
        gradient = jax.grad(lambda x: logits(d, x, real_classes).sum())(real)
        return 10 / 2 * jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3))) * 16

    mixed = {}
    for phase, size in LATENT_PHASES.items():
        inputs = latents(phase, size)(state)
        mixed[phase] = inputs, int(inputs.pop("mix_from")[0])
    slow = {Phase.G_MAIN: (g_main, state.g), Phase.G_PATH: (g_path, state.g),
            Phase.D_MAIN: (d_main, state.d), Phase.D_R1: (d_r1, state.d)}  # fmt: skip
    for phase, (loss, params) in slow.items():
        expected = jax.jit(jax.grad(loss))(params)
        after, _ = on_one(tiny(), phase)
        assert_close(handed(after, phase), expected, 2e-4)
        w_avg = np.array(state.w_avg)
        if phase in mixed:  # it follows w, not what is mixed in; each class has its own
            inputs, _ = mixed[phase]
            w = trainer.networks.generator(state.g, state.g_buffers).mapping(
                inputs["z"], inputs["classes"]
            )
            classes = np.argmax(inputs["classes"], axis=-1)
            for c in np.unique(classes):
                w_avg[c] = 0.995 * w_avg[c] + 0.005 * np.mean(w[classes == c], axis=0)
            assert not np.allclose(w_avg, state.w_avg)
        np.testing.assert_allclose(after.w_avg, w_avg, rtol=1e-4, atol=1e-6)


def test_an_iteration_updates_what_it_must():
    trainer = plain()
    before = settled(trainer)
    batch = to_devices(trainer.mesh, real_batch())
    after, metrics = trainer.iterate(on(trainer, before), batch, iteration=16)
    assert [set(m) & {"loss/g", "path/penalty", "loss/d", "r1/penalty"} for m in metrics] == [
        {"loss/g"}, {"path/penalty"}, {"loss/d"}, {"r1/penalty"}, set()
    ]  # fmt: skip
    after = jax.device_get(after)
    assert after.iteration == before.iteration + 1 and after.images == before.images + BATCH
    beta = 0.5 ** (BATCH / min(20_000, before.images * 0.05))
    expected = jax.tree.map(lambda new, old: beta * old + (1 - beta) * new, after.g, before.g_ema)
    assert_close(after.g_ema, expected, 1e-5)
    for name in ("g", "d"):
        moved = jax.tree.map(
            lambda a, b: np.abs(a - b).max(), getattr(after, name), getattr(before, name)
        )
        assert max(jax.tree.leaves(moved)) > 0
    assert not np.allclose(after.w_avg, before.w_avg) and after.path_mean != before.path_mean


def test_due_phases():
    lazy, paper = trainer_of(tiny()).steps, trainer_of(tiny(path_weight=0.0, r1_interval=0)).steps
    names = [[p.name for p in lazy.due(i)] for i in range(17)]
    assert names[0] == ["G_MAIN", "G_PATH", "D_MAIN", "D_R1", "FINISH"] == names[16]
    assert names[4] == ["G_MAIN", "G_PATH", "D_MAIN", "FINISH"]
    assert names[1] == ["G_MAIN", "D_MAIN", "FINISH"]
    assert {tuple(paper.due(i)) for i in range(17)} == {(Phase.G_MAIN, Phase.D_MAIN, Phase.FINISH)}


def test_r1_of_every_step_is_part_of_the_main_loss():
    state = settled(plain())
    main, penalty = (handed(on_one(tiny(), phase)[0], phase) for phase in D_PHASES)
    both, _ = gradients_of(trainer_of(tiny(r1_interval=0)), state, Phase.D_MAIN)
    assert_close(both, jax.tree.map(lambda a, b: a + b / 16, main, penalty), 1e-3)


def test_classes_are_drawn_as_the_data_has_them():
    inputs = latents(Phase.G_MAIN, 8000)(settled(plain()))
    np.testing.assert_allclose(inputs["classes"].mean(0), [5 / 8, 1 / 8, 2 / 8], atol=0.03)


def test_mixing_probability_and_crossover():
    trainer = plain()
    state, styles = settled(trainer), trainer.networks.num_styles
    cut = on_one_device(
        trainer,
        lambda s: trainer.steps.inputs.latents(s, Phase.G_MAIN, BATCH, {})["mix_from"][0, 0],
    )
    cuts = np.asarray([cut(state.replace(iteration=jnp.int32(i))) for i in range(300)])
    assert 0.4 < np.mean(cuts < styles) < 0.6
    assert set(cuts) == set(range(1, styles + 1))


def test_nonfinite_gradients_are_counted_and_harmless():
    trainer = plain()
    state = settled(trainer)
    state.d["out"]["bias"] = np.full_like(state.d["out"]["bias"], np.nan)
    batch = to_devices(trainer.mesh, real_batch())
    after, (metrics, *_) = trainer.iterate(on(trainer, state), batch, iteration=1)
    assert metrics["nonfinite/g"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.g))


def test_random_keys_depend_on_seed_phase_and_count_alone():
    state = settled(plain())

    def draw(s, p):
        return np.asarray(latents(p)(s)["z"])

    first = draw(state, Phase.G_MAIN)
    other = state.replace(w_avg=state.w_avg + 1, images=np.int32(5), ada_p=np.float32(0.5))
    np.testing.assert_array_equal(first, draw(other, Phase.G_MAIN))
    assert not np.allclose(first, draw(state, Phase.D_MAIN))
    assert not np.allclose(first, draw(state.replace(iteration=np.int32(8)), Phase.G_MAIN))


def test_bfloat16_compute_stays_near_float32():
    state, batch = settled(plain()), real_batch()
    found = {}
    low = Trainer(tiny(), [5, 1, 2], dtype="bfloat16", mesh=make_mesh(jax.devices()[:1]))
    for dtype, trainer in (("float32", plain()), ("bfloat16", low)):
        if Phase.D_MAIN not in trainer.compiled:
            trainer.compile([Phase.D_MAIN])
        step = trainer.compiled[Phase.D_MAIN]
        after, metrics = step(on(trainer, state), to_devices(trainer.mesh, batch))
        assert {leaf.dtype.name for leaf in jax.tree.leaves(after.d)} == {"float32"}
        found[dtype] = {k: float(v) for k, v in metrics.items() if not k.endswith("sign")}
    assert found["bfloat16"] != found["float32"]
    for key, value in found["float32"].items():
        assert found["bfloat16"][key] == pytest.approx(value, rel=0.05, abs=0.05)
