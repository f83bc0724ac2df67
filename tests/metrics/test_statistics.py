"""Statistics of features: golden values, slow versions, properties; and the pixel detector."""

import functools
import math

import jax
import numpy as np
import pytest
import scipy.linalg
from helpers.golden import load
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import polynomial_kernel

from inr_gan_jax.metrics import neighbours, pixel
from inr_gan_jax.metrics.neighbours import precision_recall
from inr_gan_jax.metrics.statistics import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    mmd2,
    ppl,
)

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def moments_of(*batches) -> Moments:
    moments = Moments(batches[0].shape[1])
    for batch in batches:
        moments.add(batch)
    return moments


def correlated(rng, n: int, features: int, decay: float = 2.0) -> np.ndarray:
    """Samples whose variances fall by `decay` orders of magnitude squared, in mixed directions."""
    mix = np.linalg.qr(rng.standard_normal((features, features)))[0]
    return (rng.standard_normal((n, features)) * np.logspace(0, -decay, features)) @ mix


def slow_mmd2(x, y) -> float:
    kernel = functools.partial(polynomial_kernel, degree=3, coef0=1)  # gamma is 1 / features
    xx, yy = kernel(x)[~np.eye(len(x), dtype=bool)], kernel(y)[~np.eye(len(y), dtype=bool)]
    return xx.mean() + yy.mean() - 2 * kernel(x, y).mean()


def test_golden_values():
    golden = load("metrics")
    real, made = golden["features_real"], golden["features_gen"]
    fid = frechet_distance(moments_of(real), moments_of(made))
    assert fid == pytest.approx(float(golden["fid"]), rel=1e-6)
    kid = mmd2(real[:400], made)
    assert kid == pytest.approx(float(golden["kid_single_subset_400"]), rel=1e-6)
    assert precision_recall(real, made) == (golden["precision"], golden["recall"])
    assert precision_recall(real, made, tile=171) == (golden["precision"], golden["recall"])
    expected = golden["is_mean"], golden["is_std"]
    np.testing.assert_allclose(inception_score(golden["probs"]), expected, rtol=1e-6)


@few
@given(seeds, st.integers(1, 7), st.integers(2, 40), st.sampled_from([0, 1e4]))
def test_streaming_is_the_same_as_the_whole(seed, features, n, offset):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)) + offset
    cuts = np.sort(rng.integers(0, n + 1, 4))
    batches = np.split(rng.permutation(x), cuts)  # some may be empty
    streamed = moments_of(*batches)
    merged = Moments(features)
    for i in rng.permutation(len(batches)):
        merged.merge(moments_of(batches[i]))
    passed_on = Moments.from_arrays(streamed.to_arrays())
    for moments in (moments_of(x), streamed, merged, passed_on):
        assert moments.count == n
        np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-10, atol=1e-10)
        expected = np.cov(x, rowvar=False).reshape(features, features)
        np.testing.assert_allclose(moments.covariance, expected, rtol=1e-10, atol=1e-10)


def test_what_was_passed_on_and_what_goes_on_are_apart():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 5))
    first = moments_of(x[:20])
    arrays = first.to_arrays()
    second = Moments.from_arrays(arrays)
    first.add(x[20:])
    np.testing.assert_allclose(second.covariance, np.cov(x[:20].T), rtol=1e-12)
    second.add(x[20:])
    again = Moments.from_arrays(arrays)
    np.testing.assert_allclose(again.covariance, np.cov(x[:20].T), rtol=1e-12)
    for moments in (first, second):
        np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-12)


def test_features_that_are_none():
    moments = Moments(3)
    for bad in (np.zeros((2, 4)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"must be \[n, 3\]"):
            moments.add(bad)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            moments.add(np.array([[0, 1, 2], [0, bad, 2]]))
    moments.add(np.ones((1, 3)))
    with pytest.raises(ValueError, match="at least 2 samples, not 1"):
        frechet_distance(moments, moments_of(np.eye(3)))


@pytest.mark.parametrize("n,m", [(300, 400), (40, 30), (200, 30)])  # of 64 features
def test_frechet_distance_is_that_of_the_matrix_root(n, m):
    rng = np.random.default_rng(n)
    x, y = correlated(rng, n, 64), correlated(rng, m, 64) + 0.1
    s, t = np.cov(x.T), np.cov(y.T)
    rest = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s) + np.trace(t)
    found = frechet_distance(moments_of(x), moments_of(y))
    by_root = rest - 2 * np.trace(scipy.linalg.sqrtm(s @ t)).real
    assert found == pytest.approx(by_root, rel=1e-6)
    # tr sqrt(S T) without a covariance: S = X'X, T = Y'Y, and the root is of X Y'.
    x, y = (a - a.mean(0) for a in (x, y))
    root = scipy.linalg.svdvals(x @ y.T).sum() / math.sqrt((n - 1) * (m - 1))
    assert found == pytest.approx(rest - 2 * root, rel=1e-10)


