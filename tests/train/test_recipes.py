"""What a recipe may have in place of the released one's parts, each against its formula."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import opened
from helpers.training import (
    BATCH,
    assert_close,
    gradients_of,
    on,
    real_batch,
    settled,
    shallow,
    tiny,
    trainer_of,
)
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax import config as configs
from inr_gan_jax.config.recipes import RECIPES, gammas_of
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.families import FAMILIES
from inr_gan_jax.runtime.sharding import to_devices
from inr_gan_jax.train import losses
from inr_gan_jax.train.recipe import Phase, recipe_of
from inr_gan_jax.train.schedule import Schedule
from inr_gan_jax.train.workdir import RUN_FILE

PAIRS = {"loss": "relativistic", "r1_gamma": 0.5, "r2_gamma": 0.3, "mixing_prob": 0.0}


def run(trainer, state, phases):
    """The state after these phases."""
    batch, state = to_devices(trainer.mesh, real_batch()), on(trainer, state)
    trainer.compile(phases)
    for phase in phases:
        state, _ = trainer.compiled[phase](state, batch)
    return jax.device_get(state)


def scheduled(config, **schedule):
    section = dataclasses.replace(config.schedule, kind="cosine", **schedule)
    return dataclasses.replace(config, schedule=section)


def softplus(x):
    return jnp.log1p(jnp.exp(x))


def squares(d_of, images):
    gradient = jax.grad(lambda x: d_of(x).sum())(images)
    return jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3)))


def test_pairs_are_compared_and_both_kinds_penalised():
    """All phases of R3GAN's objective, from its formulas: Huang et al. 2024, equations 3 to 5."""
    trainer, lazy = trainer_of(tiny(r1_interval=0, **PAIRS)), trainer_of(tiny(**PAIRS))
    state, batch = settled(trainer), real_batch()
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    classes = jax.nn.one_hot(batch["label"], 3)  # both of a pair have the real one's

    def fakes(g, phase):
        key = jax.random.split(trainer.steps.inputs.key(state, phase), 4)[0]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(BATCH))
        z = jax.vmap(lambda key: jax.random.normal(key, (8,)))(keys)
        generator = trainer.networks.generator(g, state.g_buffers)
        w = generator.mapping(z, classes)
        return generator.image(jnp.repeat(w[:, None], generator.num_styles, 1))

    def judge(d):
        return lambda x: trainer.networks.discriminator(d)(x, classes)

    def g_main(g):
        of = judge(state.d)
        return jnp.mean(softplus(of(real) - of(fakes(g, Phase.G_MAIN))))

    def main(d):
        fake, of = fakes(state.g, Phase.D_MAIN), judge(d)
        return jnp.mean(softplus(of(fake) - of(real)))

    def penalty(d, phase):
        fake, of = fakes(state.g, phase), judge(d)
        return 0.25 * squares(of, real) + 0.15 * squares(of, fake)

    cases = [
        (trainer, Phase.G_MAIN, g_main, state.g),
        (trainer, Phase.D_MAIN, lambda d: main(d) + penalty(d, Phase.D_MAIN), state.d),
        (lazy, Phase.D_R1, lambda d: 16 * penalty(d, Phase.D_R1), state.d),
    ]
    for one, phase, loss, params in cases:
        got, metrics = gradients_of(one, state, phase)
        assert_close(got, jax.jit(jax.grad(loss))(params), 2e-4)
    assert {"r1/penalty", "r2/penalty"} <= metrics.keys()


@pytest.mark.slow
def test_halves_and_devices_give_the_gradients_of_the_whole():
    """Of exact penalties: a quarter of a microbatch is another quarter."""
    config = tiny(r1_interval=0, **PAIRS)
    augment = dataclasses.replace(config.augment, mode="fixed", p=0.8)
    config = scheduled(dataclasses.replace(config, augment=augment), lr=0.1, gamma=0.1, kimg=1.0)
    whole = trainer_of(config)
    state = settled(whole).replace(ada_p=jnp.asarray(0.8))
    halves = dataclasses.replace(config, train=dataclasses.replace(config.train, microbatches=2))
    for phase in (Phase.G_MAIN, Phase.D_MAIN):
        expected, _ = gradients_of(whole, state, phase)
        got, _ = gradients_of(trainer_of(halves, 2, fsdp=2), state, phase)
        assert_close(got, expected, 2e-4)


