"""Every kind of published file: its golden through `load`, what is refused by name, damage."""

import gzip
import io
import json
import resource
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import released
from helpers.environment import GOLDEN, environment
from helpers.golden import nhwc, relative
from helpers.released import Call, Global, New, dump

import inr_gan_jax
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import kinds, unpickle
from inr_gan_jax.foreign.checkpoint import kimg_of
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.settings import generator_fields
from inr_gan_jax.foreign.tensors import Tensor
from inr_gan_jax.models.networks import networks_of

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


def test_cips_discriminator():
    published, want = open_published(FORMATS / "cips-training.pt"), expected("cips-training")
    config = published.config
    discriminator = networks_of(config.model, config.discriminator).discriminator(published.d)
    logits = discriminator(jnp.asarray(nhwc(want["d_input"])))
    assert relative(logits, want["d_logits"].ravel()) < 1e-4
    assert published.draws == "" and "estimated" in published.notes[0]


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


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def named(name: str, **arguments) -> bytes:
    """A pickle of networks whose constructor had these arguments."""
    network = released.network(name, {"mapping.w_avg": np.zeros(4, np.float32)}, arguments)
    return dump({"G": network, "D": network, "G_ema": network})


port = {"convs.0.conv.weight": released.tensor(np.ones(2, np.float32)),
        "style.1.weight": released.tensor(np.ones(2, np.float32))}  # fmt: skip
other = {"layer1.weight": released.tensor(np.ones(2, np.float32))}
OTHERS = {
    "a StyleGAN3 checkpoint": named("Generator", z_dim=4, magnitude_ema_beta=0.999),
    "TensorFlow networks": dump(New(Global("dnnlib.tflib.network", "Network"), {"version": 4})),
    "third-party PyTorch port": dump({"g_ema": port, "g": port, "d": port}),
    "1 arrays of a network that is not known here (layer1.weight": dump(other),
    "a TorchScript archive": zipped({"x/code/a.py": b"", "x/data.pkl": b""}),
    "a safetensors file of another program": (2).to_bytes(8, "little") + b"{}" + bytes(8),
    "a web page": b"\n<!DOCTYPE html><html><body>Quota exceeded</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "compressed by gzip": gzip.compress(b"x"),
    "is empty": b"",
    "a zip archive, no checkpoint": zipped({"a.txt": b"a"}),
    "no checkpoint, but a list": dump([1]),
    "no whole PyTorch checkpoint": (FORMATS / "released-cips.pkl").read_bytes()[:-1000],
}  # fmt: skip


@pytest.mark.parametrize("words", OTHERS)
def test_other_files_are_named(words, tmp_path, cache):
    path = tmp_path / "network.pkl"
    path.write_bytes(OTHERS[words])
    for open_it in (open_published, lambda p: inr_gan_jax.load(p, cache_dir=cache)):
        with pytest.raises(UserError) as caught:
            open_it(path)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_hostile_pickles_in_every_container(tmp_path):
    evil = Call(Global("os", "system"), (f"touch {tmp_path}/owned",))
    weight = {"lff.ffm.conv.weight": evil}
    containers = {
        "a.pkl": dump({"G_ema": evil}),
        "b.pt": released.storage_bytes(np.ones(1, np.float32), weight),
        "c.pt": zipped({"x/data.pkl": dump(weight)}),
        "d.pkl": dump({"G_ema": released.load_from_bytes(dump(evil))}),
        "e.pt": zipped({"x/data.pkl": dump({"g_ema": {"a": {"b": evil}}})}),
    }
    for name, data in containers.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="asks for os.system"):
            open_published(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def arrays_of(content) -> dict[str, tuple]:
    """Shapes (and bytes) of all tensors in a file's content."""
    found, seen = {}, set()

    def look(value, path):
        if isinstance(value, (Tensor, np.ndarray)):
            array = np.asarray(value)
            found[path] = (array.shape, array.tobytes())
        elif isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            for key, child in value.items():
                look(child, f"{path}/{key}")
        elif hasattr(value, "state") and id(value) not in seen:
            seen.add(id(value))
            look(value.state, path)

    look(content, "")
    return found


def damaged(name: str, places: int, tmp_path) -> None:
    data = (FORMATS / name).read_bytes()
    whole, path = arrays_of(unpickle.read(FORMATS / name)), tmp_path / name
    rng = np.random.default_rng(len(data))
    zipped_file = data.startswith(b"PK")
    for kind in ("cut", "flip"):
        for at in rng.integers(0, len(data), places).tolist():
            bad = bytearray(data[:at] if kind == "cut" else data)
            if kind == "flip":
                bad[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            try:
                kinds.refuse_others(path)
                found = arrays_of(unpickle.read(path))
            except UserError as error:
                assert "\n" not in str(error)
                continue
            assert kind == "flip", at  # what is cut off is missed
            shapes = {name: shape for name, (shape, _) in whole.items()}
            for key, (shape, content) in found.items():
                assert shape == shapes.get(key, shape)
                if zipped_file and key in whole:
                    assert content == whole[key][1], (at, key)  # or the checksum had noticed


@pytest.mark.parametrize("name", [*PICKLES[:2], PICKLES[-1], *STATES])
def test_damage_is_an_error_or_changes_no_shape(name, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    damaged(name, 10, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PICKLES, *STATES])
def test_damage_anywhere(name, tmp_path):
    damaged(name, 100, tmp_path)


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
    assert [p.suffix for p in (tmp_path / "cache" / "published").iterdir()] == [""]


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