@few
@given(seeds, st.integers(2, 30), st.integers(2, 30))
def test_frechet_distance_is_a_distance(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = moments_of(correlated(rng, n, 12)), moments_of(correlated(rng, m, 12) + 1)
    distance = frechet_distance(a, b)
    assert distance > 0 and frechet_distance(b, a) == pytest.approx(distance, rel=1e-10)
    assert 0 <= frechet_distance(a, a) < 1e-12
    # Independent features: the formula for one, added up.
    deviations = rng.uniform(0.1, 2, (2, 12))
    means = rng.standard_normal((2, 12))
    sides = [m + s * np.sqrt(11.5) * np.vstack([np.eye(12), -np.eye(12)])
             for m, s in zip(means, deviations, strict=True)]  # fmt: skip
    expected = np.square(means[0] - means[1]).sum() + np.square(np.subtract(*deviations)).sum()
    assert frechet_distance(*map(moments_of, sides)) == pytest.approx(expected, rel=1e-10)


@few
@given(seeds, st.integers(2, 20), st.integers(2, 20), st.integers(1, 9))
def test_mmd_is_that_of_the_slow_kernel(seed, n, m, features):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, features)), rng.standard_normal((m, features)) + 0.5
    assert mmd2(x, y) == pytest.approx(slow_mmd2(x, y), rel=1e-9, abs=1e-9)
    assert mmd2(y, x) == pytest.approx(mmd2(x, y), rel=1e-9, abs=1e-9)


def test_kernel_distance_is_the_mean_over_subsets():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((300, 8)).astype(np.float32)
    made = (rng.standard_normal((250, 8)) * 1.2).astype(np.float32)
    whole = slow_mmd2(np.float64(real), np.float64(made))
    # Subsets without repetition, and of all that there are, are all the same.
    assert kernel_distance(real[:250], made, subsets=3, seed=1) == pytest.approx(
        slow_mmd2(np.float64(real[:250]), np.float64(made)), rel=1e-9
    )
    values = [kernel_distance(real, made, subsets=50, size=100, seed=s) for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    np.testing.assert_allclose(values, whole, rtol=0.3)
    one = [kernel_distance(real, made, subsets=1, size=100, seed=s) for s in range(20)]
    assert np.std(one) > 3 * abs(values[0] - values[2])  # that is what subsets are for
    with pytest.raises(ValueError, match="at least 2 samples"):
        kernel_distance(real[:1], made, seed=0)


def test_kernel_distance_is_unbiased():
    """Around 0, not above, for sets of the same kind, however small they are."""
    rng = np.random.default_rng(0)
    found = [mmd2(*rng.standard_normal((2, 10, 6))) for _ in range(400)]
    assert min(found) < 0 and abs(np.mean(found)) < 3 * np.std(found) / 20
    assert mmd2(*rng.standard_normal((2, 100, 6)) + [[[0]], [[0.5]]]) > 0.2


def slow_inception_score(probabilities, splits) -> tuple[float, float]:
    n, scores = len(probabilities), []
    for i in range(splits):
        rows = [
            list(map(float, row)) for row in probabilities[i * n // splits : (i + 1) * n // splits]
        ]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        kl = [sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True) if p) for row in rows]
        scores.append(math.exp(sum(kl) / len(kl)))
    mean = sum(scores) / splits
    return mean, math.sqrt(sum((s - mean) ** 2 for s in scores) / splits)


@few
@given(seeds, st.integers(1, 10), st.integers(10, 40), st.integers(1, 6))
def test_inception_score_is_that_of_plain_loops(seed, splits, n, classes):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.3), n).astype(np.float32)
    p[rng.random(p.shape) < 0.2] = 0  # a softmax in float32 has zeros
    found, expected = inception_score(p, splits), slow_inception_score(p, splits)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_inception_score_between_its_bounds():
    classes = np.eye(5)[np.arange(100) % 5]
    np.testing.assert_allclose(inception_score(classes), (5, 0), atol=1e-12)
    np.testing.assert_allclose(inception_score(np.full((100, 5), 0.2)), (1, 0), atol=1e-12)
    with pytest.raises(ValueError, match="10 splits need at least 10 images, not 9"):
        inception_score(classes[:9])


