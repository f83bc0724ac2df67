"""The viewer's server: tiles, saves, and what it refuses."""

import contextlib
import io
import re
import shlex
import threading
import urllib.request

import av
import jax
import jax.monitoring
import numpy as np
import pytest
from helpers.models import mild_model, tiny_model, write_checkpoint
from helpers.viewer import running
from PIL import Image

from inr_gan_jax.model import load
from inr_gan_jax.pictures.pixels import to_uint8
from inr_gan_jax.render.image import open_image
from inr_gan_jax.render.inr_file import open_images, save_images
from inr_gan_jax.render.steady import Steady
from inr_gan_jax.storage.events import SummaryWriter
from inr_gan_jax.view import serve, server
from inr_gan_jax.view.shown import Generated, Opened


@pytest.fixture(scope="module")
def model():
    return mild_model("inr_gan", size=16, classes=3)


@pytest.fixture(scope="module")
def asked(model):
    with running(Generated(model)) as viewer:
        yield viewer


@contextlib.contextmanager
def compiling():
    """What is compiled meanwhile."""
    found = []

    def listen(event, *_, **__):
        if active and "backend_compile" in event:
            found.append(event)

    active = [True]
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        active.clear()


def pixels(png: bytes) -> np.ndarray:
    image = np.asarray(Image.open(io.BytesIO(png)))
    return image if image.ndim == 3 else image[..., None]


def test_tiles_are_the_renders_pixels(asked, model):
    """Of a window near, far, beyond the frame, and of an image between others."""
    world = asked.studio.artist.source.world
    image = model.image(seed=5, classes=2)
    for level, column, row in ((0, 0, 0), (3, 1, 1), (3, 0, 2), (12, 700, 900)):
        area = world.tile(level, column, row)
        _, png, headers = asked(f"tiles/x/{level}/{column}_{row}.png?seeds=5&class=2")
        window = world.window(level, area)
        want = Steady(image, world.least).render(*area[2:], window=window)
        np.testing.assert_array_equal(pixels(png), to_uint8(want))
        # Programs of other shapes add in another order: rarely a pixel lies where 8 bits part.
        other = to_uint8(image.render(*area[2:], window=window)) != pixels(png)
        assert other.mean() < 1e-3
        assert headers["cache-control"] == "no-store"  # x is no version of its pictures
    between = model.interpolate(1, 2, 0.25, classes=0)
    _, png, headers = asked(f"tiles/{asked.studio.version}/3/1_1.png?seeds=1,2&u=0.25&class=0")
    area = world.tile(3, 1, 1)
    want = to_uint8(between.render(*area[2:], window=world.window(3, area))).astype(int)
    assert np.abs(pixels(png) - want).max() <= 1 and "max-age" in headers["cache-control"]


