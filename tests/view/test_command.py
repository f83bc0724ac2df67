"""The command line of view: one picture into a file, and what it refuses."""

import numpy as np
import pytest
from helpers.commands import many
from helpers.models import mild_model, write_checkpoint
from PIL import Image

from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.inr_file import open_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    write_checkpoint(folder / "runs", mild_model("inr_gan", size=16, classes=3))
    return folder


RUN = "--checkpoint=runs"
WRONG = {
    f"{RUN} --picture=seeds=1": "--picture needs --dest=x.png",
    f"{RUN} --picture=seeds=1 --export=site --dest=x.png": "--export or --picture, one of the two",
    f"{RUN} --dest=x.png": "--dest goes with --picture",
    f"{RUN} --seeds=1": "--seeds goes with --export",
    f"{RUN} --export=site --port=80": "--port goes with neither --export nor --picture",
    f"{RUN} --picture=seed=1 --dest=y.png": "'seed' is not one of",
    f"{RUN} --picture=seeds=1 --dest=y.exe": "must be one of .png",
    f"{RUN} --picture=seeds=1 --window=1,1,0,0 --dest=y.png": "is empty",
    f"{RUN} --picture=seeds=1&class=7 --dest=y.png": "classes must be 0 to 2",
    f"{RUN} --host=no.such.host.example --no_open": "cannot be used",
    "--checkpoint=nothing --no_open": "nothing: no such folder",
    "--checkpoint=a.inr --ema=0.05": "--ema goes with a generator",
}


def test_mistakes_are_one_line(folder):
    lines = [line.replace("--picture=", "--picture='", 1) for line in WRONG]
    lines = [" ".join(f"{w}'" if w.startswith("--picture='") else w for w in line.split())
             for line in lines]  # fmt: skip
    for said, expected in zip(many("view", lines, folder), WRONG.values(), strict=True):
        assert said.code != 0 and expected in said.err, (expected, said)
        assert said.err.count("\n") == 1
    assert sorted(p.name for p in folder.iterdir()) == ["runs"]


def test_a_picture(folder):
    """Between two images, as `Model.interpolate`; as a file of its function, too."""
    between = f"{RUN} --picture='seeds=1,2&u=0.25&class=1'"
    lines = [
        f"{between} --size=40x30 --window=-1,-1,0,0.5 --dest=a.png",
        f"{between} --dest=a.inr",
        f"{RUN} --picture='seeds=1' --dest=a.png",
    ]
    png, inr, again = many("view", lines, folder)
    assert (png.code, inr.code) == (0, 0), (png, inr)
    assert "a.png: 40x30" in png.out
    image = mild_model("inr_gan", size=16, classes=3).interpolate(1, 2, 0.25, classes=1)
    want = to_uint8(image.render(40, 30, window=(-1, -1, 0, 0.5)))[..., 0].astype(int)
    assert np.abs(np.asarray(Image.open(folder / "a.png")) - want).max() <= 1
    opened = open_images(folder / "a.inr")
    assert len(opened) == 1
    assert again.code != 0 and "a.png exists" in again.err