@few
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_path_length_is_the_mean_within_percentiles(distances):
    ordered, last = sorted(distances), len(distances) - 1
    low, high = ordered[last // 100], ordered[-(-99 * last // 100)]
    kept = [d for d in distances if low <= d <= high]
    assert ppl(np.array(distances)) == pytest.approx(math.fsum(kept) / len(kept), rel=1e-12)


def test_path_length_leaves_out_what_is_outermost():
    assert ppl(np.r_[np.full(198, 2.0), 0, 1e9]) == 2
    with pytest.raises(ValueError, match="at least one"):
        ppl(np.zeros(0))


def slow_precision_recall(real, made, k, slack=0.0) -> tuple[float, float]:
    """By all distances in float64; `slack` is added to the squares of the radii."""

    def radii(x):
        others = cdist(x, x, "sqeuclidean")
        np.fill_diagonal(others, np.inf)
        return np.sort(others)[:, k - 1] + slack

    across = cdist(real, made, "sqeuclidean")
    in_real, in_made = across <= radii(real)[:, None], across <= radii(made)
    return in_real.any(axis=0).mean(), in_made.any(axis=1).mean()


@few
@given(seeds, st.sampled_from([1, 3]), st.sampled_from([16, 100]))
def test_precision_and_recall_are_those_of_all_distances(seed, k, tile):
    rng = np.random.default_rng(seed)
    middle = 1000 * rng.standard_normal(5)  # which float32 needs taken away
    real = (rng.standard_normal((37, 5)) + middle).astype(np.float32)
    made = (rng.standard_normal((23, 5)) + middle + 0.3).astype(np.float32)
    found = precision_recall(real, made, k, tile)
    exact = functools.partial(slow_precision_recall, *map(np.float64, (real, made)), k)
    for low, value, high in zip(exact(-1e-4), found, exact(1e-4), strict=True):
        assert low <= value <= high
    assert precision_recall(made, real, k, tile) == found[::-1]
    assert precision_recall(real, real, k, tile) == (1, 1)


def test_precision_and_recall_at_their_extremes():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((50, 4))
    assert precision_recall(real, real + 100) == (0, 0)
    # One generated point in the midst of all: precise, and far from whole.
    precision, recall = precision_recall(real, real.mean(0) + 1e-3 * rng.standard_normal((20, 4)))
    assert precision == 1 and recall < 0.1
    same = np.ones((9, 3))
    assert precision_recall(same, same) == (1, 1)
    for bad in (real[:3], real[:, :3], real[0]):
        with pytest.raises(ValueError, match=r"k = 3 needs two sets \[more than 3, features\]"):
            precision_recall(real, bad)
    with pytest.raises(ValueError, match="finite"):
        precision_recall(real, np.where(real > 2, np.nan, real))


def test_distances_are_never_held_but_for_a_tile(monkeypatch):
    shapes = set()
    whole = neighbours._squared_distances

    def watched(a, b):
        shapes.add((*a.shape, *b.shape))
        return whole(a, b)

    monkeypatch.setattr(neighbours, "_squared_distances", watched)
    rng = np.random.default_rng(0)
    real, made = rng.standard_normal((50, 7)), rng.standard_normal((41, 7))
    assert precision_recall(real, made, tile=16) == precision_recall(real, made, tile=50)
    assert {(16, 7, 16, 7), (2, 7, 16, 7), (9, 7, 2, 7), (50, 7, 50, 7)} <= shapes
    small = shapes - {(50, 7, 50, 7), (41, 7, 41, 7), (41, 7, 50, 7)}
    assert max(max(a, b) for a, _, b, _ in small) == 16


@functools.cache
def photographs(n=60, height=12, width=10, channels=3) -> np.ndarray:
    """Noise whose pixels resemble their neighbours."""
    noise = np.random.default_rng(0).standard_normal((n, height, width, channels))
    smooth = noise.cumsum(1).cumsum(2)
    return np.clip(128 + 12 * smooth, 0, 255).astype(np.uint8)


def test_pixel_features_are_principal_components():
    images = photographs()
    params = pixel.fit(np.array_split(images, 7))
    found = np.asarray(jax.jit(pixel.features)(params, images))
    assert params["mean"].shape == (360,) and params["basis"].shape == (360, 59)
    flat = images.reshape(60, -1) / 255
    pca = PCA(59).fit(flat)
    expected = pca.transform(flat)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found[:, :20] * signs[:20], expected[:, :20], atol=1e-5)
    np.testing.assert_allclose(found.var(0, ddof=1), pca.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(params["basis"].T @ params["basis"], np.eye(59), atol=1e-5)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    largest = np.abs(params["basis"]).argmax(0)
    assert (params["basis"][largest, range(59)] > 0).all()
    more = pixel.fit([photographs(100, 7, 11, 1)])
    assert more["basis"].shape == (77, 64)


def test_the_pixel_basis_is_the_same_for_any_batches():
    images = photographs()
    params = pixel.fit([images])
    others = pixel.fit(images[::-1][i : i + 11] for i in range(0, 60, 11))
    for name, array in params.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(others[name], array, atol=2e-5)


@pytest.mark.parametrize(
    "size,small", [((128, 64), (32, 16)), ((49, 100), (16, 32)), ((3, 640), (1, 32))]
)
def test_pixel_features_of_large_images_are_those_of_averages(size, small):
    images = photographs(2, *size)
    # Each pixel as a block of equal ones: cells of a small image end between those.
    fine = images.repeat(small[0], axis=1).repeat(small[1], axis=2)
    cells = fine.reshape(2, small[0], size[0], small[1], size[1], 3) / 255
    np.testing.assert_allclose(pixel._vectors(images), cells.mean((2, 4)).reshape(2, -1), atol=1e-6)


def test_pixels_of_small_images_are_kept():
    images = photographs(3, 32, 31)
    np.testing.assert_allclose(pixel._vectors(images), images.reshape(3, -1) / 255, atol=1e-7)


def test_pixel_components_are_no_more_than_the_images_have():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (50, 1, 1, 3), dtype=np.uint8)
    params = pixel.fit([np.broadcast_to(colours, (50, 40, 14, 3))])  # averaged, with rounding
    assert params["basis"].shape == (32 * 11 * 3, 3)
    images = np.full((500, 9, 8, 3), 77, np.uint8)
    images[123, 4, 5, 1] += 1  # the least that can be
    (component,) = pixel.fit([images])["basis"].T
    np.testing.assert_allclose(component.reshape(9, 8, 3)[4, 5, 1], 1, atol=1e-5)
    with pytest.raises(ValueError, match="all images are the same"):
        pixel.fit([np.full((5, 64, 15, 1), 77, np.uint8)])
    with pytest.raises(ValueError, match="no images"):
        pixel.fit([])
    with pytest.raises(ValueError, match="must be uint8, not float32"):
        pixel.fit([np.zeros((5, 4, 4, 3), np.float32)])
    with pytest.raises(ValueError, match="Incompatible shapes"):
        pixel.features(params, np.zeros((5, 4, 4, 3), np.uint8))


