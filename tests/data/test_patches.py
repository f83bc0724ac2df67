"""Pictures of any sizes: what is used of them, and windows that are functions of (seed, k)."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inr_gan_jax.data.patches import Sizes, look_at, open_patches
from inr_gan_jax.data.pipeline import batches
from inr_gan_jax.errors import UserError
from inr_gan_jax.models.sizes import SHAPES, aspect_of, check_size, nominal, of_aspect

SIZES = Sizes(largest=40, whole=0.25, scales="uniform")


def smooth(width, height, number=0, mode="RGB"):
    """A picture whose colours tell the place: red to the right, green downwards."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    pixels = np.stack([255 * x, 255 * y, np.full_like(x, 40 * number)], -1)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


@pytest.fixture
def photos(tmp_path):
    """Five of 16 pixels or more, of three kinds, one of them turned; one smaller; no picture."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    smooth(16, 16).save(folder / "a.png")
    smooth(60, 40, 1).save(folder / "b.webp", lossless=True)
    smooth(33, 47, 2).save(folder / "below" / "c.tif")
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth(90, 50, 3).save(folder / "d.jpg", exif=turned, quality=100)
    smooth(24, 24, 4, "L").save(folder / "e.gif")
    smooth(12, 60).save(folder / "small.png")
    (folder / "dataset.json").write_text("{}")
    return folder


def opened(path, **options):
    defaults = {"height": 16, "width": 16, "channels": 3, "labels": False, "sizes": SIZES}
    return open_patches(look_at(str(path)), **defaults | options)


@given(
    st.integers(1, 300),
    st.integers(4, 300),
    st.sampled_from(["uniform", "log"]),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_sizes_are_within_reach(own, largest, scales, whole, seed):
    random = np.random.default_rng(seed)
    size = Sizes(largest, whole, scales).draw(random, 16, own)
    assert size % 4 == 0 and 16 <= size <= max(16, min(own, largest))


def test_sizes_are_spread():
    """Uniform over multiples of four, ends included; in logarithms half are below the root."""
    random = np.random.default_rng(0)
    drawn = np.array([Sizes(64, 0.0, "uniform").draw(random, 16, 100) for _ in range(4000)])
    counts = np.unique_counts(drawn)
    np.testing.assert_array_equal(counts.values, np.arange(16, 65, 4))
    assert counts.counts.min() > 0.8 * 4000 / 13
    drawn = [Sizes(64, 0.0, "log").draw(random, 16, 100) for _ in range(4000)]
    assert 0.4 < np.mean(np.array(drawn) < 32) < 0.6
    drawn = [Sizes(64, 0.5, "uniform").draw(random, 16, 100) for _ in range(4000)]
    assert 0.5 < np.mean(np.array(drawn) == 16) < 0.6


def test_what_is_used_is_told(photos):
    source = opened(photos)
    assert len(source) == 5
    assert source.told == [
        "patches of 16x16 of pictures whose longer side is 16 to 50, at sizes from 16 to 40",
        "left out: 1 smaller than a patch, 0 that cannot be read",
    ]
    image, _ = source[0]
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8
    assert source[4][0].std() > 0  # grey as RGB


def test_a_patch_is_its_window_of_the_picture(photos):
    """Of the colours that its places have, whatever the size; upright, cut from the middle."""
    source = opened(photos)
    random = np.random.default_rng(0)
    seen = set()
    for index in itertools.chain.from_iterable([range(4)] * 20):
        picture, label = source.raw(index)
        assert picture.width == picture.height and label == 0
        image, window = source.patch((picture,), random)
        size, top, left = window.tolist()
        seen.add(size)
        assert 0 <= top <= size - 16 and 0 <= left <= size - 16
        at = (np.arange(16) + 0.5) / size
        shown = picture.resize((size, size), Image.Resampling.LANCZOS)
        whole = np.asarray(shown)[top : top + 16, left : left + 16].astype(int)
        assert np.abs(image.astype(int) - whole).max() <= 3
        if index == 0:
            np.testing.assert_allclose(image[0, :, 0], 255 * (left / size + at), atol=9)
            np.testing.assert_allclose(image[:, 0, 1], 255 * (top / size + at), atol=9)
    assert {16, 40} <= seen and len(seen) > 4
    turned, _ = source.raw(3)
    pixels = np.asarray(turned).astype(int)
    assert pixels[0, -1, 1] < pixels[0, 0, 1]  # what was below lies left


def test_a_mirrored_patch_is_of_the_mirrored_picture(photos):
    source = opened(photos)
    picture, _ = source.raw(1)
    image, window = source.patch((picture,), np.random.default_rng(1))
    mirrored, other = source.mirrored((image, window))
    size, top, left = other.tolist()
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_allclose(
        mirrored.astype(int), source._cut(flipped, size, top, left).astype(int), atol=1
    )


@pytest.mark.parametrize("mirror", [False, True])
def test_patches_are_functions_of_seed_and_number(photos, mirror):
    """However they are read, and from wherever one goes on."""
    source = opened(photos)

    def read(count, **options):
        options = {"seed": 3, "batch_size": 4, "mirror": mirror, "threads": 0} | options
        reader = batches(source, **options)
        found = list(itertools.islice(reader, count))
        reader.close()
        return found

    whole = read(6)
    assert whole[0]["window"].dtype == np.int32 and whole[0]["window"].shape == (4, 3)
    for key in ("image", "window"):
        joined = [np.concatenate([b[key] for b in pair]) for pair in zip(
            read(6, process_index=0, process_count=2, threads=2),
            read(6, process_index=1, process_count=2), strict=True)]  # fmt: skip
        for one, other, later in zip(whole[2:], joined[2:], read(4, start_image=8), strict=True):
            np.testing.assert_array_equal(one[key], other)
            np.testing.assert_array_equal(one[key], later[key])
    windows = np.concatenate([b["window"] for b in whole])
    assert len(np.unique(windows, axis=0)) >= 8
    assert not np.array_equal(read(1, seed=4)[0]["window"], whole[0]["window"])


def test_shapes_are_those_that_models_can_have(photos):
    for shape, wanted in {
        1.0: "1:1", 1.4: "4:3", 0.7: "2:3", 1.5: "3:2", 0.667: "2:3", 0.75: "3:4",
        16 / 9: "7:4", 2.2: "9:4", 0.1: "1:4", 9.0: "4:1", 0.8: "4:5",
    }.items():  # fmt: skip
        assert aspect_of(shape) == wanted
    assert look_at(str(photos)).shape() == pytest.approx(0.85, abs=0.01)  # .2, .56, .7, 1, 1, 1.5


@given(st.sampled_from(SHAPES), st.sampled_from([8, 16, 32, 256]))
def test_sizes_of_shapes_are_sizes_of_models(shape, side):
    """Exactly of that shape, the same when asked again, and halved down to 8 without a rest."""
    aspect = f"{shape.numerator}:{shape.denominator}"
    height, width = of_aspect(aspect, side, side)
    assert width * shape.denominator == height * shape.numerator
    assert of_aspect(aspect, height, width) == (height, width)
    check_size(height, width, beside=True)
    final = nominal(height, width)
    assert final == side
    assert all((n * 4) % final == 0 for n in (height, width))


def test_the_shape_of_the_model_is_cut_from_the_middle(photos):
    source = opened(photos, width=8)
    assert source[0][0].shape == (16, 8, 3)
    picture, _ = source.raw(0)
    assert picture.size == (8, 16)
    image, window = source.patch((picture,), np.random.default_rng(0))
    assert image.shape == (16, 8, 3) and window.tolist() == [16, 0, 0]


def test_what_cannot_be(photos):
    with pytest.raises(UserError, match="all 6 pictures of .* are smaller than .* 128x128"):
        opened(photos, height=128, width=128)
    with pytest.raises(UserError, match="has no labels"):
        opened(photos, labels=True)
    with pytest.raises(UserError, match="digits has images of one size"):
        opened("digits")
    (photos / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1 of 7 files .* \(.*bad.png is no image.*max_skipped=1"):
        opened(photos)
    source = opened(photos, max_skipped=1)
    assert len(source) == 6 and "1 that cannot be read" in source.told[1]
    reader = batches(source, seed=0, batch_size=6, mirror=False, threads=0, max_skipped=1)
    assert next(reader)["image"].shape == (6, 16, 16, 3)  # another stands in for it
    reader.close()


def test_whole_pictures_at_the_largest_size_that_they_have(photos):
    """Those that are smaller are left out; the first picture, resized by Pillow alone."""
    source = opened(photos, width=8)
    larger = source.whole_at([16, 24, 4096])
    assert (larger.height, larger.width) == (24, 12) and 2 <= len(larger) < len(source)
    picture, _ = larger.raw(0)
    wanted = picture.resize((12, 24), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(larger[0][0], np.asarray(wanted))
    assert larger.content_hash != source.content_hash
    assert (source.height, source.width) == (16, 8)
    with pytest.raises(UserError, match="no two pictures of the sizes"):
        source.whole_at([5000])


def test_large_jpegs_are_decoded_smaller(tmp_path):
    """At no less than what is looked at; all patches are of that, and near those of the whole."""
    whole = smooth(400, 300)
    for name in ("a.jpg", "b.png"):
        whole.save(tmp_path / name, quality=98)
    source = opened(tmp_path)
    (small, _), (large, _) = source.raw(0), source.raw(1)
    assert small.size == (75, 75) and large.size == (300, 300)  # a quarter: the next is under 40
    for size, top, left in ((16, 0, 0), (40, 11, 20)):
        cuts = [source._cut(p, size, top, left).astype(int) for p in (small, large)]
        assert np.abs(cuts[0] - cuts[1]).max() <= 4
    wider = opened(tmp_path, sizes=Sizes(largest=200, whole=0.25, scales="uniform"))
    assert wider.raw(0)[0].size == (300, 300)
    assert source.whole_at([200])[0][0].shape == (200, 200, 3)
    assert source.whole_at([200]).raw(0)[0].size == (300, 300)
