"""Every kind of published file: its golden through `load`, what is refused by name, damage."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import released
from helpers.commands import many
from helpers.environment import GOLDEN, environment
from helpers.golden import nhwc, relative
from helpers.released import dump
from PIL import Image

import inr_gan_jax
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import unpickle
from inr_gan_jax.foreign.checkpoint import kimg_of, save
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.settings import ada_fields, generator_fields
from inr_gan_jax.models.families import inr_gan, inr_spec
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.project.compare import differences, goal_of
from inr_gan_jax.project.target import Photo
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.storage.checkpoint import FOLDER, Checkpoints
from inr_gan_jax.train.trainer import Trainer
from inr_gan_jax.train.transfer import transfer

FORMATS = GOLDEN / "formats"
PICKLES = sorted(path.name for path in FORMATS.glob("*.pkl"))
STATES = sorted(path.name for path in FORMATS.glob("*.pt"))


def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(FORMATS / f"{name.split('.')[0]}-expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def loaded(name: str, cache) -> inr_gan_jax.Model:
    return inr_gan_jax.load(FORMATS / name, cache_dir=cache)


@pytest.mark.parametrize("name", PICKLES)
def test_seeds_give_the_published_images(name, cache):
    model, want = loaded(name, cache), expected(name)
    classes = want["c"].argmax(1) if model.num_classes else None
    np.testing.assert_array_equal(model.latents([0, 1, 2]), want["z"].astype(np.float32))
    images = model.images(seeds=[0, 1, 2], classes=classes)
    assert relative(images, nhwc(want["image_ema"])) < 1e-4
    truncated = model.images(seeds=[0, 1, 2], classes=classes, truncation=0.6)
    assert relative(truncated, nhwc(want["image_ema_trunc06"])) < 1e-4


def test_goldens_through_the_command_line(cache, tmp_path):
    for name in PICKLES:
        want, folder = expected(name), tmp_path / name
        line = f"--checkpoint={FORMATS / name} --cache_dir={cache} --format=npy --outdir={folder}"
        if want["c"].size:  # one class at a time
            line += f" --class_index={want['c'][0].argmax()}"
        (done,) = many("generate", [f"{line} --seeds=0-2"], tmp_path)
        assert done.code == 0, done.err
        images = np.load(folder / "images.npy")
        count = 1 if want["c"].size else 3
        assert relative(images[:count], nhwc(want["image_ema"])[:count]) < 1e-4
    line = f"--checkpoint={FORMATS / 'cips-res.pt'} --cache_dir={cache} --seeds=1 --outdir=out"
    noisy, bad = many("generate", [f"{line} --noise_seed=1", f"{line} --noise_seed=1 --size=9x9"],
                      tmp_path)  # fmt: skip
    assert noisy.code == 0 and (tmp_path / "out" / "seed0001.png").exists()
    assert bad.code == 2 and "on their own grid" in bad.err


def test_convert_ends_with_a_picture_and_what_was_found(tmp_path):
    source = tmp_path / "network-snapshot-000025.pkl"
    source.write_bytes((FORMATS / "stylegan2-ada-cond.pkl").read_bytes())
    lines = [f"--source={source} --dest=run", f"--source={FORMATS / 'cips-skip.pt'} --dest=cips",
             f"--source={FORMATS / 'cips-skip.pt'} --dest=x.safetensors"]  # fmt: skip
    ada, cips, exported = many("convert", lines, tmp_path)
    assert (ada.code, cips.code, exported.code) == (0, 0, 0), (ada, cips, exported)
    assert ada.out.startswith("StyleGAN2-ADA: stylegan2 32x32, 3 classes, generator ")
    assert "drawn evenly" in ada.out and "counted from 25 kimg" in ada.out
    assert "the average alone" in cips.out and "estimated" in cips.out
    for folder in ("run", "cips"):
        with Image.open(tmp_path / folder / "preview.png") as picture:
            assert picture.size == (4 * 33 + 1, 2 * 33 + 1)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["draws"] == "numpy"


@pytest.mark.parametrize("name", PICKLES)
def test_all_three_networks(name):
    published, want = open_published(FORMATS / name), expected(name)
    assert published.draws == "numpy" and published.g is not None
    config = published.config
    networks = networks_of(config.model, config.discriminator)
    z, c = jnp.asarray(want["z"], jnp.float32), None
    if config.model.num_classes:
        c = jnp.asarray(want["c"], jnp.float32)

    @jax.jit
    def of_g(g, buffers):
        generator = networks.generator(g, buffers)
        ws = jnp.repeat(generator.mapping(z, c)[:, None], generator.num_styles, axis=1)
        return generator.image(ws)

    assert relative(of_g(published.g, published.buffers), nhwc(want["image_g"])) < 1e-4
    logits = jax.jit(lambda d, x: networks.discriminator(d)(x, c))
    images = jnp.asarray(nhwc(want["image_ema"]))
    found = logits(published.d, images)  # a batch of 3 is a group of 3, and of 4 at most
    assert relative(found, want["logits_of_image_ema"].ravel()) < 1e-4


@pytest.mark.parametrize("name", STATES)
def test_cips_on_every_path(name, cache, tmp_path):
    model, want = loaded(name, cache), expected(name)
    z = want["z"].astype(np.float32)
    native = nhwc(want["image32" if "image32" in want else "image32_ema"])
    assert relative(model.images(z), native) < 1e-4
    image = model.image(latent=z[0])
    assert relative(image.render(), native[0]) < 1e-4
    image.save(tmp_path / "x.inr")
    opened = inr_gan_jax.open_image(tmp_path / "x.inr")
    np.testing.assert_array_equal(opened.render(), image.render())
    for side in (17, 64):
        if f"image{side}" not in want:
            continue
        there = nhwc(want[f"image{side}"])[0]
        whole = image.render(side, side)
        assert relative(whole, there) < 1e-4
        y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
        points = np.stack([x.ravel(), -y.ravel()], axis=-1)
        assert relative(np.asarray(image.points(points)).reshape(there.shape), there) < 1e-4
        for top, left, pixels in image.tiles(side, side, 9):
            tile = whole[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            np.testing.assert_allclose(pixels, tile, atol=1e-5 * np.ptp(there))
        ends = 2 * np.array([4, 3, 10, 9]) / (side - 1) - 1  # columns 4 to 10, rows 3 to 9
        part = image.render(7, 7, window=tuple(ends.tolist()))
        below = whole[side - 10 : side - 3, 4:11]
        np.testing.assert_allclose(part, below, atol=1e-4 * np.ptp(there))
    averaged = image.render(5, 5, samples=9)
    assert averaged.shape == (5, 5, 3) and np.abs(averaged - image.render(5, 5)).max() > 0
    with pytest.raises(ValueError, match="continuous everywhere"):
        image.render(superres_from=1)


@pytest.mark.parametrize("name", STATES[:2])
def test_cips_as_trained_takes_its_table_as_it_lies(name, cache):
    """The difference is seen, and is the one that its own code makes."""
    model, want = loaded(name, cache), expected(name)
    ws = model.styles(want["z"].astype(np.float32))
    generator = model.networks.generator(*model.arrays)
    trained = generator.image(ws, training=True)
    assert relative(trained, nhwc(want["image32_as_trained"])) < 1e-4
    assert relative(trained, nhwc(want["image32"])) > 1e-2
    keys = jax.random.split(jax.random.key(0), len(ws))
    noisy = [generator.image(ws, noise_keys=k) for k in (keys, keys, keys[::-1])]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).max() > 1e-3 < np.abs(noisy[0] - model.images(ws=ws)).max()
    around = model.with_arrays(*model.arrays, jnp.asarray(want["w"].mean(0)))
    truncated = around.images(want["z"].astype(np.float32), truncation=0.6)
    assert relative(truncated, nhwc(want["image32_trunc06_around_mean_of_these_w"])) < 1e-4


@pytest.mark.parametrize("name", STATES[:2])
def test_a_photo_that_cips_makes_is_at_no_distance_from_it(name, cache):
    """Grids from end to end on both sides: as large as native, larger, and a part."""
    model = loaded(name, cache)
    image, spec = model.image(seed=3), model.networks.spec
    for side, window in ((32, (-1, -1, 1, 1)), (64, (-1, -1, 1, 1)), (20, (-0.5, -0.5, 0.5, 0.25))):
        pixels = image.render(side, side, window=window)
        goal = goal_of(Photo(pixels, np.ones((side, side), bool), window), spec)
        _, finest, _ = differences(image.params, goal, jax.random.key(0))
        assert finest < 1e-9
        _, other, _ = differences(model.image(seed=4).params, goal, jax.random.key(0))
        assert other > 1e-3


def test_cips_discriminator():
    published, want = open_published(FORMATS / "cips-training.pt"), expected("cips-training")
    config = published.config
    discriminator = networks_of(config.model, config.discriminator).discriminator(published.d)
    logits = discriminator(jnp.asarray(nhwc(want["d_input"])))
    assert relative(logits, want["d_logits"].ravel()) < 1e-4
    assert published.draws == "" and "estimated" in published.notes[0]


def test_training_goes_on_from_networks_and_starts_from_an_average(tmp_path):
    """Networks are taken, optimisers are fresh; an average alone is refused, and transferred."""
    published = open_published(FORMATS / "cips-training.pt")
    save(published, tmp_path, images=3000)
    trainer = Trainer(published.config, (), dtype="float32", mesh=make_mesh(jax.devices()[:1]))
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        state, metadata, step = trainer.restored(checkpoints)
    assert (metadata["images"], step, int(state.images)) == (3000, 0, 3000)
    for name in ("g", "g_ema", "d"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(published, name))
    moments = jax.tree.leaves((state.g_optimizer, state.d_optimizer))
    assert len(moments) > 4 and not any(np.abs(m).max() for m in moments)
    average = tmp_path / "average"
    save(dataclasses.replace(published, g=None, d=None), average)
    with (
        Checkpoints(average / FOLDER, read_only=True) as checkpoints,
        pytest.raises(UserError, match="G and D are missing.*--config.train.init_from"),
    ):
        trainer.restored(checkpoints)
    moved, lines = transfer(trainer.init(0), average, trainer.mesh)
    jax.tree.map(np.testing.assert_array_equal, moved.g, published.g_ema)
    assert any("none there, it starts fresh" in line for line in lines)
    assert inr_gan_jax.load(average).images(seeds=[0]).shape == (1, 32, 32, 3)


def test_files_with_the_average_alone(tmp_path, cache):
    g = released.generator_arguments("inr_gan")
    arrays = released.part(released.load("generator_inr_gan"), "param/")
    network = released.network("Generator", arrays, g)
    whole, alone = tmp_path / "whole.pkl", tmp_path / "alone.pkl"
    whole.write_bytes(released.golden_checkpoint("inr_gan", "resnet"))
    alone.write_bytes(dump({"G": None, "D": None, "G_ema": network}))
    published, complete = open_published(alone), open_published(whole)
    assert published.g is None and published.d is None and complete.d is not None
    made = [inr_gan_jax.load(p, cache_dir=cache).images(seeds=[0]) for p in (whole, alone)]
    np.testing.assert_array_equal(*made)


def test_both_layouts_of_stylegan2_ada():
    with unpickle.opened(FORMATS / "stylegan2-ada-cond.pkl") as content:
        nested = content["G_ema"].state["_init_kwargs"]
    flat = {k: v for k, v in nested.items() if k != "synthesis_kwargs"}
    flat |= nested["synthesis_kwargs"] | {"fused_modconv_default": "inference_only"}
    assert ada_fields(flat) == ada_fields(nested)
    spelled = {"architecture": "skip", "resample_filter": [1, 3, 3, 1], "use_noise": True,
               "activation": "lrelu"}  # fmt: skip
    nested = nested | {"synthesis_kwargs": nested["synthesis_kwargs"] | spelled}
    assert ada_fields(flat) == ada_fields(nested)
    with pytest.raises(UserError, match="use_noise = False|architecture = 'resnet'"):
        ada_fields(flat | {"architecture": "resnet"})


def changed_cfg(change) -> dict:
    with unpickle.opened(FORMATS / "released-inr-gan.pkl") as content:
        arguments = json.loads(json.dumps(content["G_ema"].state["_init_kwargs"]))
    change(arguments["cfg"])
    return arguments


def resolved(cfg: dict) -> None:
    """As some files hold it: references replaced by copies, unused sections included."""
    coords = cfg["coords"]
    for key, value in coords["res_configs"].items():
        coords["res_configs"][key] = dict(coords[value.strip("${}").split(".")[1]])
    cfg["input"]["coord_fuser_cfg"] = json.loads(json.dumps(coords))


def test_configurations_before_and_after_interpolation():
    plain = generator_fields(changed_cfg(lambda cfg: None))
    assert generator_fields(changed_cfg(resolved)) == plain
    unused = changed_cfg(lambda cfg: cfg["coords"].update(high_res_cfg="${nowhere.at.all}"))
    assert generator_fields(unused) == plain
    for counts in ({}, None):
        fields = generator_fields(changed_cfg(lambda cfg, c=counts: cfg.update(num_extra_convs=c)))
        assert fields[1]["extra_layers"] == 0
    counts = {"16": 1, "32": 3}  # of their own at each resolution
    _, fields, _, _ = generator_fields(changed_cfg(lambda cfg: cfg.update(num_extra_convs=counts)))
    layers = [len(block.layers) for block in inr_spec(inr_gan(**fields)).blocks]
    assert layers == [1, 2, 3, 5]


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("low_res_cfg", "${coords.low_res_cfg}", "leads back to itself"),
        ("low_res_cfg", "${coords.other}", "is not there (no 'other')"),
        ("res_configs", {"8": 7}, "no section"),
        ("fallback", True, "cfg.coords.fallback = True cannot be expressed"),
    ],
)
def test_references_that_lead_nowhere(key, value, words):
    with pytest.raises(UserError) as caught:
        generator_fields(changed_cfg(lambda cfg: cfg["coords"].update({key: value})))
    assert words in str(caught.value)


def test_a_cached_file_is_converted_once(tmp_path, capfd):
    path = tmp_path / "network-snapshot-000012.pkl"
    path.write_bytes((FORMATS / "stylegan2-ada-gray.pkl").read_bytes())
    model = inr_gan_jax.load(path, cache_dir=tmp_path / "cache")
    assert model.images_seen == 12_000
    said = capfd.readouterr().err
    assert said.count("converting") == 1 and "clamped" in said
    path.rename(tmp_path / "other.pkl")
    again = inr_gan_jax.load(tmp_path / "other.pkl", cache_dir=tmp_path / "cache")
    assert "converting" not in capfd.readouterr().err
    np.testing.assert_array_equal(again.w_avg, model.w_avg)
    assert [p.suffix for p in (tmp_path / "cache" / "published" / "v1").iterdir()] == [""]


def test_a_cache_that_cannot_be_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give --cache_dir=DIR"):
        inr_gan_jax.load(FORMATS / "cips-res.pt", cache_dir=tmp_path / "file" / "x")
    with pytest.raises(UserError, match="must be on a local disk"):
        inr_gan_jax.load(FORMATS / "cips-res.pt", cache_dir="gs://bucket/x")


def test_what_a_name_tells():
    assert kimg_of("network-snapshot-012000.pkl") == 12_000
    assert kimg_of("ffhq256_g_ema.pt") == 0


LADEN = """
import resource, sys
from inr_gan_jax.foreign.checkpoint import save
from inr_gan_jax.foreign.kinds import open_published
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save(open_published(sys.argv[1]), sys.argv[2] + "/small")
before = peak()
save(open_published(sys.argv[3]), sys.argv[2] + "/laden")
print(peak() - before)
"""


def test_caches_in_a_file_are_passed_over_unread(tmp_path):
    """The same networks with 160 MB of caches take no more memory."""
    g, d = released.generator_arguments("inr_gan"), released.discriminator_arguments("resnet")
    arrays = released.part(released.load("generator_inr_gan"), "param/")
    d_arrays = released.part(released.load("discriminator_resnet"), "param/")
    network = released.network("Generator", arrays, g)
    laden = released.network("Generator", arrays, g)
    state = laden.args[0]["state"]
    state["_full_cache"] = {"x": released.tensor(np.ones(20_000_000, np.float32))}
    state["_fourier_embs_cache"] = released.tensor(np.ones(20_000_000, np.float32))
    critic = released.network("Discriminator", d_arrays, d)
    for name, g_ema in (("small", network), ("laden", laden)):
        parts = {"G": network, "D": critic, "G_ema": g_ema}
        (tmp_path / f"{name}.pkl").write_bytes(dump(parts))
    paths = (tmp_path / "small.pkl", tmp_path, tmp_path / "laden.pkl")
    done = subprocess.run(
        [sys.executable, "-c", LADEN, *map(str, paths)], env=environment(), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 60_000  # KiB
