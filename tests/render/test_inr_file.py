"""`.inr` files: what is opened is what was saved, and foreign files are refused in one line."""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from helpers.functions import params_of, random_params, size_config

import inr_gan_jax
from inr_gan_jax.errors import UserError
from inr_gan_jax.models import inr
from inr_gan_jax.render import between
from inr_gan_jax.render.image import ContinuousImage, open_image
from inr_gan_jax.render.inr_file import KEY, open_images, save_images

FAMILIES = ("inr_gan", "inr_gan_bil", "inr_gan_fmm_sigmoid", "inr_gan_predicted_coords", "cips")


@pytest.fixture(scope="module")
def params() -> inr.InrParams:
    return random_params(size_config(height=16, width=16), batch=3)


def assert_equal(one: inr.InrParams, other: inr.InrParams) -> None:
    assert one.spec == other.spec and hash(one.spec) == hash(other.spec)
    jax.tree.map(np.testing.assert_array_equal, one, other)  # also: the same structure


@pytest.mark.parametrize("name", [*FAMILIES, "paper"])
def test_what_is_opened_is_what_was_saved(name, tmp_path):
    params = params_of(name)
    save_images(tmp_path / "x.inr", params)
    assert_equal(open_images(tmp_path / "x.inr"), params)
    opened = inr_gan_jax.open_image(tmp_path / "x.inr", index=1)
    assert_equal(opened.params, params[1])
    np.testing.assert_array_equal(opened.render(), ContinuousImage(params[1]).render())


def test_networks_of_their_own_weights(params, tmp_path):
    """Blends of effective weights are images like others."""
    made = between.materialize(params)
    save_images(tmp_path / "x.inr", made)
    assert_equal(open_images(tmp_path / "x.inr"), made)


def test_one_image_saves_itself(params, tmp_path):
    image = ContinuousImage(params[2])
    image.save(tmp_path / "deep" / "face.inr")
    assert_equal(open_image(tmp_path / "deep" / "face.inr").params, params[2])
    with pytest.raises(UserError, match="exists: delete it"):
        image.save(tmp_path / "deep" / "face.inr")
    for options in ({"width": 32}, {"window": (0, 0, 1, 1)}):
        with pytest.raises(UserError, match="the image itself"):
            image.save(tmp_path / "y.inr", **options)
    assert not (tmp_path / "y.inr").exists()


def test_sizes_are_what_they_are_said_to_be(params, tmp_path):
    """One shared part; each image adds its low-rank factors, far less than its weights."""
    path = tmp_path / "x.inr"
    sizes = {}
    for count in (1, 2, 3):
        sizes[count], each = save_images(path, params[slice(count)])
        assert path.stat().st_size == sizes[count]
        assert each == sum(leaf[0].nbytes for leaf in jax.tree.leaves(params.image))
    assert abs(sizes[3] - sizes[2] - each) < 100 and abs(sizes[2] - sizes[1] - each) < 100
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()[KEY])["version"] == 2
        for name in file.keys():  # noqa: SIM118
            assert name.startswith("shared/") or file.get_slice(name).get_shape()[0] == 3


@pytest.mark.parametrize("name", [*FAMILIES, "paper"])
def test_bfloat16_halves_the_file_and_keeps_the_picture(name, tmp_path):
    params = params_of(name)
    path = tmp_path / "x.inr"
    exact, rounded = (save_images(path, params, dtype) for dtype in ("float32", "bfloat16"))
    with safetensors.safe_open(path, "np") as file:
        tensors = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    whole = {n for n, dtype in tensors.items() if dtype == "F32"}
    assert whole == {n for n in tensors if "/embedding/" in n and not n.endswith("table")}
    assert exact[1] / 2 <= rounded[1] < 0.6 * exact[1]
    opened = open_images(path)
    assert {leaf.dtype for leaf in jax.tree.leaves(opened)} == {np.dtype(np.float32)}
    picture = ContinuousImage(params[0]).render()
    error = np.abs(open_image(path, 0).render() - picture)
    assert 0 < error.max() < 0.05 * np.ptp(picture)
    assert error.mean() < 0.005 * np.ptp(picture)


def edited(path, change) -> None:
    """Writes the file anew with its header changed."""
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        header = json.loads(file.metadata()[KEY])
    change(header, tensors)
    safetensors.numpy.save_file(tensors, path, {KEY: json.dumps(header)})


CHANGES = {
    "version 6 of the .inr format; this inr_gan_jax reads 1, 2, 3, 4, 5": lambda h, t: h.update(
        version=6
    ),
    "damaged: its network cannot be read": lambda h, t: h["spec"].pop("blocks"),
    "its network cannot be read (": lambda h, t: h["spec"].update(depth=3),
    "damaged: its arrays do not fit its network": lambda h, t: t.pop(next(iter(t))),
}


@pytest.mark.parametrize("said", CHANGES)
def test_other_versions_and_damage(said, params, tmp_path):
    path = tmp_path / "x.inr"
    save_images(path, params)
    edited(path, CHANGES[said])
    with pytest.raises(UserError) as caught:
        open_image(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_foreign_files(params, tmp_path):
    path = tmp_path / "x.inr"
    with pytest.raises(UserError, match=r"x.inr cannot be opened: no such file"):
        open_image(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(UserError, match=r"x.inr is no .inr file, or damaged"):
        open_image(path)
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(UserError, match="a safetensors file, but no .inr file"):
        open_image(path)
    save_images(path, params)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="no .inr file, or damaged"):
        open_images(path)
    save_images(path, params)
    for index in (3, -1):
        with pytest.raises(UserError, match=f"no image {index}: it holds 0 to 2"):
            open_image(path, index)
    with pytest.raises(UserError, match="hold float32 or bfloat16 numbers"):
        save_images(path, params, "float16")