def test_no_control_compiles(asked):
    tile = f"tiles/{asked.studio.version}/7/"
    pictures = [
        "seeds=9", "seeds=8&psi=0.5", "seeds=7&class=1", "seeds=7&mix=3&layers=1-2",
        "seeds=5&level=0&density=inf", "seeds=5&level=1&density=2", "seeds=5&tables=reflect",
        *(f"seeds={seeds}&u=0.2&v=0.7&space={space}{label}" for seeds in ("6,7", "9,8,7,6")
          for space in ("weights", "style", "latent") for label in ("&class=2", "")
          if label or space != "latent"),
    ]  # fmt: skip
    with compiling() as compiled:
        for number, picture in enumerate(pictures):
            status, content, _ = asked(f"{tile}{16 + number}_20.png?{picture}")
            assert status == 200, content
            assert asked(f"tiles/x/whole.png?{picture}")[0] == 200
        assert asked("tiles/x/0/0_0.png?seeds=4")[0] == 200
        window = [-0.3, -0.2, 0.5, 0.6]
        asked.saved(picture="seeds=3", suffix=".png", width=200, height=200, window=window)
    assert not compiled


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("tiles/x/3/9_9.png?seeds=1", "level 3 of .* has no tile 9, 9", 400),
        ("tiles/x/99/0_0.png?seeds=1", "there is no level 99", 400),
        ("tiles/x/3/0_0.png?seeds=1,2,3", "must be one, two or four seeds", 400),
        ("tiles/x/3/0_0.png?seeds=1&class=9", "classes must be 0 to 2", 400),
        ("tiles/x/3/0_0.png?seeds=1&mix=2&layers=0-99", "this model has layers 0 to", 400),
        ("tiles/x/3/0_0.png?seeds=1&level=77", "superres_from = 77", 400),
        ("tiles/x/3/0_0.png?colour=red", "'colour' is not one of", 400),
        ("tiles/x/three/0_0.png", "there is no|Not Found", 404),
        ("nothing.html", "there is no such page", 404),
        ("..%2f..%2fpyproject.toml", "there is no such page|Not Found", 404),
        ("viewer.css%00", "there is no such page", 404),
        ("api/curves", "this is no run", 400),
        ("api/saves/abc", "save it again", 400),
        ("api/saves/abc/file", "save it again", 400),
        ("api/command?suffix=.png&width=5", "height is missing", 400),
        ("api/command?picture=&suffix=.png&width=0&height=3", "width must be a whole number", 400),
        (f"tiles/x/{'1' * 5000}/0_0.png", "an address has at most 4000", 414),
    ],
)
def test_bad_questions_get_a_reason(asked, path, said, status):
    assert re.search(said, asked.error(path, status=status))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({}, "is missing"),
        ([], "must be an object"),
        ({"suffix": ".exe", "width": 9, "height": 9}, "must be one of .png"),
        ({"suffix": ".png", "width": "a", "height": 9}, "width must be a whole number"),
        ({"suffix": ".png", "width": "1" * 5000, "height": 9}, "width must be a whole number"),
        ({"suffix": ".png", "width": 9, "height": 9, "window": [0, 0, 1, 10**400]}, "four numbers"),
        ({"suffix": ".png", "width": 9, "height": 9, "window": "1,2"}, "four numbers|window"),
        ({"suffix": ".png", "width": 9, "height": 9, "path": "/etc"}, "'path' is not one of"),
        ({"suffix": ".mp4", "width": 8, "height": 8, "film": "morph"}, "pick two or four"),
        ({"suffix": ".mp4", "width": 9, "height": 8, "film": "zoom"}, "even width"),
        ({"suffix": ".gif", "width": 9999, "height": 9999, "film": "zoom"}, "too many"),
    ],
)
def test_bad_orders_get_a_reason(asked, order, said):
    assert re.search(said, asked.error("api/saves", order))
    assert asked("api/saves", {"x": "y" * 20_000})[0] == 400