@pytest.mark.reference
def test_torch_fidelity_finds_the_same():
    import torch
    from torch_fidelity import metric_fid as fid
    from torch_fidelity import metric_isc, metric_kid, metric_prc

    rng = np.random.default_rng(0)
    real, made = correlated(rng, 300, 20), correlated(rng, 300, 20) * 1.2 + 0.1
    tensors = torch.from_numpy(real), torch.from_numpy(made)
    statistics = map(fid.fid_features_to_statistics, tensors)
    expected = fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID]
    assert frechet_distance(moments_of(real), moments_of(made)) == pytest.approx(expected, rel=1e-6)

    options = {"kid_subsets": 2, "kid_subset_size": 300, "verbose": False}
    expected = metric_kid.kid_features_to_metric(*tensors, **options)
    found = kernel_distance(real, made, subsets=2, size=300, seed=0)
    assert found == pytest.approx(expected[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-6)

    logits = 3 * rng.standard_normal((105, 12))
    expected = metric_isc.isc_features_to_metric(torch.from_numpy(logits), shuffle=False)
    found = inception_score(scipy.special.softmax(logits, axis=1))
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-6)

    options = {"prc_neighborhood": 3, "prc_batch_size": 100, "verbose": False}
    expected = metric_prc.prc_features_to_metric(*tensors[::-1], save_cpu_ram=True, **options)
    assert precision_recall(real, made, tile=128) == pytest.approx(
        (expected["precision"], expected["recall"]), abs=1e-6
    )