def test_both_of_a_pair_are_augmented_alike():
    config = tiny(classes=0, **PAIRS)
    augment = dataclasses.replace(config.augment, mode="fixed", p=0.5)
    trainer = trainer_of(dataclasses.replace(config, augment=augment))
    state, batch = settled(trainer), to_devices(trainer.mesh, real_batch())

    def keys(state, batch):
        inputs = trainer.steps.inputs.pairs(state, Phase.D_MAIN, batch)
        return jnp.stack([jax.random.key_data(inputs[f"{k}_keys"]) for k in ("fake", "real")])

    specs = jax.P()
    run = jax.shard_map(keys, mesh=trainer.mesh, in_specs=specs, out_specs=specs, check_vma=False)
    fake, real = jax.jit(run)(on(trainer, state), batch)
    assert (fake == real).all() and len(np.unique(fake.reshape(BATCH, -1), axis=0)) == BATCH


def test_differences_have_the_penalty_as_their_mean():
    """Of a function with curvature, over many draws; no draw of one image decides another's."""
    a = jax.random.normal(jax.random.key(0), (4, 4, 1))
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))

    def d(x):
        return jnp.sin(jnp.sum(a * x, axis=(1, 2, 3))) + 0.1 * jnp.sum(x**2, axis=(1, 2, 3))

    exact = losses.gradient_penalties(d, x)
    noise = jax.random.normal(jax.random.key(2), (20_000, *x.shape))
    got = jax.vmap(lambda n: losses.difference_penalties(d, x, n))(noise)
    np.testing.assert_allclose(got.mean(0), exact, rtol=0.05)


def test_differences_take_a_quarter_in_whole_groups_and_no_second_derivative():
    trainer = trainer_of(tiny(classes=0, r1_interval=0, penalty="differences", **PAIRS))
    state = settled(trainer)
    exact = trainer_of(tiny(classes=0, r1_interval=0, **PAIRS))
    flops = []
    for one in (trainer, exact):
        one.compile([Phase.D_MAIN])
        flops.append(sum(one.program().phases["d_main"].flops.values()))
    assert flops[0] < 0.7 * flops[1]
    seen = []
    original = trainer.steps.judge.logits

    def logits(d, images, inputs, p, dtype=None, **options):
        seen.append({kind: len(jax.tree.leaves(x)[-1]) for kind, x in images.items()})
        return original(d, images, inputs, p, dtype, **options)

    trainer.steps.judge.logits = logits
    jax.eval_shape(trainer.steps.function(Phase.D_MAIN), state, real_batch())
    assert {"fake": 4, "real": 4} in seen and {"fake": BATCH, "real": BATCH} in seen


@given(st.floats(0, 10), st.floats(0, 10), st.integers(1, 10**6), st.integers(0, 2 * 10**6))
def test_a_schedule_is_half_a_cosine_wave(start, end, horizon, images):
    got = float(Schedule(start, end, horizon)(jnp.int32(images)))
    part = min(images / horizon, 1)
    expected = end + (start - end) * (1 + np.cos(np.pi * part)) / 2
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_the_released_recipe_has_plain_numbers():
    """So that its programs are what they were before there were schedules."""
    recipe = recipe_of(tiny(), (5, 1, 2), "float32")
    numbers = [recipe.lr, recipe.beta2, recipe.ema_kimg, recipe.p, *recipe.gammas.values()]
    assert all(type(s(jnp.int32(5))) is float for s in numbers)
    assert recipe.gammas.keys() == {"real"}


def test_numbers_move_with_the_images():
    """The learning rate and the probability of augmentation, in an iteration."""
    config = tiny(path_weight=0.0, r1_interval=0)
    augment = dataclasses.replace(config.augment, mode="fixed", p=0.2, pipeline="color")
    config = dataclasses.replace(config, augment=augment)
    moved = scheduled(config, kimg=0.224, lr=0.5, ema=0.25, p=0.6)  # half is past at 112 images
    state = settled(trainer_of(config))
    state = state.replace(ada_p=np.float32(0.2))
    after = {
        name: run(trainer_of(one), state, [Phase.G_MAIN, Phase.FINISH])
        for name, one in (("plain", config), ("moved", moved))
    }
    before = state.g["hypernet"]  # the mapping's weights are a hundred times its steps' rounding
    steps = {k: jax.tree.map(jnp.subtract, s.g["hypernet"], before) for k, s in after.items()}
    assert_close(
        steps["moved"], jax.tree.map(lambda x: 0.75 * x, steps["plain"]), 5e-4
    )  # rounding of weights
    p = 0.6 - 0.2 * (1 + np.cos(np.pi * (112 + BATCH) / 224))  # that of the next iteration
    np.testing.assert_allclose(after["moved"].ada_p, p, rtol=1e-6)
    np.testing.assert_allclose(after["plain"].ada_p, 0.2, rtol=1e-6)


