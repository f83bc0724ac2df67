"""The suite scales measures what it says."""

import numpy as np
import pytest
from helpers.models import mild_model

from benchmarks.scales import measure, sets, shapes
from inr_gan_jax.config import flatten, parse, to_plain
from inr_gan_jax.pictures.pixels import to_uint8


def test_scenes_are_one_picture_at_every_size():
    """Small ones are means of large ones; a seed is one scene, another seed another."""
    large = shapes.scene(5, 128)
    means = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(means - shapes.scene(5, 32)).max() <= 1
    np.testing.assert_array_equal(large, shapes.scene(5, 128))
    assert np.abs(large.astype(float) - shapes.scene(6, 128)).mean() > 10


@pytest.mark.parametrize("name", sets.NAMES)
def test_both_trainings_are_configurations_of_equal_networks(name):
    plain, any_size = (parse(sets.get_config(f"{name}/{kind}")) for kind in sets.KINDS)
    assert plain.model.channel_max == any_size.model.channel_max
    assert plain.discriminator == any_size.discriminator
    assert any_size.patches.largest == 128 == any_size.model.embedding_fine.finest
    assert any_size.model.embedding_fine.table == 0


@pytest.mark.parametrize("variant", [*sets.VARIANTS, "rate+wide"])
def test_variants_are_configurations(variant):
    """That differ from the family's by the keys which they name, and by no others."""
    plain, other = (
        dict(flatten(to_plain(parse(sets.get_config(f"shapes/{kind}")))))
        for kind in ("any", variant)
    )
    named = {f"config.{key}" for one in variant.split("+") for key in sets.VARIANTS[one]}
    differ = {key for key in plain | other if plain.get(key) != other.get(key)}
    assert differ and differ <= named


def test_patches_are_windows_of_the_image(monkeypatch):
    """Of seed i at its own place, by each way of making it."""
    monkeypatch.setattr(measure, "PATCH", 8)
    model = mild_model(size=8, channels=3)
    found = {m: measure.patches(model, 16, 3, m) for m in measure.METHODS}
    at = measure.places(3, 16)
    for i, image in enumerate(measure.images(model, 3)):
        top, left = at[i]
        whole = to_uint8(image.render(16, 16))
        cut = whole[top : top + 8, left : left + 8].astype(int)
        assert np.abs(found["any"][i].astype(int) - cut).max() <= 1
        assert found["lanczos"][i].shape == (8, 8, 3)
    assert np.abs(found["lanczos"].astype(int) - found["any"]).max() > 1
    np.testing.assert_array_equal(
        measure.patches(model, 8, 3, "lanczos"), measure.patches(model, 8, 3, "any")
    )


def test_agreement_is_told_by_size():
    """By size and for a zoom, in dB."""
    flat = measure.agreement(mild_model("inr_gan", size=8), (8, 16), count=2)
    assert set(flat) == {"average 8", "average 16", "zoom"}
    assert all(np.isfinite(v) for v in flat.values())
