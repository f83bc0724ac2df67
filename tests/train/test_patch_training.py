"""Training by patches: what G and D see, and a run of it through the command line."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.models import mild_model
from helpers.runs import assert_same_run, cut_back
from helpers.training import assert_close, gradients_of, settled, tiny, trainer_of
from PIL import Image

from inr_gan_jax import config as configs
from inr_gan_jax.cli.config import opened
from inr_gan_jax.errors import UserError
from inr_gan_jax.models import inr
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.storage.checkpoint import FOLDER
from inr_gan_jax.train import loop
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.workdir import RUN_FILE

SIZES = (8, 12, 16, 20, 24, 28, 32)


def by_patches(**train):
    """8x8 patches of images up to 32; nodes at 4x4."""
    config = tiny(mixing_prob=0.0, classes=0, **{"path_weight": 0.0, "r1_interval": 0} | train)
    fine = dataclasses.replace(config.model.embedding_fine, finest=32)
    model = dataclasses.replace(
        config.model, family="inr_gan_any", upsampling="continuous", embedding_fine=fine
    )
    patches = dataclasses.replace(config.patches, largest=32, consistency=2.0)
    return dataclasses.replace(config, model=model, patches=patches)


def windowed() -> dict:
    rng = np.random.default_rng(0)
    sizes = rng.choice(SIZES, 16)
    corners = [[rng.integers(s - 7), rng.integers(s - 7)] for s in sizes]
    windows = np.concatenate([sizes[:, None], corners], axis=1).astype(np.int32)
    return {"image": rng.integers(0, 256, (16, 8, 8, 1), np.uint8),
            "label": np.zeros(16, np.int32), "window": windows}  # fmt: skip


@pytest.fixture
def batch(monkeypatch):
    monkeypatch.setattr("helpers.training.real_batch", windowed)
    return windowed()


def test_a_patch_is_a_view():
    """Of the image at its size; the whole one is the grid, and `coarser` the view at half of it."""
    trainer = trainer_of(by_patches())
    state = settled(trainer)
    generator = trainer.networks.generator(state.g, state.g_buffers)
    ws = jax.random.normal(jax.random.key(3), (1, generator.num_styles, 8))
    ws = jnp.repeat(ws, 3, axis=0)
    windows = jnp.asarray([[8, 0, 0], [32, 5, 20], [12, 4, 1]], jnp.int32)
    patches = jax.jit(generator.patches)(ws, windows)
    params = jax.jit(generator.inr_params)(ws)
    image = ContinuousImage(params[0])
    np.testing.assert_allclose(patches[0], inr.grid_one(params[0]), atol=1e-5)
    np.testing.assert_allclose(patches[1], image.render(32, 32)[5:13, 20:28], atol=2e-5)
    np.testing.assert_allclose(patches[2], image.render(12, 12)[4:12, 1:9], atol=2e-5)
    one_by_one = jax.jit(functools.partial(generator.patches, remat=True))(ws, windows)
    np.testing.assert_allclose(one_by_one, patches, atol=1e-5)
    halves = jax.jit(functools.partial(generator.patches, coarser=2))
    even = halves(ws, jnp.asarray([[12, 4, 2]] * 3, jnp.int32))
    np.testing.assert_allclose(even[0], image.render(6, 6)[2:6, 1:5], atol=2e-5)


@pytest.mark.parametrize("family", ["cips_skip", "cips_res"])
def test_a_patch_of_cips_is_a_view(family):
    """Its images lie from end to end of the frame, at every size; noise is each patch's own."""
    model = mild_model(family, size=8)
    generator = model.networks.generator(*model.arrays)
    ws = jnp.asarray(model.styles(seeds=[3, 3, 3]))
    windows = jnp.asarray([[8, 0, 0], [32, 5, 20], [12, 4, 1]], jnp.int32)
    patches, image = generator.patches(ws, windows), model.image(seed=3)
    for patch, (size, top, left) in zip(patches, windows.tolist(), strict=True):
        whole = image.render(size, size)
        np.testing.assert_allclose(patch, whole[top : top + 8, left : left + 8], atol=1e-5)
    even = generator.patches(ws, jnp.asarray([[16, 4, 2]] * 3, jnp.int32), coarser=2)
    middle = np.linspace(-1, 1, 16)
    x, y = (middle[2:10:2] + middle[3:10:2]) / 2, (middle[4:12:2] + middle[5:12:2]) / 2
    points = np.stack(np.meshgrid(x, -y), -1).reshape(-1, 2)
    np.testing.assert_allclose(even[0].reshape(16, -1), image.points(points), atol=1e-5)
    if model.config.model.has_noise:
        keys = jax.random.split(jax.random.key(0), 3)
        noisy = generator.patches(ws, windows, noise_keys=keys)
        assert noisy.shape == patches.shape


