"""Configurations: every file builds, every mistake is one line, published counts are met."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import pytest
from flax import nnx
from helpers.environment import ROOT
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from inr_gan_jax.config import base, identity, parse, to_plain
from inr_gan_jax.config.check import check_batch
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.discriminator import Discriminator
from inr_gan_jax.models.generator import Generator
from inr_gan_jax.models.networks import count_parameters, networks_of, split

CONFIGS = sorted((ROOT / "configs").glob("*.py"))
NAMES = ["any_scale", "any_scale_small", "cifar10", "digits", "fashion_mnist", "ffhq",
         "ffhq_1024", "ffhq_bil", "ffhq_cips", "ffhq_cips_skip", "ffhq_cips_skip_1024",
         "ffhq_stylegan2", "lsun_bedroom", "lsun_church", "small_data"]  # fmt: skip


def load(path: Path) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for word in ("Command:", "Data:", "Hardware:", "Published:"):
        assert word in module.__doc__
    return module.get_config()


def test_every_published_run_has_a_file():
    assert [path.stem for path in CONFIGS] == NAMES


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_builds_by_shape_alone(path):
    draft = load(path)
    config = parse(draft, num_classes=10 if draft.data.labels else 0)
    networks = networks_of(config.model, config.discriminator)
    g, buffers = jax.eval_shape(networks.init_generator, jax.random.key(0))
    d = jax.eval_shape(networks.init_discriminator, jax.random.key(0))

    def images_and_logits(g, buffers, d, z, classes):
        generator = networks.generator(g, buffers)
        w = generator.mapping(z, classes)
        ws = jax.numpy.repeat(w[:, None], generator.num_styles, axis=1)
        images = generator.image(ws)
        return images, networks.discriminator(d)(images, classes)

    n, model = config.discriminator.group, config.model
    z = jax.ShapeDtypeStruct((n, model.z_dim), "float32")
    classes = jax.ShapeDtypeStruct((n, 10), "float32") if model.num_classes else None
    images, logits = jax.eval_shape(images_and_logits, g, buffers, d, z, classes)
    assert images.shape == (n, model.height, model.width, model.channels)
    assert logits.shape == (n,)
    train = config.train
    check_batch(train.batch_size, train.microbatches, config.discriminator.group, devices=4)


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("ffhq", 72_436_573),
        ("ffhq_bil", 72_436_573),
        ("ffhq_cips", 24_387_477),
        ("ffhq_stylegan2", 28_458_402),
    ],
)
def test_published_parameter_counts(name, parameters):
    config = parse(load(CONFIGS[NAMES.index(name)]))
    generator = nnx.eval_shape(lambda: Generator(config.model, rngs=nnx.Rngs(0)))
    assert count_parameters(split(generator)[1]) == parameters
    discriminator = nnx.eval_shape(lambda: Discriminator(config.discriminator, rngs=nnx.Rngs(0)))
    assert count_parameters(split(discriminator)[1]) == 28_864_129


def test_published_embedding_sizes():
    model = parse(load(CONFIGS[NAMES.index("ffhq")])).model
    sizes = [model.embedding_coarse.features((r, r)) for r in (32, 64)]
    sizes += [model.embedding_fine.features((r, r)) for r in (128, 256)]
    assert sizes == [168, 176, 156, 160]


def small() -> ConfigDict:
    config = base("inr_gan")
    config.data.source = "digits"
    return config


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("train.batch_size", "32", "config.train.batch_size = '32' must be int"),
        ("train.g_lr", 0.0, "config.train.g_lr = 0.0 must be above 0"),
        ("train.g_lr", float("nan"), "config.train.g_lr = nan must be finite"),
        ("train.beta2", 1.0, r"config.train.beta2 = 1.0 must be in \[0, 1\)"),
        ("train.dtype", "bfloat", 'did you mean "bfloat16"'),
        ("train.r1_interval", -1, "must not be negative"),
        ("model.height", 100, "one of 64, 128, 192, 256"),
        ("model.width", 300, "the longer side must be a power of two"),
        ("model.channels", 2, "1, 3 or 4 channels, not 2"),
        ("model.modulation", "fmm", "not one of fmm_demod"),
        ("model.input_resolution", 48, "must be a power of two from 4 to 256"),
        ("model.channel_base", 128, "leaves no channels at 256"),
        ("model.embedding_coarse.log", 8, "set diagonal = False"),
        ("model.embedding_fine.distribution", "gauss", "not normal or uniform"),
        ("model.family", "cips", "start from the family's own file"),
        ("discriminator.architecture", "unet", "not one of resnet, skip, orig"),
        ("discriminator.group", 0, "discriminator.group must be 1 or more"),
        ("data.source", "", "config.data.source is empty"),
        ("seed", -1, "config.seed = -1"),
        ("log.keep", 0, "must be 1 or more"),
    ],
)
def test_bad_values_are_one_line_errors(key, value, message):
    config = small().unlock()
    with config.ignore_type():
        section = config
        *sections, name = key.split(".")
        for part in sections:
            section = section[part]
        section[name] = value
    with pytest.raises(UserError, match=message) as caught:
        parse(config)
    assert "\n" not in str(caught.value)


def test_unknown_keys_name_the_nearest():
    config = small().unlock()
    config.train.batch_sze = 3
    with pytest.raises(UserError, match='config.train.batch_sze; did you mean "batch_size"'):
        parse(config)
    with pytest.raises(UserError, match='did you mean "inr_gan"'):
        base("inrgan")
    with pytest.raises(UserError, match="follows from the rest"):
        parse({"model": {"num_classes": 3}})


def test_a_configuration_survives_json():
    import json

    for path in CONFIGS:
        config = parse(load(path))
        assert parse(json.loads(json.dumps(to_plain(config)))) == config


def test_identity_is_what_makes_a_run():
    config = parse(small())
    same = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, kimg=1, microbatches=2, dtype="float32"),
        log=dataclasses.replace(config.log, keep=9),
        data=dataclasses.replace(config.data, source="elsewhere.zip", threads=0),
    )
    assert identity(config, "h") == identity(same, "h")
    for other in (
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, train=dataclasses.replace(config.train, g_lr=0.1)),
        dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=8)),
        dataclasses.replace(config, model=dataclasses.replace(config.model, rank=3)),
        dataclasses.replace(config, data=dataclasses.replace(config.data, mirror=False)),
    ):
        assert identity(other, "h") != identity(config, "h")
    assert identity(config, "other data") != identity(config, "h")


@given(st.integers(1, 512), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))
def test_legal_batches(batch_size, microbatches, group, devices):
    """A legal batch gives each device whole groups and half batches; errors name legal ones."""
    per_device = batch_size / microbatches / devices
    legal = per_device % group == 0 and (per_device / 2) % 1 == 0
    try:
        check_batch(batch_size, microbatches, group, devices)
        assert legal
    except UserError as error:
        assert not legal
        for size in str(error).split("for instance ")[1].split(" or "):
            check_batch(int(size), microbatches, group, devices)
