"""The exported page as a file: whole, on its own, and refused where there is no function."""

import base64
import json
import re

import jax
import numpy as np
import pytest
from helpers.commands import many
from helpers.functions import params_of
from helpers.models import tiny_model

from inr_gan_jax.errors import UserError
from inr_gan_jax.render.inr_file import open_images, save_images
from inr_gan_jax.view.export import export_site, functions_of

NAMES = ["one", "</script><b>two"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    params = functions_of(tiny_model("inr_gan_any", input_resolution=8, rank=2), [0, 1])[0]
    path = export_site(params, NAMES, tmp_path_factory.mktemp("site") / "new", "Two & <more>")
    return params, path, path.read_text()


def block(text: str, name: str) -> str:
    return re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def test_is_one_file_that_asks_for_nothing_from_outside(page):
    _, path, text = page
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    assert not re.search(
        r"https?:|\bfetch\(|\bimport\b|XMLHttpRequest|\bsrc=|<link(?! rel=\"icon\")", text
    )
    assert "default-src 'none'" in text and 'type="module"' not in text


def test_holds_the_functions_bit_by_bit(page, tmp_path):
    params, _, text = page
    file = tmp_path / "x.inr"
    file.write_bytes(base64.b64decode(block(text, "inr")))
    got = open_images(file)
    assert got.spec == params.spec
    jax.tree.map(
        np.testing.assert_array_equal, (got.shared, got.image), (params.shared, params.image)
    )


def test_names_and_titles_are_text_and_no_markup(page):
    _, _, text = page
    assert json.loads(block(text, "about-functions"))["names"] == NAMES
    assert "<title>Two &amp; &lt;more&gt;</title>" in text
    assert text.count("<script") == 3 and "</script><b>" not in text


def test_log_directions_and_amplitudes_are_the_embeddings_own(page):
    params, _, text = page
    waves = json.loads(block(text, "about-functions"))["waves"]
    for b in params.spec.blocks:
        if not b.embedding:
            assert b.name not in waves
            continue
        directions = np.asarray(waves[b.name]["directions"]).reshape(-1, 2)
        np.testing.assert_allclose(directions, b.embedding.log_directions(b.size), rtol=1e-6)
        expected = b.embedding.amplitudes(b.size, len(waves[b.name]["amplitudes"]))
        np.testing.assert_array_equal(waves[b.name]["amplitudes"], expected)


def test_names_tell_seeds_and_classes():
    model = tiny_model("inr_gan_any", classes=3, input_resolution=8, rank=2)
    params, names = functions_of(model, [4, 5], classes=[2, 0])
    assert names == ["seed 4, class 2", "seed 5, class 0"] and len(params) == 2
    one = model.inr(model.styles(seeds=[5], classes=0))[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        params[1].image,
        one.image,
    )


def test_what_is_no_function_is_refused_in_a_line_that_says_why(tmp_path):
    with pytest.raises(UserError, match="no coordinate function"):
        functions_of(tiny_model("stylegan2"), [0])
    bil = params_of("inr_gan_bil")
    with pytest.raises(UserError, match="depend on each other"):
        export_site(bil, ["x"] * len(bil), tmp_path / "site", "x")
    assert not (tmp_path / "site").exists()


def test_nothing_is_overwritten_and_unwritable_folders_are_named(page, tmp_path):
    params, path, text = page
    with pytest.raises(UserError, match="has a page"):
        export_site(params, NAMES, path.parent, "other")
    assert path.read_text() == text
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_site(params, NAMES, tmp_path / "file", "x")


def test_command_exports_an_inr_file_and_says_mistakes_in_a_line(page, tmp_path):
    params, _, _ = page
    save_images(tmp_path / "two.inr", params)
    lines = ["", "", " --seeds=0", " --class_index=1"]
    said = many("view", [f"--checkpoint=two.inr --export=site{line}" for line in lines], tmp_path)
    assert [one.code for one in said] == [0, 2, 2, 2]
    assert "2 functions" in said[0].out and (tmp_path / "site" / "index.html").exists()
    assert "has a page" in said[1].err and "--seeds goes with a generator" in said[2].err
    assert all(one.err.count("\n") == 1 for one in said[1:])
