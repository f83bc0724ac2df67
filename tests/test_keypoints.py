"""The geometric prior on rendered shapes, whose keypoints are known."""

import io
import json
import zipfile

import jax
import numpy as np
import pytest
from helpers.commands import assert_mistakes, examples, many
from helpers.models import tiny_model, write_checkpoint
from PIL import Image
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

from inr_gan_jax.errors import UserError
from inr_gan_jax.models import parameters
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render import prior

SHAPES = 64
OWN = (11, 12, 13)  # seeds


def disc(centre, size: int = 16, scale: int = 8, radius: float = 0.3) -> np.ndarray:
    """An antialiased white disc on black, [size, size, 1] in [-1, 1], centre (x, y) upwards."""
    at = (2 * np.arange(size * scale) + 1) / (size * scale) - 1
    inside = (at[None] - centre[0]) ** 2 + (-at[:, None] - centre[1]) ** 2 < radius**2
    return inside.reshape(size, scale, size, scale).mean((1, 3))[..., None] * 2 - 1


def shapes(count: int = SHAPES) -> tuple[np.ndarray, np.ndarray]:
    """(images [n, 16, 16, 1], keypoints [n, 2, 2]: the disc's centre and its highest point)."""
    centres = np.random.default_rng(0).uniform(-0.6, 0.6, (count, 2))
    images = np.stack([disc(c) for c in centres]).astype(np.float32)
    return images, np.stack([centres, centres + [0, 0.3]], axis=1)


def write_zip(path, images, keypoints) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for k, image in enumerate(images):
            buffer = io.BytesIO()
            Image.fromarray(to_uint8(image)[..., 0]).save(buffer, "png")
            archive.writestr(f"{k:03d}.png", buffer.getvalue())
        if keypoints is not None:
            pairs = [[f"{k:03d}.png", p.tolist()] for k, p in enumerate(keypoints)]
            archive.writestr("dataset.json", json.dumps({"keypoints": pairs}))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def fits(model):
    """Fits of all shapes, and of OWN images of the model itself; the last batch is not whole."""
    images = np.concatenate([shapes()[0], model.images(seeds=OWN)])
    return prior.fit(model, images, steps=150, batch=len(images) // 2 + 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    here = tmp_path_factory.mktemp("here")
    write_checkpoint(here / "runs" / "shapes", model)
    write_zip(here / "shapes.zip", *shapes())
    return here


def test_what_is_linear_is_found_and_what_is_not_there_is_not():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((120, 6))
    features = hidden @ rng.standard_normal((6, 5000)) + 3
    targets = hidden @ rng.standard_normal((6, 4)) + 7
    products, dimensions = prior.gram([features[:, :2000] * 100, features[:, 2000:]])
    assert dimensions == 5000
    found = prior.held_out_r2(products, targets)
    assert found.r2 > 0.999 and min(found.coordinates) > 0.999 and len(found.folds) == 5
    noisy = targets + 0.5 * targets.std(0) * rng.standard_normal(targets.shape)
    assert 0.65 < prior.held_out_r2(products, noisy).r2 < 0.85  # the best that can be is 0.8
    assert prior.held_out_r2(products, rng.permutation(targets)).r2 < 0.05
    assert prior.held_out_r2(products, rng.standard_normal(targets.shape)).r2 < 0.05


def test_the_dual_form_is_ridge_regression_on_the_features_themselves():
    rng = np.random.default_rng(1)
    features, targets = rng.standard_normal((40, 25)), rng.standard_normal((40, 3))
    targets[:, 0] += features[:, :5].sum(1)
    products, _ = prior.gram([features])
    centred = features - features.mean(0)
    centred /= np.sqrt(np.square(centred).sum(1).mean())
    predicted = np.empty_like(targets)
    for train, test in KFold(5, shuffle=True, random_state=3).split(features):
        ridge = RidgeCV(alphas=prior.LAMBDAS * len(train)).fit(centred[train], targets[train])
        predicted[test] = ridge.predict(centred[test])
    expected = r2_score(targets, predicted, multioutput="raw_values")
    np.testing.assert_allclose(prior.held_out_r2(products, targets, 5, 3).coordinates, expected)


def test_no_array_counts_for_more_than_another():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 30, 70))
    expected, _ = prior.gram([a, b])
    scaled, _ = prior.gram([1e4 * a + 5, b, np.ones((30, 3))])
    np.testing.assert_allclose(scaled, expected, atol=1e-9)
    assert np.trace(expected) == pytest.approx(30)
    with pytest.raises(ValueError, match="all descriptions are the same"):
        prior.gram([np.ones((30, 3))])


@pytest.fixture(scope="module")
def weights(model, fits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "MEMORY", SHAPES * 2000)  # so that they come in several groups
        return list(prior.effective_weights(model, fits.styles[:SHAPES], batch=40))


def test_effective_weights_are_those_of_the_networks(model, fits, weights):
    assert all(array.shape[0] == SHAPES for array in weights)
    for number in (2, 63):
        made = jax.jit(parameters.weights)(model.inr(fits.styles[number][None])[0])
        layer = made["block16"]["layer0"]
        joined = np.concatenate([layer["h"], layer["e"]], axis=1).ravel()
        same = [a for a in weights if a.shape[1] == joined.size]
        assert any(np.allclose(array[number], joined, atol=1e-5) for array in same)


