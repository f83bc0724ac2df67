"""Released checkpoints of every family -> the images and logits of the published systems."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import released
from helpers.environment import GOLDEN
from helpers.golden import load, nhwc, relative

from inr_gan_jax.config import parse, to_plain
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.foreign.settings import generator_fields
from inr_gan_jax.model import Model
from inr_gan_jax.models import families

FAMILIES = {  # golden generator -> (family, a golden discriminator with as many classes)
    "inr_gan": ("inr_gan", "resnet"),
    "inr_gan_bil": ("inr_gan_bil", "skip"),
    "inr_gan_cond": ("inr_gan", "resnet_cond"),
    "inr_gan_fmm_sigmoid": ("inr_gan", "orig"),
    "inr_gan_fmm_tanh": ("inr_gan", "resnet"),
    "inr_gan_predicted_coords": ("inr_gan", "resnet"),
    "cips": ("cips", "resnet"),
    "stylegan2": ("stylegan2", "resnet"),
}


def model_of(published: Published) -> Model:
    return Model(
        published.config,
        published.g_ema,
        published.buffers,
        published.w_avg,
        class_counts=published.class_counts,
    )


def logits_of(published: Published, images, classes=None) -> jax.Array:
    """Logits in the published order: sample i belongs to group i mod (n / group)."""
    networks = model_of(published).networks
    group = published.config.discriminator.group
    order = np.arange(len(images)).reshape(group, -1).T.ravel()
    classes = None if classes is None else jnp.asarray(classes)[order]
    logits = jax.jit(lambda d, x: networks.discriminator(d)(x, classes))
    return logits(published.d, jnp.asarray(nhwc(images))[order])[np.argsort(order)]


def test_golden_snapshot():
    published = open_published(GOLDEN / "network-snapshot.pkl")
    expected = np.load(GOLDEN / "network-snapshot-expected.npz")
    model, z = model_of(published), expected["z"]
    assert relative(model.images(z), nhwc(expected["image_ema"])) < 1e-4
    assert relative(model.images(z, truncation=0.7), nhwc(expected["image_ema_trunc07"])) < 1e-4
    trained = model.with_arrays(published.g, published.g_buffers, published.w_avg)
    assert relative(trained.images(z), nhwc(expected["image_g"])) < 1e-4
    logits = logits_of(published, expected["d_input"])
    assert relative(logits, expected["d_logits"][:, 0]) < 1e-4
    assert published.config.data.source == "data.zip" and published.config.data.mirror
    assert len(published.notes) == 1 and "never trained" in published.notes[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(tmp_path, name):
    family, discriminator = FAMILIES[name]
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(released.golden_checkpoint(name, discriminator))
    published = open_published(path)
    assert published.config.model.family == family and not published.notes
    assert published.config.data.labels == (name == "inr_gan_cond")
    golden = load(f"generator_{name}")
    classes = golden["c"].argmax(-1) if "c" in golden else None
    model = model_of(published)
    ws = model.styles(golden["z"], classes=classes, truncation=0.7)
    assert relative(ws, golden["ws_trunc07"]) < 1e-4
    assert relative(model.images(ws=ws), nhwc(golden["image_trunc07"])) < 1e-4
    golden = load(f"discriminator_{discriminator}")
    logits = logits_of(published, golden["real"], golden.get("c"))
    assert relative(logits, golden["logits_real"][:, 0]) < 1e-4
    plain = to_plain(published.config)
    assert parse(plain, num_classes=len(published.class_counts)) == published.config


def released_256(family: str) -> dict:
    """Constructor arguments of the released 256x256 generators, from their documented table."""
    coarse = {
        "log_emb_size": 64,
        "const_emb_size": 128,
        "use_cosine": True,
        "use_diagonal": True,
    }
    fine = {"log_emb_size": 32, "random_emb_size": 32, "const_emb_size": 64, "use_cosine": True}
    entries = {"32": coarse, "64": coarse, "128": fine, "256": fine}
    start, extra = 32, {"128": 1, "256": 1}
    if family == "cips":
        entry = {"shared_emb_size": 256, "const_emb_size": 256, "init_dist": "rand"}
        start, extra, entries = 256, {}, {"256": {**entry, "fourier_scale": 3}}
    coords = {"enabled": True, "per_resolution": True, "res_configs": entries}
    cfg = {
        "upsampling_mode": "bilinear" if family == "inr_gan_bil" else "nearest",
        "use_noise": False,
        "num_extra_convs": extra,
        "input": {"type": "coords", "resolution": start, "coord_fuser_cfg": coords},
        "coords": coords,
        "fmm": {"enabled": family != "cips", "rank": 10, "activation": "demod"},
    }
    if family == "inr_gan_bil":
        cfg["fmm"]["instance_norm"] = True
    if family == "stylegan2":
        cfg |= {
            "upsampling_mode": None,
            "use_noise": True,
            "num_extra_convs": {},
            "input": {"type": "const", "resolution": 4},
            "coords": {**coords, "enabled": False},
            "fmm": {"enabled": False},
        }
    return {
        "z_dim": 512,
        "c_dim": 0,
        "w_dim": 512,
        "img_resolution": 256,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2},
        "synthesis_kwargs": {"conv_clamp": 256, "num_fp16_res": 4},
        "cfg": cfg,
    }


@pytest.mark.parametrize("family", ["inr_gan", "inr_gan_bil", "cips", "stylegan2"])
def test_released_configurations_are_our_builders(family):
    found, fields, classes, notes = generator_fields(released_256(family))
    assert found == family and classes == 0 and "clamped" in notes[0]
    assert families.FAMILIES[family](**fields) == families.FAMILIES[family]()
    # Without extra layers, as for churches, the rest stays.
    arguments = released_256(family)
    arguments["cfg"]["num_extra_convs"] = None
    _, fields, _, _ = generator_fields(arguments)
    plain = families.FAMILIES[family]()
    assert families.FAMILIES[family](**fields) == dataclasses.replace(plain, extra_layers=0)


def changed(arguments: dict, key: str, value) -> dict:
    """A copy of nested `arguments` with one dotted key replaced."""
    first, _, rest = key.partition(".")
    return {**arguments, first: changed(arguments[first], rest, value) if rest else value}


INEXPRESSIBLE = {
    "img_resolution": (96, "power of two"),
    "z_dim": ("many", "z_dim"),
    "mapping_kwargs.layer_features": (64, "layer_features"),
    "synthesis_kwargs.architecture": ("resnet", "architecture"),
    "something": (1, "something"),
    "cfg.upsampling_mode": ("bicubic", "bicubic"),
    "cfg.use_noise": (True, "use_noise"),
    "cfg.input.type": ("modulated", "modulated"),
    "cfg.input.resolution": (24, "input.resolution"),
    "cfg.coords.fallback": (True, "fallback"),
    "cfg.coords.res_configs.128": (None, "res_configs.128"),
    "cfg.coords.res_configs.64.log_emb_size": (63, "more than once"),
    "cfg.coords.res_configs.64.wavelets": (4, "wavelets"),
    "cfg.coords.res_configs.64.init_dist": ("cauchy", "cauchy"),
    "cfg.fmm.activation": ("relu", "relu"),
    "cfg.fmm.instance_norm": (True, "instance norm"),
    "cfg.fmm": ([], "fmm"),
}


@pytest.mark.parametrize("key", INEXPRESSIBLE)
def test_what_cannot_be_expressed_is_said(key):
    value, says = INEXPRESSIBLE[key]
    with pytest.raises(UserError, match=says):
        generator_fields(changed(released_256("inr_gan"), key, value))


def test_files_that_are_no_checkpoint(tmp_path):
    path = tmp_path / "x.pkl"
    g, d = "inr_gan", "resnet"
    arguments, d_arguments = released.generator_arguments(g), released.discriminator_arguments(d)
    arrays = released.part(load(f"generator_{g}"), "param/")
    d_arrays = released.part(load(f"discriminator_{d}"), "param/")
    no_array = {k: v for k, v in arrays.items() if k != "mapping.fc1.bias"}
    more = {**arrays, "synthesis.b8.conv7.weight": np.ones(3, np.float32)}
    wrong = {**arrays, "mapping.fc1.bias": np.ones(5, np.float32)}
    cases = {
        "no checkpoint, but a list": released.dump([1]),
        "no network 'G_ema'": released.dump({"D": 1}),
        "no array mapping.fc1.bias": released.checkpoint(
            arguments, d_arguments, no_array, d_arrays
        ),
        "has an array synthesis.b8.conv7": released.checkpoint(
            arguments, d_arguments, more, d_arrays
        ),
        "mapping.fc1.bias is": released.checkpoint(arguments, d_arguments, wrong, d_arrays),
        "differ in c_dim": released.golden_checkpoint(g, "resnet_cond"),
        "mbstd_num_channels": released.checkpoint(
            arguments,
            changed(d_arguments, "epilogue_kwargs.mbstd_num_channels", 2),
            arrays,
            d_arrays,
        ),
        "mbstd_group_size": released.checkpoint(
            arguments,
            changed(d_arguments, "epilogue_kwargs.mbstd_group_size", None),
            arrays,
            d_arrays,
        ),
        "constructor's arguments": released.dump(
            {
                name: released.network("N", {"a": np.ones(1, np.float32)})
                for name in ("G", "D", "G_ema")
            }
        ),
    }
    for says, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(UserError) as error:
            open_published(path)
        assert says in str(error.value) and "\n" not in str(error.value)
        assert str(error.value).startswith(str(path))
