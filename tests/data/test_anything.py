"""People's folders as they are: every kind of file becomes an image, or is named."""

import io
import json
import zipfile

import numpy as np
import pytest
from helpers.commands import shell
from helpers.samples import picture, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from inr_gan_jax.data import anything, images
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.data.survey import draw
from inr_gan_jax.errors import UserError

SIX = Fit(height=6, width=6)


def read(path, channels=3, labels=False):
    return open_source(
        str(path), height=6, width=6, channels=channels, labels=labels, progress=False
    )


def about(path) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("dataset.json"))


def decode(image: Image.Image, format_: str = "PNG", **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return anything.decode(file.getvalue(), "x")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def test_a_folder_of_every_kind_trains(folder, tmp_path):
    colour = picture(0)
    colour.save(folder / "a.png")
    for number, suffix in enumerate(("tif", "gif", "bmp", "ico", "jp2", "jfif", "webp", "ppm")):
        format_ = {"jfif": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "ico": "ICO"}.get(suffix)
        options = {"sizes": [(6, 6)]} if suffix == "ico" else {}
        picture(number).save(folder / f"{number}.{suffix}", format_, **options)
    picture(9).save(folder / "png without a suffix", "PNG")
    picture(8).convert("RGBA").save(folder / "rgba.png")
    picture(7).convert("LA").save(folder / "la.png")
    picture(6).convert("L").save(folder / "l.png")
    picture(5).quantize(8).save(folder / "p.png")
    for hidden in (".DS_Store", "Thumbs.db", "._a.png", "@eaDir/a.png", "__MACOSX/a.png"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"?")
    dest = tmp_path / "x.zip"
    said = shell("data.prepare", "--source=photos --dest=x.zip --width=6 --height=6", tmp_path)
    assert said.code == 0 and "left out" not in said.err
    assert "14 images (9 RGB, 2 P, 1 L, 1 LA, 1 RGBA) become RGB" in said.err
    assert "2 transparent images are laid over white: --channels=4 keeps it" in said.err
    assert len(read(dest)) == 14
    assert about(dest)["prepared"]["count"] == 14


def test_what_training_does_not_read_is_not_left_out_silently(folder):
    picture(0).save(folder / "a.png")
    picture(1).save(folder / "b.tif")
    with pytest.raises(UserError, match=r"photos holds 1 files of kinds .*b.tif.*prepare"):
        read(folder)
    (folder / "b.tif").rename(folder / "b.txt")
    assert len(read(folder)) == 1


@pytest.mark.parametrize(
    "modes, channels",
    [
        (("L", "L"), 1),
        (("L", "1"), 1),
        (("L", "LA"), 1),
        (("L", "RGB"), 3),
        (("RGB", "RGBA"), 3),
        (("RGBA", "LA"), 4),
        (("L", "P"), 3),
    ],
)
def test_channels_are_the_fewest_that_hold_all(folder, tmp_path, modes, channels):
    for number, mode in enumerate(modes):
        picture(number).convert(mode).save(folder / f"{number}.png")
    record = prepare(str(folder), str(tmp_path / "x.zip"), SIX, progress=False)
    assert record["channels"] == channels
    for asked in (1, 3, 4):
        fit, dest = Fit(height=6, width=6, channels=asked), tmp_path / f"{asked}.zip"
        assert prepare(str(folder), str(dest), fit, progress=False)["channels"] == asked


def test_transparency_is_laid_over_white(folder, tmp_path):
    picture(0).save(folder / "a.png")
    Image.new("RGBA", (6, 6), (9, 9, 9, 0)).save(folder / "b.png")
    prepare(str(folder), str(tmp_path / "x.zip"), SIX, progress=False)
    assert (read(tmp_path / "x.zip")[1][0] == 255).all()


def test_16_bits_and_floats_become_8():
    ramp = np.linspace(0, 65535, 36).reshape(6, 6)
    expected = np.rint(ramp / 257).astype(np.uint8)
    for format_ in ("PNG", "TIFF"):
        made = decode(Image.fromarray(ramp.astype(np.uint16)), format_)
        assert made.mode == "L"
        assert np.abs(np.asarray(made).astype(int) - expected).max() == 0
    made = decode(Image.fromarray((ramp / 65535).astype(np.float32)), "TIFF")
    assert np.abs(np.asarray(made).astype(int) - expected).max() == 0
    for bad in (ramp.astype(np.float32), np.full((6, 6), np.nan, np.float32)):
        with pytest.raises(UserError, match=r"x holds numbers beyond \[0, 1\]"):
            decode(Image.fromarray(bad), "TIFF")
    with pytest.raises(UserError, match="x holds whole numbers beyond 16 bits"):
        decode(Image.fromarray(np.full((6, 6), 1 << 20, np.int32)), "TIFF")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_is_obeyed_or_refused(folder, tmp_path, format_, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stripes = Image.fromarray(np.repeat(np.uint8([[255] * 8 + [0] * 8]), 16, axis=0)).convert("RGB")
    more = {"lossless": True} if format_ == "WEBP" else {}
    made = decode(stripes, format_, exif=exif, **more)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: 2}[orientation]
    off = np.asarray(made).astype(int) - np.asarray(stripes.transpose(turn))
    assert np.abs(off).max() < 20
    if format_ != "TIFF":
        suffix = {"JPEG": "jpg", "MPO": "jpg"}.get(format_, format_.lower())
        stripes.save(folder / f"a.{suffix}", format_, exif=exif, **more)
        with pytest.raises(UserError, match=r"stored rotated.*data.prepare"):
            open_source(str(folder), height=16, width=16, channels=3, labels=False)


def test_wide_gamuts_become_srgb_and_bad_profiles_cost_nothing():
    # LAB's own profile of an sRGB with another white is a gamut that is not sRGB.
    colour = picture(3)
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(np.asarray(decode(colour, icc_profile=same)).astype(int) - colour).max() <= 1
    for damaged in (b"", b"no profile", same[:200], bytes(3 << 20)):
        made = decode(colour, icc_profile=damaged)
        np.testing.assert_array_equal(made, colour)
    wide = _gamma_profile(same)
    made = np.asarray(decode(colour, icc_profile=wide)).astype(int)
    assert np.abs(made - np.asarray(colour)).max() > 8


def _gamma_profile(srgb: bytes) -> bytes:
    """sRGB's profile with its red and blue primaries exchanged: another space of colours."""
    data = bytearray(srgb)
    places = {}
    for number in range(int.from_bytes(data[128:132], "big")):
        start = 132 + 12 * number
        places[bytes(data[start : start + 4])] = start
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = (
        data[blue + 4 : blue + 12],
        data[red + 4 : red + 12],
    )
    return bytes(data)


def test_a_film_behind_a_photograph_and_huge_text_are_no_damage(folder, tmp_path):
    file = io.BytesIO()
    picture(0).save(file, "JPEG")
    (folder / "motion.jpg").write_bytes(file.getvalue() + bytes(3 << 20))
    read(folder)
    (folder / "motion.jpg").write_bytes(file.getvalue()[:-40] + bytes(3 << 20))
    with pytest.raises(UserError, match="truncated"):
        read(folder)
    info = PngImagePlugin.PngInfo()
    info.add_text("much", "x" * (3 << 20), zip=True)
    np.testing.assert_array_equal(decode(picture(1), pnginfo=info), picture(1))


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_animations(folder, tmp_path, format_):
    frames = [Image.new("RGB", (6, 6), (50 * number,) * 3) for number in range(5)]
    more = {"lossless": True} if format_ == "WEBP" else {}
    frames[0].save(
        folder / f"a.{format_.lower()}", format_, save_all=True, append_images=frames[1:], **more
    )
    picture(0).save(folder / "b.png")
    for asked, expected in (("first", [0]), ("all", [0, 50, 100, 150, 200]), ("2", [0, 100])):
        dest = tmp_path / f"{asked}.zip"
        prepare(str(folder), str(dest), SIX, frames=asked, progress=False)
        made = read(dest)
        assert [int(made[i][0][0, 0, 0]) for i in range(len(expected))] == expected
        assert len(made) == len(expected) + 1


def test_bad_files_are_named_and_left_out(folder, tmp_path, capfd):
    for number in range(12):
        picture(number).save(folder / f"{number:02}.png")
    whole = (folder / "00.png").read_bytes()
    (folder / "03.png").write_bytes(b"")
    (folder / "05.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("hello")
    labels = [[f"{number:02}.png", number % 3] for number in range(12)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    dest = tmp_path / "x.zip"
    for workers in (1, 2):
        record = prepare(str(folder), str(dest), SIX, workers=workers, overwrite=True)
        assert record["count"] == 10
        shown = capfd.readouterr().err
        for name in ("03.png", "05.png", "notes.txt"):
            assert f"left out: {folder}/{name}" in shown
        assert "3 files were left out" in shown
    made, good = read(dest, labels=True), [n for n in range(12) if n not in (3, 5)]
    for index, number in enumerate(good):
        np.testing.assert_array_equal(made[index][0], pixels(number))
        assert made[index][1] == number % 3
    dest.unlink()
    with pytest.raises(UserError, match=r"3 of 13 files .*--max_bad=2: .*03.png.*--skip_kinds"):
        prepare(str(folder), str(dest), SIX, max_bad=2, progress=False)
    record = prepare(str(folder), str(dest), SIX, max_bad=2, skip_kinds=["txt"], progress=False)
    assert record["count"] == 10


def test_many_unreadable_files_are_an_error(folder, tmp_path):
    for number in range(40):
        (folder / f"{number:02}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(30))
    for number in range(5):
        picture(number).save(folder / f"{number}.png")
    with pytest.raises(UserError) as caught:
        prepare(str(folder), str(tmp_path / "x.zip"), SIX, progress=False)
    text = str(caught.value)
    assert "40 of 45 files" in text and "and 30 more" in text and "\n" not in text
    assert anything.reads_heic() or "pip install pillow-heif" in text
    assert not list(tmp_path.glob("*.zip*"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_wrapping_folder_is_the_root(folder, to_zip, tmp_path, packed):
    inner = folder / "mydata"
    for number, name in enumerate(("cat/0.png", "cat/1.png", "dog/2.png")):
        (inner / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(inner / name)
    source, dest = to_zip(folder) if packed else folder, tmp_path / "f.zip"
    prepare(str(source), str(dest), SIX, labels="folders", progress=False)
    assert [label for _, label in about(dest)["labels"]] == [0, 0, 1]
    assert about(dest)["classes"] == ["cat", "dog"]
    prepare(str(dest), str(tmp_path / "again.zip"), SIX, progress=False)
    assert about(tmp_path / "again.zip")["classes"] == ["cat", "dog"]
    labels = [["cat/0.png", 2], ["cat/1.png", 0], ["dog/2.png", 1]]
    (inner / "dataset.json").write_text(json.dumps({"labels": labels}))
    source = to_zip(folder, "labelled.zip") if packed else folder
    assert [read(source, labels=True)[i][1] for i in range(3)] == [2, 0, 1]
    (inner / "dog" / "2.png").unlink()
    (inner / "dataset.json").unlink()
    with pytest.raises(UserError, match="one folder of images, so one class"):
        prepare(str(folder), str(dest), SIX, labels="folders", overwrite=True, progress=False)


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    picture(0).save(tmp_path / "elsewhere" / "0.png")
    picture(1).save(folder / "1.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    assert len(read(folder)) == 2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 9))
def test_images_are_drawn_evenly_of_all_classes(classes, most, seed):
    drawn = draw(classes, len(classes), most, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(most, len(classes))
    assert drawn == draw(classes, len(classes), most, seed)
    counts = np.bincount([classes[i] for i in drawn], minlength=5)
    whole = np.bincount(classes, minlength=5)
    for count, all_ in zip(counts, whole, strict=True):
        assert count == all_ or count >= counts.max() - 1
    assert len(draw(None, len(classes), most, seed)) == len(drawn)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["L", "LA", "RGB", "RGBA", "P", "1", "I;16"]),
            st.integers(1, 9),
            st.integers(1, 9),
            st.sampled_from(["", "a/", "a/b/", "ü ö/"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_folder_gives_what_pillow_gives(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("any")
    expected = {}
    for number, (mode, height, width, below) in enumerate(files):
        (folder / below).mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            image = Image.fromarray(
                pixels(number, height, width, 1)[..., 0].astype(np.uint16) * 257
            )
            plain = Image.fromarray(pixels(number, height, width, 1)[..., 0])
        else:
            image = plain = picture(number, height, width).convert(mode)
        image.save(folder / below / f"{number}.png")
        expected[f"{below}{number}.png"] = plain
    fit = Fit(height=4, width=4, crop="center", channels=4)
    dest = folder.parent / f"{folder.name}.zip"
    prepare(str(folder), str(dest), fit, progress=False)
    made = open_source(str(dest), height=4, width=4, channels=4, labels=False)
    assert len(made) == len(expected)
    for index, name in enumerate(sorted(expected)):
        whole = fit(expected[name], name)
        np.testing.assert_array_equal(made[index][0], images.to_pixels(whole, 4, name))