def test_only_its_own_page_may_ask(asked):
    """By the Host that was meant, by no other Origin; a form of another page sends no JSON."""
    host = asked.address.split("/")[2]
    for headers in (
        {"Host": "evil.example"}, {"Host": f"evil.example:{host.split(':')[1]}"},
        {"Host": "127.0.0.1:1"}, {"Host": ""}, {"Host": "[::1"},
        {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ):  # fmt: skip
        status, content, _ = asked("api/model", **headers)
        assert status == 403 and b"error" in content, headers
    assert asked("api/model", Origin=f"http://{host}")[0] == 200
    assert asked("api/model", Host=f"localhost:{host.split(':')[1]}")[0] == 200
    status, _, headers = asked("", Sec_Fetch_Site="cross-site")  # a link from elsewhere
    assert status == 200 and "frame-ancestors 'none'" in headers["content-security-policy"]
    form = asked("api/saves", {}, Content_Type="text/plain")
    assert form[0] == 400
    assert server.own_hosts("My-Machine", 80)("my-machine")  # browsers write it so
    everywhere = server.own_hosts("0.0.0.0", 8000)
    assert everywhere("192.168.0.7:8000") and not everywhere("evil.example:8000")


def held(artist) -> threading.Event:
    """Until this is set the artist is busy."""
    gate, begun = threading.Event(), threading.Event()
    artist.wish(lambda: begun.set() or gate.wait())
    assert begun.wait(10)
    return gate


def test_what_nobody_can_draw_is_refused(asked):
    """More wishes than can be remembered; the page is told to wait."""
    gate = held(asked.studio.artist)
    wishes = []
    with pytest.raises(server.Busy):
        for _ in range(10_000):
            wishes.append(asked.studio.artist.wish(lambda: b""))
    assert len(wishes) <= 500
    assert "wait" in asked.error("tiles/x/whole.png?seeds=1", status=503)
    for wish in wishes:
        wish.cancel()
    gate.set()
    assert asked("tiles/x/whole.png?seeds=1")[0] == 200


def test_a_wish_that_nobody_waits_for_is_dropped(asked):
    """The browser goes away before its turn comes."""
    gate = held(asked.studio.artist)
    made = []
    artist, tile = asked.studio.artist, asked.studio.artist.tile
    artist.tile = lambda *at: made.append(at) or tile(*at)
    try:
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{asked.address}tiles/x/3/0_0.png?seeds=77", timeout=0.3)
        deadline = threading.Event()
        while any(not f.cancelled() for f, _ in artist._wishes) and not deadline.wait(0.05):
            pass
    finally:
        artist.tile = tile
        gate.set()
    assert asked("tiles/x/3/0_1.png?seeds=77")[0] == 200 and not made


def test_saves_are_the_image(asked, model, tmp_path):
    window = [-0.5, -0.25, 0.5, 1.25]
    image = model.image(seed=4, classes=1)
    seen = {"picture": "seeds=4&class=1", "width": 150, "height": 225, "window": window}
    png = asked.saved(suffix=".png", **seen)
    want = to_uint8(image.render(150, 225, window=window)).astype(int)
    assert np.abs(pixels(png) - want).max() <= 1
    (tmp_path / "x.inr").write_bytes(asked.saved(suffix=".inr", **seen))
    opened = open_image(tmp_path / "x.inr")
    np.testing.assert_allclose(opened.render(), image.render(), atol=1e-6)
    for film, name in (("zoom", "seeds=4"), ("morph", "seeds=1,2&class=1")):
        order = {"picture": name, "suffix": ".mp4", "width": 32, "height": 32, "film": film}
        made = asked.saved(**order, frames=6, window=[-0.1, -0.1, 0.1, 0.1])
        with av.open(io.BytesIO(made)) as opened_film:
            assert sum(1 for _ in opened_film.decode(video=0)) == 6
    assert "zoom in first" in _failed(asked, picture="seeds=4", suffix=".mp4", width=32, height=32,
                                      film="zoom", window=[-1, -1, 1, 1])  # fmt: skip
    large = _failed(asked, picture="seeds=4", suffix=".png", width=60_000, height=60_000)
    assert ".tif" in large and large.startswith("seeds_4.png:")


def _failed(asked, **order) -> str:
    key = asked.json("api/saves", order)["key"]
    while (job := asked.json(f"api/saves/{key}"))["state"] == "working":
        pass
    assert job["state"] == "failed"
    assert "is not there" in asked.error(f"api/saves/{key}/file")
    return job["error"]


def test_a_save_can_be_cancelled(asked):
    order = {"picture": "seeds=1", "suffix": ".tif", "width": 20_000, "height": 20_000}
    key = asked.json("api/saves", order)["key"]
    asked.json(f"api/saves/{key}", method="DELETE")
    while (job := asked.json(f"api/saves/{key}"))["state"] == "working":
        pass
    assert job["state"] == "cancelled" and job["made"] < job["tiles"]
    left = [f.name for f in asked.studio.saves._folder.iterdir() if f.name.startswith(key)]
    assert not left


def test_the_command_is_told(asked):
    asked_for = "picture=seeds%3D4%26class%3D1&suffix=.png&width=64&height=48&window=-1,-1,0,0.5"
    words = shlex.split(asked.json(f"api/command?{asked_for}")["command"])
    assert words == [
        "python", "-m", "inr_gan_jax.view", "--checkpoint=x", "--picture=seeds=4&class=1",
        "--size=64x48", "--window=-1.0,-1.0,0.0,0.5", "--dest=picture.png",
    ]  # fmt: skip


def test_stylegan2_says_what_it_cannot(model):
    with running(Generated(tiny_model("stylegan2", channels=3))) as viewer:
        about = viewer.json("api/model")
        assert {"blend", "cells", "tables", "inr"} <= set(about["off"])
        image = viewer.studio.artist.source.model.images(seeds=[2])[0]
        whole = pixels(viewer("tiles/x/whole.png?seeds=2")[1])
        side = whole.shape[0] // 16
        np.testing.assert_array_equal(whole[::side, ::side], to_uint8(image))
        assert "nothing between" in viewer.error("tiles/x/whole.png?seeds=1,2")
        assert "pixels, not functions" in viewer.error("tiles/x/whole.png?seeds=1&level=1")
        order = {"picture": "seeds=2", "width": 32, "height": 32}
        assert "StyleGAN2" in viewer.error("api/saves", order | {"suffix": ".inr"})
        assert pixels(viewer.saved(**order, suffix=".png")).shape == (32, 32, 3)


def test_an_inr_file(tmp_path):
    model = mild_model("inr_gan", size=16)
    save_images(tmp_path / "x.inr", model.functions([3, 4]))
    with running(Opened(open_images(tmp_path / "x.inr"))) as viewer:
        assert viewer.json("api/model")["count"] == 2
        got = pixels(viewer("tiles/x/whole.png?seeds=1")[1])
        want = model.image(seed=4).render(*got.shape[1::-1])
        np.testing.assert_array_equal(got, to_uint8(want))
        with compiling() as compiled:
            assert viewer("tiles/x/whole.png?seeds=0,1&u=0.5")[0] == 200
            assert viewer("tiles/x/whole.png?seeds=0,1,1,0&u=0.5&v=0.3")[0] == 200
        assert not compiled
        for query, said in (
            ("seeds=2", "it holds 0 to 1"), ("seeds=0&psi=0.5", "truncation: An .inr file"),
            ("seeds=0,1&space=style", "space=style: An .inr file"),
            ("seeds=0&class=1", "class: An .inr file"),
            ("seeds=0&mix=1&layers=0-0", "mix: An .inr file"),
        ):  # fmt: skip
            assert said in viewer.error(f"tiles/x/whole.png?{query}")


def test_a_run_is_watched(tmp_path):
    """A newer checkpoint is taken up, nothing compiles anew, and its curves are told."""
    first = mild_model("inr_gan", size=16)
    write_checkpoint(tmp_path, first)
    events = SummaryWriter(tmp_path)
    for images in (1000, 2000):
        events.write_scalars(images, {"loss/g": images / 1000})
    events.write_scalars(3000, {"loss/g": float("nan")})
    events.flush()
    with running(Generated(load(str(tmp_path)))) as viewer:
        before = viewer.json("api/model")
        png = viewer("tiles/x/whole.png?seeds=1")[1]
        serve.watched(viewer.studio, str(tmp_path), lambda: load(str(tmp_path)), seconds=0.1)
        assert viewer.json("api/curves") == {"loss/g": [[1000, 1.0], [2000, 2.0], [3000, None]]}
        params, buffers = first.arrays
        louder = jax.tree.map(lambda a: a * 1.5, params)
        write_checkpoint(tmp_path, first.with_arrays(louder, buffers, first.w_avg), step=2)
        with compiling() as compiled:
            while viewer.json("api/model")["version"] == before["version"]:
                pass
            assert viewer("tiles/x/whole.png?seeds=1")[1] != png
        assert not compiled
        assert viewer.json("api/model")["run"]


def test_ports(monkeypatch):
    """The next free one; one that was asked for and is taken is an error."""
    with serve.listening("127.0.0.1", None) as first, serve.listening("127.0.0.1", None) as second:
        ports = [s.getsockname()[1] for s in (first, second)]
        assert ports[0] != ports[1]
        with pytest.raises(server.UserError, match=f"127.0.0.1:{ports[0]} cannot be used"):
            serve.listening("127.0.0.1", ports[0])
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not serve._has_display()
