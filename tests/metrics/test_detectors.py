"""Detectors agree with the published networks; their weights come whole or not at all."""

import functools
import hashlib
import http.server
import logging
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import reference
from helpers.golden import GOLDEN, load, nhwc, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import inception, vgg, weights
from inr_gan_jax.runtime import sharding

jit_inception = jax.jit(inception.features, static_argnames="names")
jit_vgg = jax.jit(vgg.features)
jit_lpips = jax.jit(vgg.lpips)
lpips_gradient = jax.jit(jax.grad(lambda x, y, network: vgg.lpips(network, x, y).sum()))


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The rule by which the tensors of the golden Inception network were drawn."""
    r = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("bn.weight", "running_var")):
        values = r.uniform(0.5, 1.5, shape)
    elif name.endswith("conv.weight"):
        values = r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        values = r.standard_normal(shape) * (0.02 if name == "fc.weight" else 0.1)
    return values.astype(np.float32)


@functools.cache
def inception_network() -> inception.Inception:
    extra = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.zeros((), np.int64)}
    drawn = {name: draw(name, shape) for name, shape in inception.tensors().items()}
    return inception.from_torch(drawn | extra)


@functools.cache
def narrow():
    """(VGG16, LPIPS, golden arrays) of the reference's narrow network."""
    arrays = reference.tensors()
    linear = {name: arrays.pop(name) for name in list(arrays) if name.startswith("lin")}
    convolutions = {k: v for k, v in arrays.items() if k.startswith("features")}
    return vgg.from_torch(arrays), vgg.lpips_from_torch(convolutions, linear), load("vgg_lpips")


def signed(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 127.5 - 1).astype(np.float32)


