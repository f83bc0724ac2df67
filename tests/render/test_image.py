"""Rendering: crops, tilings, subsets and super-resolution are what the function says."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.functions import abstract_params, params_of, random_params, size_config
from helpers.golden import load, nhwc, relative
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.models import coords, families, inr, parameters
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.models.places import between_cells
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.render.region import render_region

FAMILIES = ("inr_gan", "inr_gan_fmm_tanh", "inr_gan_predicted_coords", "cips", "paper")
ALL = (*FAMILIES, "inr_gan_bil")


def image_of(name: str, index: int = 0) -> ContinuousImage:
    return ContinuousImage(params_of(name)[index])


def native(image: ContinuousImage) -> np.ndarray:
    return np.asarray(jax.jit(inr.grid_one)(image.params))


def assert_same(got, expected, of):
    """Within 1e-5 of the range of the whole picture."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5 * np.ptp(of)


@pytest.mark.parametrize("name", ALL)
def test_native_render_crop_and_subset(name):
    image = image_of(name)
    full = native(image)
    assert_same(image.render(), full, full)
    # A window of half the frame at half the size is exactly a crop.
    assert_same(image.render(16, 16, window=(-1, 0, 0, 1)), full[:16, :16], full)
    assert_same(image.render(16, 16, window=(0, -1, 1, 0)), full[16:, 16:], full)
    # A low resolution is exactly the pixels of the full image at the same coordinates.
    assert_same(image.render(16, 16), full[1::2, ::2], full)
    assert_same(image.render(8, 16), full[1::2, ::4], full)


@pytest.mark.parametrize("name", FAMILIES)
def test_render_is_the_function_at_the_stated_points(name):
    """Pixel (i, j) lies at left + (right - left) j / W, bottom + (top - bottom) (H - 1 - i) / H."""
    image, (w, h), window = image_of(name), (13, 9), (-0.7, -1.0, 0.9, 0.4)
    left, bottom, right, top = window
    x = left + (right - left) * np.arange(w) / w
    y = bottom + (top - bottom) * (h - 1 - np.arange(h)) / h
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    levels = len(image.params.spec.levels)
    for k in {0, min(1, levels - 1), levels}:
        for density in (1, 2, 3.0, math.inf):
            got = image.render(w, h, window=window, superres_from=k, density=density)
            expected = image.points(points, superres_from=k, density=density)
            assert_same(got, np.asarray(expected).reshape(h, w, -1), native(image))
    half = np.asarray([(right - left) / w, (top - bottom) / h]) / 2
    got = image.render(w, h, window=window, superres_from=0, density=math.inf, align="center")
    expected = image.points(points + half, superres_from=0)
    # Phases of shifted points round otherwise: a phase of 2^4 pi / 2 keeps five digits.
    assert np.abs(got.reshape(-1, got.shape[-1]) - expected).max() < 1e-4 * np.ptp(native(image))


@pytest.mark.parametrize("index", range(3))
def test_published_super_resolution(index):
    expected = nhwc(load("generator_paper")["image64_superres_after_block1"])[index]
    image = image_of("paper", index)
    assert relative(image.render(64, 64, superres_from=1, density=2), expected) < 1e-4
    assert relative(image.render(64, 64), expected) < 1e-4  # it is the default


@pytest.mark.parametrize("name", ["inr_gan", "cips", "paper", "inr_gan_bil"])
def test_above_native_size_pixels_within_one_cell_differ(name):
    image = image_of(name)
    big = image.render(128, 128).reshape(32, 4, 32, 4, -1)
    within = np.ptp(big, axis=(1, 3))
    assert (within.max(-1) > 1e-3 * np.ptp(big)).mean() > 0.9
    snapped = image.render(128, 128, superres_from=len(image.params.spec.levels))
    if name != "inr_gan_bil":
        repeated = native(image).repeat(4, 0).repeat(4, 1)
        assert_same(snapped, repeated, repeated)


@pytest.mark.parametrize("name", ALL)
def test_density_one_is_the_native_image(name):
    image = image_of(name)
    full = native(image)
    for k in range(len(image.params.spec.levels)):
        assert_same(image.render(superres_from=k, density=1), full, full)


