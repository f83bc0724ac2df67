"""What helps where data are few: augmentation in the phases, its controller, FreezeD, transfer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training import (
    BATCH,
    assert_close,
    gradients_of,
    on,
    on_one_device,
    real_batch,
    settled,
    tiny,
    trainer_of,
)

from inr_gan_jax.config import to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.discriminator import layer_paths
from inr_gan_jax.runtime.sharding import to_devices
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train.augment import augment
from inr_gan_jax.train.recipe import Phase, recipe_of
from inr_gan_jax.train.state import checkpoint_items
from inr_gan_jax.train.transfer import transfer


def changed(config, section, **values):
    part = dataclasses.replace(getattr(config, section), **values)
    return dataclasses.replace(config, **{section: part})


def augmented(mode="fixed", pipeline="bgc", p=0.8, **augment):
    return changed(tiny(classes=0), "augment", mode=mode, pipeline=pipeline, p=p, **augment)


@pytest.mark.slow
def test_augmentation_does_not_depend_on_how_a_batch_is_cut():
    config, phase = augmented(pipeline="color"), Phase.D_MAIN
    whole = trainer_of(config)
    state = settled(whole)
    expected, _ = gradients_of(whole, state, phase)
    plain, _ = gradients_of(trainer_of(tiny(classes=0)), state, phase)
    halves = changed(config, "train", microbatches=2)
    got, _ = gradients_of(trainer_of(halves, 2), state, phase)
    assert_close(got, expected, 1e-4)
    with pytest.raises(AssertionError):  # it does something
        assert_close(plain, expected, 1e-2)


def test_r1_is_with_respect_to_the_images_before_augmentation():
    """Against the gradient of the sum of logits, image by image."""
    config = augmented(pipeline="color")
    trainer = trainer_of(config)
    state, phase = settled(trainer), Phase.D_R1
    batch = real_batch()
    _, metrics = gradients_of(trainer, state, phase)
    keys = on_one_device(trainer, lambda s: trainer.steps.inputs.augment_keys(s, phase, 5, BATCH))(
        state
    )
    real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1

    def logits(x):
        return trainer.networks.discriminator(state.d)(augment(x, keys, 0.8, "color")).sum()

    gradient = np.asarray(jax.jit(jax.grad(logits))(real))
    expected = np.mean(np.sum(np.square(gradient), (1, 2, 3)))
    assert metrics["r1/penalty"] == pytest.approx(float(expected), rel=1e-4)


def run_finish(trainer, state, signs) -> list[float]:
    """p after each iteration, given D's mean sign on real images in each."""
    finish = jax.jit(trainer.steps.function(Phase.FINISH))
    found = []
    for sign in signs:
        state = state.replace(ada_signs=state.ada_signs + sign)
        state, metrics = finish(state, {})
        found.append(float(metrics["augment/p"]))
    return found


def test_p_follows_the_overfitting_of_the_discriminator():
    config = augmented("ada", p=0.5, interval=2, kimg=1.0)
    trainer = trainer_of(config)
    state = settled(trainer).replace(
        iteration=jnp.int32(0), ada_p=jnp.float32(0.5), ada_signs=jnp.float32(0)
    )
    step = 2 * BATCH / 1000
    # The mean of two signs counts, and only from the last update on.
    found = run_finish(trainer, state, [1.0, 0.8, 0.2, 0.9, 0.55, 0.66, 0.9, -1.0])
    moves = [0, step, step, 0, 0, step, step, 0]
    np.testing.assert_allclose(found, np.asarray(moves) + 0.5, rtol=1e-5)
    low = state.replace(ada_p=jnp.float32(step / 2))
    assert run_finish(trainer, low, [0.0, 0.0])[-1] == 0  # never below
    fixed = trainer_of(augmented("fixed", p=0.5))
    assert set(run_finish(fixed, state, [1.0] * 4)) == {0.5}


def test_signs_are_those_of_real_images():
    trainer = trainer_of(tiny(classes=0))
    state = settled(trainer)
    batch = to_devices(trainer.mesh, real_batch())
    after, metrics = jax.jit(trainer.steps.function(Phase.D_MAIN))(on(trainer, state), batch)
    assert float(after.ada_signs) == pytest.approx(float(metrics["logits/real_sign"]))
    assert -1 <= float(metrics["logits/real_sign"]) <= 1


def test_frozen_layers_do_not_learn():
    config = changed(tiny(), "train", freeze_d=3)
    trainer = trainer_of(config)
    frozen = layer_paths(config.discriminator)
    assert frozen[:4] == [("block8", name) for name in ("from_rgb", "conv0", "conv1", "skip")]
    state = settled(trainer)
    batch = to_devices(trainer.mesh, real_batch())
    after, _ = jax.jit(trainer.steps.function(Phase.D_MAIN))(on(trainer, state), batch)
    for path in frozen:
        before, now = state.d, after.d
        for name in path:
            before, now = before[name], now[name]
        same = [np.array_equal(a, b) for a, b in zip(
            jax.tree.leaves(before), jax.tree.leaves(now), strict=True)]  # fmt: skip
        assert all(same) if path in frozen[:3] else not any(same), path


def write_donor(workdir, config):
    trainer = trainer_of(config)
    state = settled(trainer)
    metadata = {"config": to_plain(config), "class_counts": [1] * config.model.num_classes,
                "images": 5000}  # fmt: skip
    with Checkpoints(workdir / FOLDER) as checkpoints:
        checkpoints.save(3, checkpoint_items(on(trainer, state)), metadata)
    return state


def test_transfer_takes_what_fits_and_names_the_rest(tmp_path):
    """From an unconditional model to a class-conditional one: only what sees classes is new."""
    donor = write_donor(tmp_path, tiny(classes=0))
    trainer = trainer_of(changed(tiny(classes=3), "train", init_from=str(tmp_path)))
    fresh = trainer.init(0)
    state, lines = transfer(fresh, tmp_path, trainer.mesh)
    for field in ("g", "g_ema", "d"):
        ours = dict(jax.tree_util.tree_leaves_with_path(getattr(state, field)))
        new = dict(jax.tree_util.tree_leaves_with_path(getattr(fresh, field)))
        theirs = dict(jax.tree_util.tree_leaves_with_path(getattr(donor, field)))
        for path, leaf in ours.items():
            fits = path in theirs and theirs[path].shape == leaf.shape
            source = theirs if fits else new
            np.testing.assert_array_equal(leaf, source[path], str(path))
            name = f"{field}/{jax.tree_util.keystr(path, simple=True, separator='/')}"
            assert any(f"not taken: {name}," in line for line in lines) == (not fits)
    assert "step 3, 5 kimg" in lines[0] and any("absent there" in line for line in lines)
    np.testing.assert_array_equal(state.w_avg, np.broadcast_to(donor.w_avg, (3, 8)))
    assert int(state.iteration) == int(state.images) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.g_optimizer))


def test_transfer_where_nothing_fits(tmp_path):
    trainer = trainer_of(tiny())
    with pytest.raises(UserError, match="config.train.init_from: .*no such folder"):
        transfer(trainer.init(0), tmp_path / "absent", trainer.mesh)


def test_a_transfer_adapts_faster_and_needs_no_ramp_up():
    config = augmented("ada", p=0.0)
    assert recipe_of(config, (), "float32").ada_kimg == 500
    moved = recipe_of(changed(config, "train", init_from="runs/x"), (), "float32")
    assert moved.ada_kimg == 100 and moved.ema_rampup == 0