def test_gradients_by_their_formulas(batch):
    """Fake images have the windows of real ones; the consistency term is of G alone."""
    trainer = trainer_of(by_patches(r1_gamma=0.0))
    state = settled(trainer)

    def fakes(g, phase, coarser=1):
        key = jax.random.split(trainer.steps.inputs.key(state, phase), 4)[0]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(16))
        z = jax.vmap(lambda key: jax.random.normal(key, (8,)))(keys)
        generator = trainer.networks.generator(g, state.g_buffers)
        w = generator.mapping(z, None)
        ws = jnp.repeat(w[:, None], generator.num_styles, 1)
        return generator.patches(ws, jnp.asarray(batch["window"]), coarser=coarser)

    def judge(d, x):
        return trainer.networks.discriminator(d)(x)

    def g_main(g):
        patch, half = fakes(g, Phase.G_MAIN), fakes(g, Phase.G_MAIN, coarser=2)
        mean = patch.reshape(16, 4, 2, 4, 2, 1).mean((2, 4))
        value = jnp.mean(jax.nn.softplus(-judge(state.d, patch)))
        return value + 2 * jnp.mean(jnp.square(half - mean))

    def d_main(d):
        real = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
        value = jnp.mean(jax.nn.softplus(judge(d, fakes(state.g, Phase.D_MAIN))))
        return value + jnp.mean(jax.nn.softplus(-judge(d, real)))

    for phase, loss, params in (
        (Phase.G_MAIN, g_main, state.g),
        (Phase.D_MAIN, d_main, state.d),
    ):
        got, metrics = gradients_of(trainer, state, phase)
        assert_close(got, jax.jit(jax.grad(loss))(params), 3e-4)
        assert ("consistency" in metrics) == (phase == Phase.G_MAIN)


@pytest.mark.slow
def test_halves_and_devices(batch):
    """Of all phases, with everything on."""
    everything = {"path_weight": 2.0, "loss": "relativistic", "r2_gamma": 0.3, "r1_gamma": 0.5}
    config = by_patches(**everything)
    augment = dataclasses.replace(config.augment, mode="fixed", p=0.8)
    config = dataclasses.replace(config, augment=augment)
    state = settled(trainer_of(config)).replace(ada_p=jnp.asarray(0.8))
    train = dataclasses.replace(config.train, microbatches=2, remat=True)
    other = dataclasses.replace(config, train=train)
    for phase in (Phase.G_MAIN, Phase.G_PATH, Phase.D_MAIN):
        expected, _ = gradients_of(trainer_of(config), state, phase)
        got, _ = gradients_of(trainer_of(other, 2, fsdp=2), state, phase)
        assert_close(got, expected, 3e-4)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (width, height) in enumerate([(12, 9), (40, 30), (26, 20), (32, 24), (8, 5), (21, 16)]):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / f"{i}.png")
    return folder


def draft_of(folder, kimg):
    draft = configs.base("inr_gan_any", height=8, width=8, z_dim=8, w_dim=8, channel_base=64,
                         channel_max=8, rank=2, extra_layers=0, mapping_layers=1,
                         input_resolution=4, fine_from=8)  # fmt: skip
    draft.model.aspect = "auto"
    draft.discriminator.channel_base, draft.discriminator.channel_max = 32, 8
    draft.data.source = str(folder)
    draft.patches.largest = 24
    draft.train.update(kimg=kimg, batch_size=8, dtype="float32")
    draft.log.metrics_kimg, draft.log.grid_kimg, draft.log.checkpoint_kimg = 0.0, 0.0, 0.016
    return draft