def pixels(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# Inception


@pytest.mark.parametrize("size", ["small", "mid", "big"])
def test_inception_features(size):
    golden = load("metrics")
    found = jit_inception(inception_network(), nhwc(golden[f"inception/{size}/image"]))
    assert tuple(sorted(found)) == tuple(sorted(inception.NAMES))
    for name, feature in found.items():
        assert feature.dtype == jnp.float32
        assert relative(feature, golden[f"inception/{size}/{name}"]) < 1e-5, name


def test_only_what_is_asked_for_is_computed():
    def convolutions(*names):
        lowered = jit_inception.lower(inception_network(), pixels((1, 9, 9, 3)), names)
        return lowered.as_text().count("stablehlo.convolution")

    assert convolutions("64") == 3
    assert convolutions("192") == 5
    assert convolutions("2048") == convolutions(*inception.NAMES) == 94


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    out=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
@settings(max_examples=8, deadline=None)
def test_resize_is_that_of_tensorflow_1(height, width, out):
    image = pixels((height, width, 2)).astype(np.float64)
    expected = np.empty((*out, 2))
    for i, j in np.ndindex(*out):
        y, x = i * height / out[0], j * width / out[1]
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        v, u = y - top, x - left
        expected[i, j] = (1 - v) * ((1 - u) * image[top, left] + u * image[top, right]) + v * (
            (1 - u) * image[bottom, left] + u * image[bottom, right]
        )
    found = jax.jit(inception.resize, static_argnums=(1, 2))(np.float32(image[None]), *out)
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_channels():
    grey = pixels((2, 5, 4, 1))
    np.testing.assert_array_equal(inception.rgb(grey), np.repeat(grey, 3, -1))
    rgba = pixels((2, 5, 4, 4))
    rgba[0, 0, 0, 3], rgba[0, 0, 1, 3] = 0, 255
    over = np.asarray(inception.rgb(rgba))
    np.testing.assert_array_equal(over[0, 0, 0], 255)
    np.testing.assert_array_equal(over[0, 0, 1], rgba[0, 0, 1, :3])
    alpha = rgba[..., 3:] / 255.0
    np.testing.assert_allclose(over, rgba[..., :3] * alpha + 255 * (1 - alpha), atol=1e-4)


@pytest.mark.parametrize("wrong", [np.zeros((1, 8, 8, 3), np.float32), pixels((1, 8, 8, 2))])
@pytest.mark.parametrize("network", [inception, vgg])
def test_images_that_are_none(wrong, network):
    with pytest.raises(ValueError, match=r"(float32 images of 3|uint8 images of 2) channels"):
        network.features(None, wrong)


# VGG16 and LPIPS


@pytest.mark.parametrize("image", ["up", "down"])
def test_vgg_features(image):
    network, _, golden = narrow()
    found = jit_vgg(network, golden[image])
    assert found.dtype == jnp.float32
    assert relative(found, golden[f"features_{image}"]) < 1e-5


def test_devices_need_not_exchange_anything():
    network, _, golden = narrow()
    mesh = sharding.make_mesh()
    whole, split = sharding.replicated(mesh), sharding.over_batch(mesh)
    function = jax.jit(vgg.features, in_shardings=(whole, split), out_shardings=split)
    compiled = function.lower(network, golden["up"]).compile()
    exchanges = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    assert not any(name in compiled.as_text() for name in exchanges)
    found = function(jax.device_put(network, whole), golden["up"])
    assert relative(found, golden["features_up"]) < 1e-5


def test_lpips_and_its_gradient():
    _, network, golden = narrow()
    x, y = signed(golden["x"]), signed(golden["y"])
    assert relative(jit_lpips(network, x, y), golden["distance"]) < 1e-5
    assert relative(lpips_gradient(x, y, network), golden["gradient"]) < 1e-4


def test_lpips_is_a_distance():
    _, network, golden = narrow()
    x, y = signed(golden["x"]), signed(golden["y"])
    there, back = jit_lpips(network, x, y), jit_lpips(network, y, x)
    assert (np.asarray(there) > 0.1).all()
    np.testing.assert_array_equal(there, back)
    np.testing.assert_array_equal(jit_lpips(network, x, x), [0, 0])


def test_lpips_has_a_gradient_where_no_channel_is_active():
    arrays = reference.tensors()
    arrays["features.28.bias"] = np.full_like(arrays["features.28.bias"], -1e3)
    network = vgg.lpips_from_torch(arrays, arrays)
    golden = load("vgg_lpips")
    x, y = signed(golden["x"]), signed(golden["y"])
    assert not np.asarray(jax.jit(network.trunk)(x)[-1]).any()
    gradient = np.asarray(lpips_gradient(x, y, network))
    assert np.isfinite(gradient).all() and gradient.any()


def test_lpips_needs_16_pixels():
    network = narrow()[1]
    with pytest.raises(UserError, match="16x16 pixels or more, not 15x40$"):
        vgg.lpips(network, jnp.zeros((1, 15, 40, 3)), jnp.zeros((1, 15, 40, 3)))


@pytest.mark.parametrize("detector", ["inception", "vgg16", "lpips"])
def test_float32_whatever_the_device_prefers(detector):
    network = inception_network() if detector == "inception" else narrow()[detector == "lpips"]
    function = {"inception": inception.features, "vgg16": vgg.features, "lpips": vgg.lpips}
    images = [signed(pixels((1, 16, 16, 3)))] * 2 if detector == "lpips" else [pixels((1, 9, 9, 3))]
    with jax.default_matmul_precision("bfloat16"):
        lowered = jax.jit(function[detector]).lower(network, *images).as_text()
    products = [line for line in lowered.splitlines() if "precision" in line]
    assert len(products) >= 13
    assert all("HIGHEST" in line and "DEFAULT" not in line for line in products)


@pytest.mark.reference
@pytest.mark.parametrize("name", ["features_up", "features_down", "distance", "gradient"])
def test_reference_made_the_golden_file(name):
    golden = load("vgg_lpips")
    images = reference.inputs()
    for key, image in images.items():
        np.testing.assert_array_equal(image, golden[key])
    assert relative(reference.outputs(reference.tensors(), images)[name], golden[name]) < 1e-5


# Weights


def test_weights_of_another_network():
    ones = {name: np.ones(shape, np.float32) for name, shape in inception.tensors().items()}
    with pytest.raises(UserError, match=r"fc.weight .*\(1000, 2048\), not \(1008, 2048\)"):
        inception.from_torch(ones | {"fc.weight": np.ones((1000, 2048), np.float32)})
    del ones["Mixed_7c.branch3x3_2b.bn.bias"]
    with pytest.raises(UserError, match="no tensor Mixed_7c.branch3x3_2b.bn.bias"):
        inception.from_torch(ones)
    arrays = reference.tensors()
    with pytest.raises(UserError, match="no tensor classifier.3.weight"):
        vgg.from_torch({k: v for k, v in arrays.items() if k != "classifier.3.weight"})
    with pytest.raises(UserError, match=r"features.5.weight .*\(\'any\', 8, 3, 3\)"):
        vgg.from_torch(arrays | {"features.5.weight": arrays["features.7.weight"]})
    alex = arrays | {"lin1.model.1.weight": np.ones((1, 192, 1, 1), np.float32)}
    with pytest.raises(UserError, match=r"lin1.model.1.weight .*not \(1, 12, 1, 1\)"):
        vgg.lpips_from_torch(arrays, alex)


def part(*starts: str) -> dict[str, np.ndarray]:
    return {k: v for k, v in reference.tensors().items() if k.startswith(starts)}


@pytest.fixture
def files(tmp_path):
    """A file for each of two networks, and one of something else."""
    save_file(part("features", "classifier"), tmp_path / "a.safetensors")
    save_file(part("lin"), tmp_path / "b.safetensors")
    save_file({"features.0.weight": np.ones(3, np.float32)}, tmp_path / "c.safetensors")
    return tmp_path


def test_given_files_are_known_by_what_they_hold(files):
    pair = [files / "a.safetensors", str(files / "b.safetensors")]
    for order in (pair, pair[::-1]):
        for network, name in (("vgg16", "a.safetensors"), ("lpips", "b.safetensors")):
            arrays, digest = weights.load(network, order)
            expected = part("lin") if network == "lpips" else part("features", "classifier")
            assert arrays.keys() == expected.keys()
            assert all((arrays[key] == expected[key]).all() for key in expected)
            assert digest == hashlib.sha256((files / name).read_bytes()).hexdigest()


def test_given_files_that_do_not_fit(files):
    (files / "torn.safetensors").write_bytes((files / "a.safetensors").read_bytes()[:-1])
    (files / "twice.safetensors").write_bytes((files / "b.safetensors").read_bytes())
    for names, message in (
        (["c"], r"c.safetensors holds none of inception, vgg16, lpips: .* features.0.weight"),
        (["a", "torn"], "torn.safetensors is no whole safetensors file"),
        (["nowhere"], "nowhere.safetensors cannot be read: No such file"),
        (["b", "a", "twice"], "b.safetensors and .*twice.safetensors both hold lpips"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            weights.load("lpips", [files / f"{name}.safetensors" for name in names])
        assert "\n" not in str(caught.value)


class Published:
    """A server that has one file, the lpips weights as far as `weights` knows."""

    BODY = (GOLDEN / "weights-zip.pth").read_bytes()

    def __init__(self, monkeypatch, cache):
        self.body, self.status, self.declared, self.requests = self.BODY, 200, len(self.BODY), 0
        self.before = lambda: None
        published = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                published.requests += 1
                published.before()
                self.send_response(published.status)
                self.send_header("Content-Length", str(published.declared))
                self.end_headers()
                self.wfile.write(published.body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}/there/lpips.pth"
        source = weights.Source(url, hashlib.sha256(self.BODY).hexdigest())
        monkeypatch.setitem(weights.SOURCES, "lpips", source)
        monkeypatch.setenv("INR_GAN_JAX_CACHE", str(cache))
        self.url, self.cache = url, cache / "detectors"
        self.file = self.cache / "lpips.pth"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def published(monkeypatch, tmp_path):
    server = Published(monkeypatch, tmp_path / "cache")
    yield server
    server.close()


def fails(published, reason: str) -> None:
    """Loading fails in one line that says what to do, and leaves nothing behind."""
    before = sorted(published.cache.glob("*"))
    with pytest.raises(UserError, match=reason) as caught:
        weights.load("lpips")
    message = str(caught.value)
    assert "\n" not in message
    assert published.url in message and str(published.file) in message
    assert "--detector_weights=FILE" in message
    assert sorted(published.cache.glob("*")) == before


def test_weights_are_fetched_once(published, monkeypatch, tmp_path):
    for _ in range(2):
        arrays, digest = weights.load("lpips")
        assert arrays["0.weight"].shape == (3, 2, 1, 1)
        assert digest == hashlib.sha256(published.BODY).hexdigest()
        assert published.requests == 1
    assert [path.name for path in published.cache.iterdir()] == ["lpips.pth"]
    assert published.file.read_bytes() == published.BODY
    weights.load("lpips", cache=tmp_path / "other")
    assert (tmp_path / "other" / "lpips.pth").exists()
    monkeypatch.delenv("INR_GAN_JAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    weights.load("lpips")
    assert (tmp_path / ".cache" / "inr_gan_jax" / "detectors" / "lpips.pth").exists()
    assert published.requests == 3


def test_a_given_file_is_taken_before_the_published_one(published, files, monkeypatch):
    weights.load("lpips", [files / "a.safetensors", files / "b.safetensors"])
    assert published.requests == 0
    arrays, _ = weights.load("lpips", [files / "a.safetensors"])  # which holds another network
    assert "0.weight" in arrays and published.requests == 1
    monkeypatch.setitem(weights._MARKS, "lpips", {"0.weight"})
    torch = published.file.rename(files / "mine.pt")
    arrays, digest = weights.load("lpips", [torch])
    assert "0.weight" in arrays and digest == hashlib.sha256(published.BODY).hexdigest()
    assert published.requests == 1


def test_downloads_that_go_wrong(published, monkeypatch):
    published.body = bytes(reversed(published.BODY))
    fails(published, f"{len(published.BODY)} bytes that came are not the published file")
    published.body = published.BODY[:1000]
    fails(published, "1000 bytes|IncompleteRead")
    published.body, published.status = published.BODY, 404
    fails(published, "404")
    monkeypatch.setattr(weights, "_TIMEOUT", 0.2)
    goes_on = threading.Event()
    published.before = lambda: goes_on.wait(20)
    fails(published, "timed out")
    goes_on.set()
    published.close()
    fails(published, "refused")
    published.cache.rmdir()
    published.cache.write_bytes(b"a file, where a folder should be")
    fails(published, "exists|directory")


def test_a_damaged_file_in_the_cache_is_fetched_again(published, caplog):
    published.cache.mkdir(parents=True)
    published.file.write_bytes(published.BODY[:-1])
    published.status = 500
    with caplog.at_level(logging.WARNING):
        fails(published, "500")
    assert f"{published.file} is damaged" in caplog.text
    published.status = 200
    weights.load("lpips")
    assert published.file.read_bytes() == published.BODY


def test_two_may_fetch_at_once(published):
    both = threading.Barrier(2, timeout=20)
    published.before = both.wait  # neither is served before both have asked
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(weights.load, ["lpips"] * 2))
    assert published.requests == 2
    assert loaded[0][1] == loaded[1][1] and loaded[0][0].keys() == loaded[1][0].keys()
    assert [path.name for path in published.cache.iterdir()] == ["lpips.pth"]
    assert published.file.read_bytes() == published.BODY


def test_published_names_carry_their_hash():
    for network in ("inception", "vgg16"):
        source = weights.SOURCES[network]
        assert source.name.endswith(f"-{source.sha256[:8]}.pth")
    for source in weights.SOURCES.values():
        assert source.url.startswith("https://") and len(bytes.fromhex(source.sha256)) == 32


@pytest.mark.parametrize(
    "shape", [(2, 20, 18, 1), (2, 512, 256, 3), (1, 769, 300, 3), (1, 16, 16, 4)]
)
def test_what_lpips_is_shown(shape):
    """Means of whole cells, grey as three equal channels, transparency over white."""
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    factor = max(1, max(shape[1:3]) // vgg.LARGEST)
    rgb = x[..., :3]
    if shape[-1] == 4:
        rgb = rgb * (x[..., 3:] + 1) / 2 + (1 - x[..., 3:]) / 2
    expected = np.zeros((shape[0], shape[1] // factor, shape[2] // factor, rgb.shape[-1]))
    for i, j in np.ndindex(expected.shape[1:3]):
        rows, columns = (slice(k * factor, (k + 1) * factor) for k in (i, j))
        expected[:, i, j] = rgb[:, rows, columns].mean((1, 2))
    found = np.asarray(vgg.shown(jnp.asarray(x)))
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-6)
    assert found.shape[-1] == 3


def test_nvidias_torchscript_is_recognised(tmp_path):
    path = tmp_path / "inception-2015-12-05.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inception/code/__torch__/a.py", "")
    with pytest.raises(UserError, match="TorchScript.*6726825d.pth, SHA-256 6726825d0af5f729"):
        weights.load("inception", [path])
