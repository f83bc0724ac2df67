"""What other files are called, and what hostile, endless and damaged ones cannot do."""

import gzip
import io
import os
import resource
import zipfile

import numpy as np
import pytest
from helpers import released
from helpers.environment import GOLDEN
from helpers.models import tiny_model
from helpers.released import Call, Global, New, dump

import inr_gan_jax
from inr_gan_jax.convert.workdir import write_workdir
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import kinds, unpickle
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.tensors import Tensor

FORMATS = GOLDEN / "formats"
PICKLES = sorted(path.name for path in FORMATS.glob("*.pkl"))
STATES = sorted(path.name for path in FORMATS.glob("*.pt"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


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
    "third-party PyTorch port: ": dump({"args": New(Global("argparse", "Namespace"), {"lr": 1}),
                                        "g_ema": port}),
    "a NumPy archive": zipped({"a.npy": b""}),
    "a text file": b"hello world, access denied",
    "more than one data.pkl": zipped({"x/data.pkl": b"", "y/data.pkl": b""}),
    "compressed by zstd": b"\x28\xb5\x2f\xfd\0",
    "a TorchScript archive": zipped({"x/code/a.py": b"", "x/data.pkl": b""}),
    "a safetensors file, arrays": (2).to_bytes(8, "little") + b"{}" + bytes(8),
    "a web page": b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Quota exceeded</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "compressed by gzip": gzip.compress(b"x"),
    "is empty": b"",
    "a zip archive, no checkpoint": zipped({"a.txt": b"a"}),
    "no checkpoint, but a list": dump([1]),
    "no whole PyTorch checkpoint": (FORMATS / "released-cips.pkl").read_bytes()[:-1000],
}  # fmt: skip


def test_functions_are_no_generator(tmp_path):
    tiny_model().image(seed=0).save(tmp_path / "one.inr")
    with pytest.raises(UserError, match=r"one.inr holds functions.*render --image=FILE"):
        inr_gan_jax.load(tmp_path / "one.inr")


@pytest.mark.parametrize("words", OTHERS)
def test_other_files_are_named(words, tmp_path, cache):
    path = tmp_path / "network.pkl"
    path.write_bytes(OTHERS[words])
    for open_it in (open_published, lambda p: inr_gan_jax.load(p, cache_dir=cache)):
        with pytest.raises(UserError) as caught:
            open_it(path)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def nested(depth: int) -> list:
    value = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


LARGE = {  # small files -> what is said of them, soon, in little memory
    "endless": named("Generator", z_dim=nested(60)),
    "num_layers = 1000000 is more than 100": named(
        "Generator", mapping_kwargs={"num_layers": 10**6}, **dict.fromkeys(
            ("img_resolution", "img_channels", "z_dim", "w_dim"), 16)),
    "synthesis_kwargs.foo = 'AAA": named("Generator", foo="A" * 3_000_000),
    "a tensor's size is none": dump([Call(Global("torch", "Size"), ([None] * 300_000,))]),
    "more storages than it has bytes": dump(
        (lambda text: [Call(Global("_codecs", "encode"), (text, "latin1")) for _ in range(99)])(
            "é" * 200_000)),
    "bad?[31mkey": named("Generator", **{"bad\x1b[31mkey": 5}),
}  # fmt: skip


@pytest.mark.parametrize("words", LARGE)
def test_small_files_stay_small(words, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(LARGE[words])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        open_published(path)
    assert words in str(caught.value) and str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_what_is_no_ordinary_file_and_what_shrinks(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(UserError, match="no ordinary file"):
        open_published(tmp_path / "pipe.pkl")
    (tmp_path / "x.pkl").write_bytes(bytes(100))
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(UserError, match="x.pkl cannot be read: it ends before"):
        open_published(tmp_path / "x.pkl")


def test_what_is_not_used_is_told_and_numbers_are_finite(tmp_path):
    with unpickle.opened(FORMATS / "cips-skip.pt") as content:
        arrays = {name: np.asarray(value) for name, value in content.items()}
    path = tmp_path / "cips.pkl"

    def opened(**changes):
        states = {name: released.tensor(value) for name, value in (arrays | changes).items()}
        path.write_bytes(dump({"g": states, "g_ema": states}))
        return open_published(path)

    assert any("g and d are there one without the other" in note for note in opened().notes)
    weight = arrays["style.1.weight"]
    for bad in (np.full_like(weight, np.nan), np.full(weight.shape, 1e300)):
        with pytest.raises(UserError, match=r"checkpoint of CIPS, but an array holds .*NaN"):
            opened(**{"style.1.weight": bad})
    with pytest.raises(UserError, match="array foo.kernel that CIPS has not"):
        opened(**{"foo.kernel": np.zeros((4, 4), np.float32)})


def test_what_a_cleaner_left_of_the_cache_is_made_again(tmp_path):
    name = FORMATS / "stylegan2-ada-gray.pkl"
    first = inr_gan_jax.load(name, cache_dir=tmp_path).latents([0])
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.unlink()
    np.testing.assert_array_equal(inr_gan_jax.load(name, cache_dir=tmp_path).latents([0]), first)
    assert manifest.exists() and not list(tmp_path.rglob("*.lock"))


def test_a_conversion_that_fails_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    name, dest = FORMATS / "stylegan2-ada-gray.pkl", tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("inr_gan_jax.foreign.checkpoint.save", fail)
        with pytest.raises(KeyboardInterrupt):
            write_workdir(open_published(name), dest)
    write_workdir(open_published(name), dest)
    assert inr_gan_jax.load(dest).images_seen == 0


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


@pytest.mark.parametrize("name", [*PICKLES, *STATES])
def test_damage_is_an_error_or_changes_no_shape(name, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    damaged(name, 10, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PICKLES, *STATES])
def test_damage_anywhere(name, tmp_path):
    damaged(name, 100, tmp_path)