@settings(max_examples=8, deadline=None)
@given(
    name=st.sampled_from(ALL),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile=st.integers(5, 40),
    corner=st.tuples(st.floats(-1.5, 0.5), st.floats(-1.5, 0.5)),
    extent=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
    superres=st.sampled_from([(None, None), (0, 2.0), (1, 1.5), (1, math.inf), (2, 3.0)]),
    align=st.sampled_from(["edge", "center"]),
    tables=st.sampled_from(["clamp", "reflect"]),
)
def test_any_tiling_equals_the_whole(name, size, tile, corner, extent, superres, align, tables):
    image = image_of(name)
    levels = len(image.params.spec.levels)
    k = None if superres[0] is None else min(superres[0], levels)
    window = (*corner, corner[0] + extent[0], corner[1] + extent[1])
    options = {"window": window, "superres_from": k, "density": superres[1],
               "align": align, "tables": tables}  # fmt: skip
    whole = image.render(*size, **options)
    assert whole.shape == (size[1], size[0], 3)
    stitched = np.full_like(whole, np.nan)
    for row, column, pixels in image.tiles(*size, tile, **options):
        h, w, _ = pixels.shape
        assert max(h, w) <= tile and np.isnan(stitched[row : row + h, column : column + w]).all()
        stitched[row : row + h, column : column + w] = pixels
    assert np.abs(stitched - whole).max() <= 1e-5 * max(np.ptp(native(image)), np.ptp(whole))


@pytest.mark.parametrize("name", FAMILIES)
def test_cells_come_from_integers_at_any_size(name):
    """At three times the native size every pixel of a cell is that cell, at all 96 x 96 of them."""
    image = image_of(name)
    snapped = image.render(96, 96, superres_from=len(image.params.spec.levels))
    assert_same(snapped, native(image).repeat(3, 0).repeat(3, 1), snapped)


@pytest.mark.parametrize("family, ratio", [("inr_gan", 1.8), ("cips", 8)])
def test_render_costs_its_subset_alone(family, ratio):
    """At published size: the FLOPs of 64x64 are those of exactly that subset of cells."""
    config = families.FAMILIES[family]()
    params = jax.eval_shape(lambda p: p[0], abstract_params(config))
    image = ContinuousImage(params)
    weights = jax.jit(parameters.weights).lower(params).cost_analysis()["flops"]

    def cost(size):
        (rows, *_), (columns, *_) = image.axis_tiles(image.view(size, size), size)
        lowered = render_region.lower(params, rows, columns, None)
        sides = [len(level.coordinate) for level in rows.levels]
        return lowered.cost_analysis()["flops"] - weights, sides

    (whole, cells), (part, fewer) = cost(256), cost(64)
    if family == "inr_gan":
        assert cells == [32, 64, 128, 256] and fewer == [32, 64, 64, 64]
    assert whole == pytest.approx(products(params.spec, cells), rel=0.05)
    assert part == pytest.approx(products(params.spec, fewer), rel=0.05)
    assert whole > ratio * part


def products(spec, sides) -> float:
    """FLOPs of the matrix products alone, multiply-first, on square grids of these sides."""
    side_of = dict(zip(spec.levels, sides, strict=True))
    total, below = 0, 0
    for block in spec.blocks:
        n = side_of[block.size] ** 2
        for i, layer in enumerate((*block.layers, block.rgb)):
            at = below if i == 0 and block.upsample > 1 else n
            total += 2 * layer.outputs * (layer.h * at + layer.e * n)
        below = n
    return total


def test_gradient_is_the_derivative():
    image = image_of("inr_gan")
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (7, 2)).astype(np.float32)
    got = image.gradient(points, superres_from=0)

    def one(point):
        return inr.points_one(image.params, point[None], superres_from=0)[0]

    backwards = jax.vmap(jax.jit(jax.jacrev(one)))(points)
    assert relative(got, backwards) < 1e-4
    step = np.float32(1e-3)
    for axis, shift in enumerate(step * np.eye(2, dtype=np.float32)):
        ahead, behind = (image.points(points + s, superres_from=0) for s in (shift, -shift))
        expected = (np.asarray(ahead, np.float64) - behind) / (2 * step)
        error = np.abs(got[..., axis] - expected)  # a kink of an activation may lie in between
        assert np.median(error) < 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_of_a_snapped_level_is_zero_there(name):
    image = image_of(name)
    assert image.gradient(np.zeros((3, 2))).shape == (3, 3, 2)
    levels = len(image.params.spec.levels)
    assert not np.any(image.gradient(np.asarray([[0.1, 0.2]]), superres_from=levels))


