"""The resolution report: against images made one by one, Pillow and general square roots."""

import copy
import dataclasses
import io
import json
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
from helpers.models import tiny_model, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inr_gan_jax.config import EvaluateConfig
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import pixel, report, scales
from inr_gan_jax.metrics.detectors import Detector
from inr_gan_jax.metrics.images import Generated, Real
from inr_gan_jax.metrics.report import METHODS, report_workdir, table
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import view

SIZES, COUNT = (32, 8, 16), 14
FEW = settings(max_examples=6, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_GAN_JAX_CACHE", str(tmp_path / "cache"))


def digits(size=16):
    return open_source("digits", height=size, width=size, channels=1, labels=False)


def black(folder, height, width, *channels):
    """A data set of two images without anything in them."""
    folder.mkdir()
    for k in range(2):
        Image.fromarray(np.zeros((height, width, *channels), np.uint8)).save(folder / f"{k}.png")
    channels = channels[0] if channels else 1
    return open_source(str(folder), height=height, width=width, channels=channels, labels=False)


def run(tmp_path, model, **options):
    """Twelve images at a time, on two devices: 14 are no whole number of batches."""
    write_checkpoint(tmp_path / "run", model)
    config = dataclasses.replace(model.config, evaluate=EvaluateConfig(batch_size=6))
    given = {"sizes": SIZES, "images": COUNT, "detector": "pixel", "load": None} | options
    return report_workdir(config, digits(), tmp_path / "run", **given)


def functions(model, count, truncation=1.0):
    """Image by image, the functions that metrics are of."""
    generated = Generated(model)
    for k in range(count):
        z, classes = generated.latents(Generated.read(0)(np.asarray([k])))
        chosen = None if classes is None else int(np.argmax(classes))
        yield model.image(latent=np.asarray(z[0]), classes=chosen, truncation=truncation)


def resized(image, size, method):
    filters = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
    return np.asarray(Image.fromarray(image[..., 0]).resize((size, size), filters[method]))[
        ..., None
    ]


def averaged(image, size):
    """Means over areas, for whole factors either way."""
    if len(image) < size:
        return image.repeat(size // len(image), 0).repeat(size // len(image), 1).astype(float)
    n = len(image) // size
    return image.astype(float).reshape(size, n, size, n, -1).mean((1, 3))


def place(size, number, patch=16):
    """(row, column) at which an image's patch begins: read off a picture of rows and columns."""
    index = np.stack([*np.mgrid[:size, :size], np.zeros((size, size))], -1).astype(np.uint8)
    cut = scales.patches(index[None], np.asarray([number]), (patch, patch))
    return tuple(int(i) for i in cut[0, 0, 0, :2])


def distance(a, b):
    means, covariances = [x.mean(0) for x in (a, b)], [np.cov(x.T) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    return (
        np.square(means[0] - means[1]).sum() + sum(map(np.trace, covariances)) - 2 * np.trace(root)
    )


def slow(model, sizes, reference):
    """{(size, method): (FD_pixel, patch-FD_pixel or None, cross-scale PSNR in dB)}."""
    basis = pixel.fit([Real(digits()).read(np.arange(len(digits())))["image"]])
    owned, made = list(functions(model, COUNT)), {}
    natives = [to_uint8(function.render()) for function in owned]
    for size in sizes:
        real = list(Real(reference, COUNT).read(np.arange(COUNT))["image"])
        real = [resized(x, size, "lanczos") for x in real] if size < reference.width else real
        renders = [to_uint8(function.render(size, size)) for function in owned]
        for method in METHODS:
            shown = [resized(x, size, method) for x in natives] if method != "inr" else renders
            patched = 16 < size <= reference.width
            made[size, method] = (
                distance(*(features(basis, images) for images in (real, shown))),
                patch_distance(real, shown, size) if patched else None,
                np.mean([decibels(*pair) for pair in zip(shown, natives, strict=True)]),
            )
    return made


def features(params, images):
    shown = np.stack([np.rint(averaged(x, 16)).astype(np.uint8) for x in images])
    return np.asarray(pixel.features(params, shown), np.float64)


def patch_distance(real, made, size):
    places = [place(size, k) for k in range(COUNT)]
    real, made = (
        [x[i : i + 16, j : j + 16] for x, (i, j) in zip(images, places, strict=True)]
        for images in (real, made)
    )
    params = pixel.fit([np.stack(real)])
    return distance(features(params, real), features(params, made))


def decibels(image, native):
    low = min(len(image), 16)
    error = np.square((averaged(image, low) - averaged(native, low)) / 127.5).mean()
    return 10 * np.log10(4 / max(error, scales.ROUNDING))


def test_every_number_is_what_it_says(tmp_path, capsys):
    """Of a class-conditional model, against larger real images, with patches at 32 pixels."""
    model, reference = tiny_model(classes=10), digits(32)
    made = run(tmp_path, model, reference=reference)
    found = {(r["size"][0], r["method"]): r for r in made["results"]}
    assert list(found) == [(size, method) for size in sorted(SIZES) for method in METHODS]
    for (size, method), (whole, patch, psnr) in slow(model, SIZES, reference).items():
        result = found[size, method]
        assert result["frechet"] == pytest.approx(whole, rel=1e-4)
        assert result["patch_frechet"] == (patch and pytest.approx(patch, rel=1e-4))
        expected = None if size == 16 else pytest.approx(psnr, abs=1e-3)
        assert result["cross_scale_psnr"] == expected
        nulls = {key for key, value in result.items() if value is None}
        assert set(result["missing"]) == nulls and result["real_size"] == [size] * 2
    natives = [{k: v for k, v in found[16, m].items() if k != "method"} for m in METHODS]
    assert natives[0] == natives[1] == natives[2]
    home = tmp_path / "run"
    text = (home / "report.json").read_text()
    assert json.loads(text) == made and "fid" not in text.lower()
    assert made["checkpoint"] == str(home / "checkpoints" / "1") and made["kimg"] == 2
    assert made["data"]["sha256"] == digits().content_hash
    assert made["reference"]["sha256"] == reference.content_hash
    picture = np.asarray(Image.open(io.BytesIO((home / "report.png").read_bytes())).convert("RGB"))
    for colour in ("#0072B2", "#E69F00", "#009E73"):
        assert (picture == list(bytes.fromhex(colour[1:]))).all(-1).sum() > 100
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == table(made).splitlines() and "report.png" in lines[-1]
    assert lines[0].split()[2:4] == ["FD_pixel", "patch-FD_pixel"]
    assert lines[4].split()[:2] == ["16x16", "inr"] and lines[4].split()[-1] == "exact"
    assert lines[7].split()[2:] == [
        f"{found[32, 'inr']['frechet']:.5g}", f"{found[32, 'inr']['patch_frechet']:.5g}",
        f"{found[32, 'inr']['cross_scale_psnr']:.2f}", "dB",
    ]  # fmt: skip


def test_other_detectors_see_images_as_they_are(tmp_path, monkeypatch):
    """And what a report says where the real images, here those of training, are too small."""
    seen = set()

    def apply(params, images):
        seen.add(images.shape[1:])
        return {"features": images.astype(float).mean((1, 2)) @ np.ones((1, 2))}

    fake = Detector("inception", "fake", (), apply)
    monkeypatch.setattr(report, "open_detector", lambda *_: fake)
    made = run(tmp_path, tiny_model(classes=10), sizes=(24,), detector="inception")
    assert seen == {(24, 24, 1), (16, 16, 1)}
    assert [r["real_size"] for r in made["results"]] == [[16, 16]] * 3
    assert "no patches" in made["results"][0]["missing"]["patch_frechet"]
    assert made["names"]["frechet"] == "FID" and "--reference" in table(made).splitlines()[-1]


def test_images_of_any_network_at_any_size(monkeypatch):
    """Rendered together, in tiles, as one by one: INR-GAN-bil, which needs the native grid."""
    model, size = tiny_model("inr_gan_bil", input_resolution=8), (21, 19)
    owned = list(functions(model, 2, 0.7))
    expected = to_uint8(np.stack([function.render(*size) for function in owned]))
    monkeypatch.setattr(view, "WHOLE", 20)
    monkeypatch.setattr(view, "TILE", 8)
    made = scales.Renders(model, 0.7).reader(size, "inr")(np.arange(2))
    difference = np.abs(made["image"].astype(int) - expected.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # rounding


@pytest.mark.parametrize("family", ["inr_gan", "inr_gan_bil"])
def test_a_patch_of_a_function_is_a_window_of_it(family):
    """Cutting a patch out of the whole render is rendering nothing but the patch."""
    (function,) = functions(tiny_model(family, input_resolution=8), 1)
    size, (row, column) = 24, place(24, 3)
    window = [Fraction(2 * n - size, size) for n in (column, size - row - 16, column + 16)]
    patch = function.render(16, 16, window=(*window, Fraction(size - 2 * row, size)))
    cut = function.render(size, size)[row : row + 16, column : column + 16]
    assert 0 < row < 8 and 0 < column < 8
    np.testing.assert_allclose(patch, cut, atol=1e-5)


def test_places_are_spread_evenly_and_of_the_number_alone():
    index = np.stack([*np.mgrid[:7, :9]], -1).astype(np.uint8)
    cut = np.asarray(scales.patches(np.repeat(index[None], 2000, 0), np.arange(2000), (6, 5)))
    rows, columns = cut[:, 0, 0].T
    counts = np.histogram2d(rows, columns, bins=(range(4), range(5)))[0]
    assert counts.sum() == 2000 and np.abs(counts - 2000 / 12).max() < 60  # 5 deviations
    np.testing.assert_array_equal(cut[:, -1, -1], cut[:, 0, 0] + [4, 5])
    few = scales.patches(np.repeat(index[None], 3, 0), np.array([1500, 3, 70]), (6, 5))
    np.testing.assert_array_equal(few, cut[[1500, 3, 70]])


@FEW
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_areas(width, height, factor, seed):
    """Whole factors are plain means, pixels repeated come back, the mean of all is kept."""
    x = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), np.uint8)
    large = x.repeat(factor, 1).repeat(factor, 2)
    np.testing.assert_allclose(scales.area(x, (width * factor, height * factor)), large)
    np.testing.assert_allclose(scales.area(large, (width, height)), x, rtol=1e-5)
    odd = np.asarray(scales.area(x, (5, 3)))
    np.testing.assert_allclose(odd.mean((1, 2)), x.mean((1, 2)), rtol=1e-5)


def test_decibels():
    black = np.zeros((1, 4, 4, 1), np.uint8)
    one_step = scales.psnr(black + np.uint8(1), np.zeros((1, 2, 2, 1), np.uint8))
    np.testing.assert_allclose(one_step, 20 * np.log10(255), rtol=1e-6)
    np.testing.assert_allclose(scales.psnr(black, black), 58.92, atol=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": ()}, "--sizes is empty"),
        ({"sizes": (16, 0)}, "0 gives no whole pixels"),
        ({"sizes": (16, 10**6)}, "more than"),
        ({"sizes": (16, 5), "changes": {"height": 8}}, "16x8 need positive multiples of 2"),
        ({"images": 1}, "--images must be 2 or more"),
        ({"detector": "vgg16"}, "--detector=vgg16 must be one of inception, pixel"),
        ({"source": (8, 8)}, "has height 16, the data 8"),
        ({"reference": (16, 32)}, "is 32x16, which is not the shape of the model's 16x16"),
        ({"reference": (16, 16, 3)}, "has 3 channels, the model 1"),
        ({"changes": {"family": "stylegan2"}}, "no coordinate function"),
    ],
)
def test_mistakes(options, said, tmp_path, monkeypatch):
    given = {"sizes": SIZES, "source": (options.get("changes", {}).get("height", 16), 16)} | options
    for name in {"source", "reference"} & set(given):
        given[name] = black(tmp_path / name, *given[name])
    model = copy.copy(tiny_model(classes=10))
    changed = dataclasses.replace(model.config.model, **given.pop("changes", {}))
    model.config = dataclasses.replace(model.config, model=changed)
    monkeypatch.setattr(report, "load_model", lambda _: model)
    with pytest.raises(UserError) as error:
        report_workdir(model.config, given.pop("source"), tmp_path, load=None, **given)
    assert said in str(error.value) and "\n" not in str(error.value)