def test_the_fit_finds_images_that_the_model_can_make(model, fits):
    images = model.images(seeds=OWN)
    made = model.images(ws=fits.styles[SHAPES:])
    error = np.square(made - images).mean((1, 2, 3))
    np.testing.assert_allclose(error, fits.error[SHAPES:], rtol=1e-2)
    start = np.square(model.images(seeds=[1, 2, 3]) - images).mean()
    assert error.mean() < 0.02 * start


def test_shapes_keypoints_are_found_in_the_weights_and_shuffled_ones_are_not(fits, weights):
    keypoints = shapes()[1].reshape(SHAPES, -1)
    products, _ = prior.gram(weights)
    assert prior.held_out_r2(products, keypoints).r2 > 0.6
    shuffled = np.random.default_rng(0).permutation(keypoints)
    assert prior.held_out_r2(products, shuffled).r2 < 0.1
    assert fits.psnr[:SHAPES].mean() > 13


@pytest.mark.slow
def test_examples_work_as_printed(folder):
    lines = examples("keypoints")
    assert len(lines) == 2
    for one in many("keypoints", lines, folder):
        assert one.code == 0, one
        head, _, *rows = one.out.splitlines()
        assert head.startswith(f"{SHAPES} images with 2 keypoints; fitted to ")
        table = {row.split()[0]: row.split()[1:] for row in rows}
        assert list(table) == ["weights", "styles", "pixels"]
        assert float(table["weights"][1]) > 0.5 and float(table["pixels"][1]) > 0.9
    report = json.loads((folder / "report.json").read_text())
    assert report["fit"]["styles"] == "w" and report["images"] == SHAPES
    for name, dimensions in (("styles", 8), ("pixels", 256)):
        assert report["features"][name]["dimensions"] == dimensions
    assert len(report["features"]["weights"]["coordinates"]) == 4


NAMES = ["a.png", "b.png"]


@pytest.mark.parametrize(
    "keypoints, message",
    [
        (None, r'data.zip has no keypoints: its dataset.json needs "keypoints"'),
        ({"a.png": [[0, 0]]}, "must be of the form"),
        ([["a.png"]], r'\["a.png"\] is not of the form'),
        ([["a.png", [[0, 0]]], ["c.png", [[0, 0]]]], "keypoints for c.png, which is not in"),
        ([["a.png", [[0, 0]]]], r"no keypoints for b.png \(1 of 2 images have none\)"),
        ([["a.png", [[0, 0]]], ["a.png", [[0, 1]]]], "keypoints for a.png twice"),
        (
            [["a.png", [[0, 0]]], ["b.png", [[0, 0], [1, 1]]]],
            "b.png has 2 keypoints, but a.png has 1",
        ),
        ([["a.png", [[0, 0]]], ["b.png", [[0, 0, 1]]]], r"of b.png are \[\[0, 0, 1\]\], not"),
        ([["a.png", [[0, 0]]], ["b.png", [[0, "x"]]]], r"of b.png are \[\[0, \"x\"\]\], not"),
        ([["a.png", [[0, 0]]], ["b.png", []]], r"of b.png are \[\], not"),
        ([["a.png", [[0, 0]]], ["b.png", [[12, 7]]]], "not in pixels"),
        ([["a.png", [[0, 0]]], ["b.png", [[0, float("nan")]]]], "not in pixels"),
    ],
)
def test_bad_keypoints_are_refused(keypoints, message):
    record = {} if keypoints is None else {"keypoints": keypoints}
    with pytest.raises(UserError, match=message):
        prior.keypoints_of(record, NAMES, "data.zip")


def test_keypoints_come_in_the_order_of_the_images():
    record = {"keypoints": [["b.png", [[0.5, -1]]], ["a.png", [[0, 1]]]]}
    found = prior.keypoints_of(record, NAMES, "data.zip")
    np.testing.assert_array_equal(found, [[[0, 1]], [[0.5, -1]]])


def test_mistakes_are_one_line_each(folder):
    images, keypoints = shapes(12)
    write_zip(folder / "bare.zip", images, None)
    write_zip(folder / "few.zip", images[:9], keypoints[:9])
    write_zip(folder / "still.zip", images, keypoints * [[[1, 0], [1, 1]]])
    write_zip(folder / "large.zip", np.repeat(images, 2, axis=1), keypoints)
    runs = "--checkpoint=runs/shapes"
    mistakes = {
        f"{runs} --data=bare.zip": "bare.zip has no keypoints",
        f"{runs} --data=few.zip": "9 images are too few: --folds=5 needs 10",
        f"{runs} --data=shapes.zip --count=3": "3 images are too few",
        f"{runs} --data=still.zip": "y of keypoint 0 is the same in all 12 images",
        f"{runs} --data=large.zip": "the images of large.zip are 16x32, but the model's are 16x16",
        f"{runs} --data=nothing.zip": "nothing.zip does not exist",
        f"{runs} --data=shapes.zip --dest=runs": "--dest=runs is a folder",
        f"{runs} --data=shapes.zip --learning_rate=0": "--learning_rate=0.0 must be above 0",
        "--checkpoint=nowhere --data=shapes.zip": "no such folder",
    }
    assert_mistakes("keypoints", mistakes, folder)