def test_a_run_keeps_its_aspect_and_goes_on_exactly(photos, tmp_path):
    """The median shape is found once: with other pictures there it stays what it was."""
    loop.train(*opened(draft_of(photos, 0.032), tmp_path / "once"), tmp_path / "once")
    twice = cut_back(tmp_path / "once", 2, tmp_path / "twice")
    loop.train(*opened(draft_of(photos, 0.032), twice), twice)
    assert_same_run(tmp_path / "once", twice)
    record = json.loads((tmp_path / "once" / RUN_FILE).read_text())
    model = record["config"]["model"]
    assert (model["aspect"], model["width"], model["height"]) == ("4:3", 8, 6)
    log = (tmp_path / "once" / "log.txt").read_text()
    told = "patches of 8x6 of pictures whose longer side is 12 to 40, at sizes from 8 to 24"
    assert f"{told}; left out: 1 smaller" in log and "(aspect 4:3)" in log
    for i in range(9):
        Image.new("RGB", (20, 40)).save(photos / f"tall{i}.png")
    draft = draft_of(photos, 0.04)
    with pytest.raises(UserError, match="the data .* are not the same"):
        loop.train(*opened(draft, tmp_path / "once"), tmp_path / "once")
    assert draft.model.aspect == "4:3"
    assert configs.parse(draft).model.height == 6
    of_checkpoint = draft_of(photos, 0.04)
    opened(of_checkpoint, next((tmp_path / "once" / FOLDER).iterdir()))
    assert of_checkpoint.model.aspect == "4:3"
    fresh = draft_of(photos, 0.04)
    opened(fresh, tmp_path / "new")
    assert fresh.model.aspect == "1:2"


def test_finest_waves_follow_the_largest_size():
    draft = configs.base("inr_gan_any")
    draft.data.source, draft.patches.largest = "photos", 1024
    config = configs.parse(draft)
    assert config.model.embedding_fine.finest == 1024
    again = configs.parse(configs.to_plain(config))
    assert again == config


@pytest.mark.parametrize(
    ("family", "keys", "message"),
    [
        ("inr_gan", {"patches.largest": 512}, "inr_gan knows its own size alone"),
        ("inr_gan_any", {"patches.largest": 128}, r"= 128 must be 256 \(the model's\) to 65536"),
        ("inr_gan_any", {"patches.consistency": 1.0}, "needs config.patches.largest"),
        ("inr_gan_any", {"patches.largest": 512, "patches.whole": 1.5}, r"must be in \[0, 1\]"),
        ("inr_gan_any", {"patches.largest": 512, "patches.scales": "lag"}, 'did you mean "log"'),
        ("inr_gan_any", {"patches.largest": 512, "train.jitter": True}, "lie anywhere as it is"),
        ("inr_gan_any", {"model.aspect": "3/2"}, "must be width:height"),
        ("inr_gan_any", {"model.aspect": "auto"}, "aspect=auto needs config.patches.largest"),
        ("inr_gan_any", {"model.aspect": "5:3"}, "one side in quarters of the other"),
        ("inr_gan_any", {"model.aspect": "-3:2"}, "must be width:height"),
        ("inr_gan_any", {"model.aspect": "4:1", "model.input_resolution": 4}, "leaves one node"),
        ("inr_gan_any", {"train.d_levels": True}, "has no levels of more than 4"),
        (
            "inr_gan",
            {"augment.mode": "ada", "augment.pipeline": "apa", "train.loss": "relativistic"},
            "apa needs config.train.loss=logistic",
        ),
    ],
)
def test_what_cannot_be(family, keys, message):
    draft = configs.base(family)
    draft.data.source = "photos"
    draft.update_from_flattened_dict(keys)
    with pytest.raises(UserError, match=message):
        configs.parse(draft)