def test_samples_are_averaged():
    image = image_of("inr_gan")
    fine = image.render(60, 40, superres_from=3)
    averaged = image.render(20, 10, samples=4, superres_from=3)
    expected = image.render(40, 20, superres_from=3).reshape(10, 2, 20, 2, 3).mean((1, 3))
    assert_same(averaged, expected, fine)
    stitched = np.empty_like(averaged)
    for row, column, pixels in image.tiles(20, 10, 7, samples=4, superres_from=3):
        stitched[row : row + pixels.shape[0], column : column + pixels.shape[1]] = pixels
    assert_same(stitched, averaged, fine)


def test_beyond_the_frame():
    """Phases go on; tables are clamped or mirrored, which a network of a table alone shows."""
    table = Embedding(table=3)
    config = size_config(embedding_coarse=table, embedding_fine=table, height=16, width=16)
    image = ContinuousImage(random_params(config, 1)[0])
    full = native(image)
    wide = image.render(48, 48, window=(-3, -3, 3, 3))
    assert_same(wide[16:32, 16:32], full, wide)
    assert_same(wide[:16, 16:32], np.broadcast_to(full[:1], full.shape), wide)
    mirrored = image.render(48, 48, window=(-3, -3, 3, 3), tables="reflect")
    assert_same(mirrored[:16, 16:32], full[::-1], wide)
    assert np.isfinite(image_of("paper").render(20, 20, window=(-9, -9, 9, 9))).all()


def test_bilinear_network_is_continuous():
    """-bil has no visible cells: neighbours at 4x differ far less than native neighbours do."""
    image = image_of("inr_gan_bil")
    fine, coarse = image.render(256, 256, density=math.inf), native(image)
    assert np.abs(np.diff(fine, axis=1)).mean() < 0.3 * np.abs(np.diff(coarse, axis=1)).mean()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": -3}, "width must be a whole number"),
        ({"height": 2.5}, "height must be a whole number"),
        ({"window": (1, -1, -1, 1)}, "is empty"),
        ({"window": (0, 0, 1)}, "four numbers"),
        ({"window": (0, 0, 1, math.nan)}, "four numbers"),
        ({"samples": 3}, "no square number"),
        ({"align": "middle"}, "edge, center or corners"),
        ({"tables": "wrap"}, "clamp or reflect"),
        ({"density": 0.5}, "1 or more"),
        ({"superres_from": 9}, "levels 0 to 2"),
        ({"tile": 3}, "unknown option 'tile'"),
    ],
)
def test_views_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        image_of("inr_gan").render(**options)
    assert "\n" not in str(caught.value)


def test_points_of_wrong_shape_and_of_dependent_pixels():
    with pytest.raises(ValueError, match=r"points must be \[n, 2\]"):
        image_of("inr_gan").points([0.0, 1.0])
    with pytest.raises(ValueError, match="not pixel-independent"):
        image_of("inr_gan_bil").points([[0.0, 1.0]])


def test_tables_are_interpolated_between_cells():
    table = jnp.arange(4.0).reshape(1, 2, 2)  # rows from the top: [[0, 1], [2, 3]]
    place = between_cells(jnp.asarray([[-0.5, -1.0], [-1.0, -0.5]]), (2, 2), "symmetric",
                          math.inf, reflect=False)  # fmt: skip
    np.testing.assert_allclose(place.table(table)[0], [2.5, 1.0])


def test_grid_points_are_the_pixels_of_the_native_render():
    image = image_of("inr_gan")
    points = np.asarray(coords.grid_points(32, 32))
    assert_same(np.asarray(image.points(points)).reshape(32, 32, 3), image.render(), native(image))
