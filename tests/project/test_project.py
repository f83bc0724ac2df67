"""Projection: what is compared, what is found, what is read, what is shown."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
from helpers.models import mild_model
from helpers.targets import at_cells, detector_files, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import vgg, weights
from inr_gan_jax.models.families import inr_spec
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.project import fit, perceptual, resume
from inr_gan_jax.project.compare import as_seen, differences, goal_of, psnr
from inr_gan_jax.project.results import comparison, default_size
from inr_gan_jax.project.target import Photo, Scattered, read_photo, read_points

KEY = jax.random.key(0)
MIDDLE = (-0.5, -0.5, 0.5, 0.5)
compared = jax.jit(differences)


def spec_of(model):
    return inr_spec(model.config.model)


def whole(pixels: np.ndarray, window=(-1, -1, 1, 1)) -> Photo:
    return Photo(pixels, np.ones(pixels.shape[:2], bool), window)


# What is compared


@pytest.mark.parametrize("family, shape", [("inr_gan", {"height": 4}), ("cips", {})])
def test_a_photo_that_an_image_makes_is_at_no_distance_from_it(family, shape):
    """As large as the native grid, smaller and larger; of the whole frame and of a part."""
    model = mild_model(family, channels=3, **shape)
    image, spec = model.image(seed=3), spec_of(model)
    native = image.render()
    height, width = native.shape[:2]
    photos = {
        "larger": whole(image.render(3 * width, 3 * height)),
        "detail": whole(image.render(width, height, window=MIDDLE, density=math.inf), MIDDLE),
    }
    if family == "inr_gan":
        cut = native[height // 4 : -height // 4, width // 4 : -width // 4]
        half = native.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
        photos |= {"native": whole(native), "middle": whole(cut, MIDDLE), "half": whole(half)}
    for name, photo in photos.items():
        np.testing.assert_allclose(as_seen(image, photo), photo.pixels, atol=1e-5, err_msg=name)
        assert psnr(image, photo) > 80
        _, finest, _ = compared(image.params, goal_of(photo, spec), KEY)
        assert finest < 1e-9, name
        _, other, _ = compared(model.image(seed=4).params, goal_of(photo, spec), KEY)
        assert other > 1e-3, name


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(16, 16), (8, 16)]), st.booleans())
def test_differences_of_all_scales_are_those_of_loops(seed, size, masked):
    rng = np.random.default_rng(seed)
    height, width = size
    model = mild_model(size=16, channels=3)
    image = model.image(seed=1)
    made = image.render().reshape(height, 16 // height, width, 16 // width, 3).mean((1, 3))
    known = rng.random(size) < (0.5 if masked else 2)
    known[0, 0] = True
    pixels = np.where(known[..., None], rng.uniform(-1, 1, (*size, 3)), 0).astype(np.float32)
    goal = goal_of(Photo(pixels, known), spec_of(model))
    errors, factor = [], 1
    while factor == 1 or min(size) // factor >= 4:
        total = count = 0.0
        for top, left in itertools.product(range(0, height, factor), range(0, width, factor)):
            cell = slice(top, top + factor), slice(left, left + factor)
            n = known[cell].sum()
            if n:
                difference = (made[cell] - pixels[cell])[known[cell]].mean(0)
                total, count = total + n * (difference**2).mean(), count + n
        errors.append(total / count)
        factor *= 2
    loss, finest, _ = compared(image.params, goal, KEY)
    np.testing.assert_allclose(finest, errors[0], rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(compared(image.params, goal, KEY, 0.0)[0], errors[0], rtol=1e-4)


def test_the_native_grid_sees_a_larger_photo_where_its_own_points_are():
    """Else a fine photo and the grid would want images half a native pixel apart."""
    model = mild_model()
    ramp = np.broadcast_to(np.linspace(-1, 1, 64, endpoint=False), (64, 64))  # x, as renders put it
    for photo_of in (ramp, ramp.T[::-1]):
        grid = goal_of(whole(photo_of[..., None].astype(np.float32)), spec_of(model)).grid
        native = np.broadcast_to(np.linspace(-1, 1, 8, endpoint=False), (8, 8))
        native = native if photo_of is ramp else native.T[::-1]
        inside = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(grid.pixels[..., 0][inside], native[inside], atol=1e-6)


def test_a_sample_of_points_is_drawn_anew_in_each_step():
    model = mild_model()
    image = model.image(seed=2)
    noise = np.random.default_rng(0).uniform(-1, 1, (128, 128, 1)).astype(np.float32)
    photo = whole(noise)
    goal = goal_of(photo, spec_of(model))
    errors = [float(compared(image.params, goal, jax.random.key(k))[1]) for k in range(8)]
    exact = np.square(as_seen(image, photo) - noise).mean()
    assert len(set(errors)) == 8 and np.mean(errors) == pytest.approx(exact, rel=0.02)


def test_networks_without_points():
    model = mild_model("inr_gan_bil")
    image, spec = model.image(seed=3), spec_of(model)
    with pytest.raises(ValueError, match="cannot be fitted to scattered pixels"):
        goal_of(at_cells(image.render(), 9), spec)
    assert goal_of(whole(image.render(24, 24)), spec).points is None
    with pytest.raises(ValueError, match="lies between the pixels"):
        goal_of(whole(np.zeros((9, 9, 1), np.float32), (0.01, 0.01, 0.1, 0.1)), spec)
    search = fit.Projection(model, goal_of(whole(image.render()), spec), fit.Settings(steps=60))
    before = psnr(model.image(ws=search.styles), whole(image.render()))
    while not search.done:
        search.advance()
    assert psnr(model.image(ws=search.styles), whole(image.render())) > before + 3


# What is found


def found(model, target, **changes) -> np.ndarray:
    search = fit.Projection(
        model, goal_of(target, spec_of(model)), fit.Settings(**({"steps": 200} | changes))
    )
    while not search.done:
        search.advance()
    return search.styles


@pytest.mark.parametrize("seed", [300, 302, 304])
def test_an_image_of_the_model_is_found_again(seed):
    model = mild_model()
    photo = whole(model.images(seeds=[seed])[0])
    mean = np.asarray(model.styles(seeds=range(256))).mean(0)
    before, after = (psnr(model.image(ws=ws), photo) for ws in (mean, found(model, photo)))
    assert after > max(35, before + 8)


@pytest.mark.parametrize("what", ["masked", "scattered", "small", "middle", "large"])
def test_what_is_not_known_is_found_where_one_style_makes_the_image(what):
    """Inpainting, sparse pixels, super-resolution, outpainting, a photo finer than the grid."""
    model, seed = mild_model(), 302
    image = model.image(seed=seed)
    native = image.render()
    known = np.arange(8) >= np.full((8, 1), 3)
    target = {
        "masked": Photo(np.where(known[..., None], native, 0), known),
        "scattered": at_cells(native, 40),
        "small": whole(native.reshape(4, 2, 4, 2, 1).mean((1, 3))),
        "middle": whole(native[1:7, 1:7], (-0.75, -0.75, 0.75, 0.75)),
        "large": whole(image.render(24, 24)),
    }[what]
    styles = found(model, target, space="w")
    assert (styles == styles[0]).all()
    assert psnr(model.image(ws=styles), whole(native)) > 40


def test_a_style_for_each_layer_comes_closer_to_a_foreign_photo():
    model = mild_model()
    y, x = np.mgrid[:8, :8] / 4 - 1
    photo = whole((np.hypot(x, y) < 0.6).astype(np.float32)[..., None] - 0.5)
    distances = [psnr(model.image(ws=found(model, photo, space=s)), photo) for s in ("w", "w+")]
    assert distances[1] > distances[0] + 1


def test_the_nearest_class_is_that_of_the_image():
    model = mild_model(classes=3)
    for index in range(3):
        photo = whole(model.images(seeds=[5], classes=index)[0])
        assert fit.nearest_class(model, goal_of(photo, spec_of(model))) == index


def test_a_perceptual_distance_is_added():
    model = mild_model()
    goal = goal_of(whole(model.images(seeds=[1])[0]), spec_of(model))

    def darkness(weight, images, targets):
        assert images.shape == targets.shape == (1, 8, 8, 1)
        return weight * images.mean((1, 2, 3))

    def run(distance):
        search = fit.Projection(model, goal, fit.Settings(steps=40), perceptual=distance)
        while not search.done:
            search.advance()
        return model.images(ws=search.styles[None]).mean()

    assert run(jax.tree_util.Partial(darkness, 9.0)) < run(None) - 0.1
    with pytest.raises(ValueError, match="scattered pixels are none"):
        points = goal_of(at_cells(model.images(seeds=[1])[0], 9), spec_of(model))
        fit.Projection(model, points, perceptual=lambda a, b: 0)


def test_lpips_is_that_of_the_metrics_on_what_an_eye_sees(tmp_path):
    files = detector_files(tmp_path)
    distance, hashes = perceptual.lpips(files)
    network = vgg.lpips_from_torch(*(weights.load(n, files)[0] for n in ("vgg16", "lpips")))
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 1, 16, 16, 3)).astype(np.float32)
    expected = vgg.lpips(network, x, y)
    assert len(set(hashes)) == 2 and expected > 0
    np.testing.assert_allclose(distance(x, y), expected, rtol=1e-5)
    grey = x[..., :1], y[..., :1]
    repeated = (a.repeat(3, -1) for a in grey)
    np.testing.assert_allclose(distance(*grey), vgg.lpips(network, *repeated), rtol=1e-5)
    alpha = np.ones((1, 16, 16, 1), np.float32)
    clear = np.concatenate([x, -alpha], -1), np.concatenate([y, alpha], -1)
    np.testing.assert_allclose(distance(*clear), vgg.lpips(network, 1 + 0 * x, y), rtol=1e-5)
    large = (a.repeat(33, 1).repeat(33, 2) for a in (x, y))  # 528 pixels: shown as 264
    halved = (
        a.repeat(33, 1).repeat(33, 2).reshape(1, 264, 2, 264, 2, 3).mean((2, 4)) for a in (x, y)
    )
    np.testing.assert_allclose(distance(*large), vgg.lpips(network, *halved), rtol=1e-4)


def test_going_on_gives_the_same_bits(tmp_path):
    model = mild_model()
    noise = np.random.default_rng(0).uniform(-1, 1, (66, 66, 1)).astype(np.float32)
    target = whole(noise)  # more points than one step takes
    goal, how = goal_of(target, spec_of(model)), fit.Settings(steps=62, seed=4)
    identity = resume.identity(model, target, how, None)
    straight, stopped, other = (fit.Projection(model, goal, how) for _ in range(3))
    while not straight.done:
        straight.advance()
    for _ in range(17):
        stopped.advance()
    resume.save(tmp_path / "x.npz", stopped, identity)
    resume.restore(tmp_path / "x.npz", other, identity)
    assert other.step == stopped.step == 34
    while not other.done:
        other.advance()
    np.testing.assert_array_equal(other.way, straight.way)
    assert other.way.shape == (32, 4, 8) and other.error == straight.error
    seeds = fit.Projection(model, goal, fit.Settings(steps=62, seed=5))
    while not seeds.done:
        seeds.advance()
    assert (seeds.styles != straight.styles).any()


@pytest.mark.parametrize("steps", [1, 59, 60, 61, 1000, 4001])
def test_frames_are_kept_evenly(steps, monkeypatch):
    model = mild_model()
    search = fit.Projection(
        model, goal_of(at_cells(model.images(seeds=[1])[0], 4), spec_of(model)),
        fit.Settings(steps=steps),
    )  # fmt: skip
    at = []

    def fake(offset, adam, *others, networks):
        at.append(others[-1][1])
        return offset + 1, adam, (0.0, 0.0)

    monkeypatch.setattr(fit, "_advance", fake)
    while not search.done:
        search.advance()
    assert at[-1] == steps and np.diff([0, *at]).max() <= fit.STEPS_PER_CALL
    assert min(steps, 30) < len(search.way) <= fit.FRAMES + 2
    gaps = np.diff([offset[0, 0] for offset in search._way])
    assert set(gaps[:-1]) <= {gaps[0]} and 0 < gaps[-1] <= gaps[0]


# What is read


SHAPE = mild_model().config.model


def test_photos_become_what_the_model_sees(tmp_path):
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (20, 20, 4), np.uint8)
    photo = written(tmp_path / "photo.png", rgba)
    rgb, grey, four = (read_photo(photo, dataclasses.replace(SHAPE, channels=c)) for c in (3, 1, 4))
    opaque = rgba[..., 3] >= 128
    np.testing.assert_array_equal(rgb.known, opaque)
    np.testing.assert_allclose(rgb.pixels[opaque], rgba[..., :3][opaque] / 127.5 - 1, atol=1e-6)
    assert not rgb.pixels[~opaque].any() and not rgb.whole
    assert four.whole and four.pixels.shape == (20, 20, 4)
    assert grey.pixels.shape == (20, 20, 1) and (grey.known == opaque).all()
    luma = rgba[..., :3] @ [0.299, 0.587, 0.114] / 127.5 - 1
    np.testing.assert_allclose(grey.pixels[..., 0][opaque], luma[opaque], atol=0.01)
    plain = written(tmp_path / "grey.png", rgba[..., 0])
    coloured = read_photo(plain, dataclasses.replace(SHAPE, channels=4))
    assert (coloured.pixels[..., 3] == 1).all() and np.ptp(coloured.pixels[..., :3], -1).max() == 0


def test_a_mask_decides_what_is_known(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    grey = np.tile(np.uint8([0, 127, 128, 255]), (16, 4))
    mask = written(tmp_path / "mask.png", grey)
    photo = read_photo(written(tmp_path / "a.png", pixels), SHAPE, mask=mask)
    np.testing.assert_array_equal(photo.known, grey >= 128)
    hidden = np.where(photo.known, pixels, 255 - pixels)
    other = read_photo(written(tmp_path / "b.png", hidden), SHAPE, mask=mask)
    np.testing.assert_array_equal(photo.pixels, other.pixels)


def test_photos_of_another_shape_are_cropped_and_turned_upright(tmp_path):
    pixels = np.arange(20 * 40, dtype=np.uint16).reshape(20, 40).astype(np.uint8)
    photo = written(tmp_path / "wide.png", pixels)
    with pytest.raises(UserError, match="wide.png is 40x20, .* 1 times as wide .* --crop=center"):
        read_photo(photo, SHAPE)
    cropped = read_photo(photo, SHAPE, crop=True)
    assert (to_uint8(cropped.pixels)[..., 0] == pixels[:, 10:30]).all()
    half = read_photo(photo, SHAPE, window=(-1, 0, 1, 1))
    assert half.known.shape == (20, 40) and half.window == (-1, 0, 1, 1)
    flat = dataclasses.replace(SHAPE, height=4)
    assert read_photo(photo, flat).known.shape == (20, 40)
    almost = written(tmp_path / "almost.png", pixels[:, :20][:19])
    with pytest.raises(UserError, match="20x19"):
        read_photo(almost, SHAPE)
    assert read_photo(almost, SHAPE, window=(-1, -1, 1, 0.9)).known.shape == (19, 20)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels[:, :20]).save(tmp_path / "turned.jpg", exif=turned, quality=100)
    upright = to_uint8(read_photo(tmp_path / "turned.jpg", SHAPE).pixels)[..., 0]
    assert np.abs(upright.astype(int) - np.rot90(pixels[:, :20], -1)).mean() < 8


@pytest.mark.parametrize("window", [(-1, -1, 1.1, 1), (0, 0, 0, 1), (0, 1, 1, 0)])
def test_windows_outside_of_the_frame(tmp_path, window):
    photo = written(tmp_path / "photo.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="must lie in the frame"):
        read_photo(photo, SHAPE, window=window)


def test_points_are_read_from_both_kinds_of_files(tmp_path):
    rows = np.random.default_rng(0).uniform(-1, 1, (5, 5)).astype(np.float32)
    np.save(tmp_path / "p.npy", rows)
    np.savetxt(tmp_path / "p.csv", rows, delimiter=",", header="x, y, r, g, b")
    for name in ("p.npy", "p.csv"):
        read = read_points(tmp_path / name, 3)
        np.testing.assert_allclose(read.points, rows[:, :2], atol=1e-6)
        np.testing.assert_allclose(read.values, rows[:, 2:], atol=1e-6)


@pytest.mark.parametrize(
    "rows, message",
    [
        ("0,0,1.5\n", "row 0 is .*x and y lie in the frame"),
        ("0,0,1\n0,nan,1\n", "row 1 is"),
        ("0,0\n", r"holds \[1, 2\], not \[n, 3\]: rows of x, y and 1 value$"),
        ("x,y,v\n0,0,0\n", "cannot be read as rows of x, y and 1 value"),
        ("0,0,1\n0,0\n", "cannot be read as rows"),
        ("", "cannot be read as rows of x, y and 1 value: it is empty"),
    ],
)
def test_points_that_are_none(tmp_path, rows, message):
    (tmp_path / "p.csv").write_text(rows)
    with pytest.raises(UserError, match=message):
        read_points(tmp_path / "p.csv", 1)


# What is shown


def test_the_comparison_shows_target_projection_and_difference():
    model = mild_model()
    image = model.image(seed=302)
    pixels = image.render()
    pixels[3, 4] = 1.0
    known = np.arange(8) >= np.full((8, 1), 3)
    picture = comparison(image, Photo(np.where(known[..., None], pixels, 1), known))
    assert picture.shape == (256, 3 * 256 + 4, 3)
    target, made, difference = (picture[::32, k : k + 256 : 32, 0] for k in (0, 258, 516))
    assert (target[~known] == 128).all() and (difference[~known] == 128).all()
    np.testing.assert_array_equal(made, to_uint8(image.render())[..., 0])
    np.testing.assert_array_equal(target[known], to_uint8(pixels)[..., 0][known])
    expected = np.abs(target.astype(int) - made)
    assert expected[3, 4] > 50 and (difference == expected)[known].all()
    points = comparison(image, at_cells(image.render(), 40))
    assert (points[::32, :256:32, 0] == 128).sum() in (24, 25, 26)
    middle = comparison(image, whole(image.render()[2:6, 2:6], MIDDLE))
    assert middle.shape == (256, 4 * 256 + 6, 3)
    np.testing.assert_array_equal(middle[:, -256:, 0], to_uint8(image.render(256, 256))[..., 0])


def test_a_projection_is_as_fine_as_its_photo():
    photo = whole(np.zeros((30, 60, 1), np.float32), (-0.5, -0.25, 0.5, 0.25))
    assert default_size(photo, (16, 16)) == (120, 120)
    assert default_size(photo, (16, 16), (-1, 0, 1, 1)) == (120, 60)
    assert default_size(whole(np.zeros((4, 4, 1))), (16, 8)) == (16, 8)
    assert default_size(Scattered(np.zeros((1, 2)), np.zeros((1, 1))), (16, 8)) == (16, 8)