def test_tables_that_do_not_learn():
    config = tiny(path_weight=0.0, r1_interval=0, table_lr=0.0)
    state = settled(trainer_of(config))
    gradient, _ = gradients_of(trainer_of(config), state, Phase.G_MAIN)
    assert np.abs(gradient["hypernet"]["block8"]["embedding"]["table"]).max() > 0
    after = run(trainer_of(config), state, [Phase.G_MAIN])
    for block in ("block4", "block8"):
        before, now = (s.g["hypernet"][block]["embedding"]["table"] for s in (state, after))
        np.testing.assert_array_equal(before, now)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after.g["mapping"], state.g["mapping"])
    assert all(jax.tree.leaves(moved))


def test_gamma_by_rule():
    """0.0002 times pixels over images of a batch; said at the start."""
    config = tiny(r1_gamma=-1.0, r2_gamma=-1.0)
    assert gammas_of(config) == pytest.approx({"fake": 8e-4, "real": 8e-4})
    lines = recipe_of(config, (), "float32").remarks()
    assert any("gamma by rule: of fake images 0.0008, real images 0.0008" in x for x in lines)


def test_recipes_by_name(monkeypatch):
    monkeypatch.setitem(RECIPES, "best", {"train.loss": "relativistic", "schedule.lr": 0.5})
    draft = configs.base("inr_gan", recipe="best")
    assert (draft.train.recipe, draft.train.loss, draft.schedule.lr) == (
        "best",
        "relativistic",
        0.5,
    )
    configs.adopt(draft, "released")
    assert (draft.train.recipe, draft.train.loss, draft.schedule.lr) == (
        "released",
        "logistic",
        1.0,
    )
    plain = {"data": {"source": "digits"}, "train": {"recipe": "best"}}
    assert configs.parse(plain).train.loss == "relativistic"
    chosen = plain | {"train": {"recipe": "best", "loss": "logistic"}}
    parsed = configs.parse(chosen)
    assert (parsed.train.loss, parsed.schedule.lr) == ("logistic", 0.5)
    with pytest.raises(UserError, match='did you mean "best"'):
        configs.base("inr_gan", recipe="bst")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_recipe_is_for_every_family(family):
    """It changes a residual D and rates alone; the released one takes all of it back."""
    draft = configs.base(family, recipe="best")
    draft.data.source = "digits"
    best = configs.parse(draft)
    assert best.discriminator.fixup and best.train.g_lr == best.train.d_lr == 0.005
    configs.adopt(draft, "released")
    released = configs.base(family)
    released.data.source = "digits"
    assert configs.parse(draft) == configs.parse(released) != best


def test_a_schedule_that_follows_the_length_makes_the_length_a_part_of_the_run():
    config = tiny(kimg=100.0)
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, kimg=200.0))
    assert configs.identity(config, "") == configs.identity(longer, "")
    a, b = (configs.identity(scheduled(c), "") for c in (config, longer))
    assert {k for k in a if a[k] != b[k]} == {"config.schedule.kimg"}
    a, b = (configs.identity(scheduled(c, kimg=50.0), "") for c in (config, longer))
    assert a == b and json.dumps(a)


def test_a_workdir_made_before_goes_on(tmp_path):
    """Its record has none of the keys that came later: they hold their released values."""
    config = shallow(16)
    source = open_source("digits", height=16, width=16, channels=1, labels=False)

    def claim(**train):
        """As the start of a training run does."""
        config.train.update(train)
        with opened(tmp_path, configs.parse(config), source):
            return json.loads(file.read_text())

    file = tmp_path / RUN_FILE
    record = claim()
    identity = dict(record["identity"])
    new = [f"config.train.{k}" for k in ("loss", "penalty", "r2_gamma", "table_lr", "power_ema")]
    for key in [k for k in record["identity"] if k in new or k.startswith("config.schedule")]:
        del record["identity"][key]
    file.write_text(json.dumps(record))
    assert claim(kimg=100.0)["identity"] == identity != record["identity"]
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match="config.train.r2_gamma was 0.0, now 1.0"):
        claim(r2_gamma=1.0)
