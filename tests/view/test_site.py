"""The exported page in a real browser: by WebGL and by the CPU its pixels are render's."""

import functools
import itertools

import numpy as np
import pytest
from helpers.browser import errors, served, until
from helpers.functions import params_of, random_params, size_config

from inr_gan_jax.models import families
from inr_gan_jax.models.fourier import Embedding
from inr_gan_jax.render.between import lerp, materialize
from inr_gan_jax.render.image import ContinuousImage
from inr_gan_jax.view.export import export_site

pytestmark = pytest.mark.browser
whole = pytest.mark.whole  # `make test` has two tests, `make test-browser` all
WINDOWS = (  # window, width, height
    ((-1, -1, 1, 1), 16, 16),
    ((-1, -1, 1, 1), 70, 40),
    ((-0.37, 0.11, 0.2, 0.63), 33, 40),
    ((-2.5, -2, 1.5, 2), 24, 24),  # beyond the frame
    ((0.3001, -0.5001, 0.3003, -0.4999), 20, 20),  # a thousand times
)
PIXELS = """const [job, done] = arguments;
inrSite.render(job).then((pixels) => done(Array.from(pixels)), (error) => done(error.message))"""


@functools.cache
def params(name: str):
    """Two images of unit contrast, or nearly."""
    if name in ("inr_gan_any", "spline"):
        embeddings = {
            "embedding_coarse": Embedding(log=32, diagonal=True, cosine=True, falloff=0.5),
            "embedding_fine": Embedding(log=32, cosine=True, random=5, finest=64, falloff=0.5),
        }
        config = size_config(
            height=12,
            width=16,
            channels=3,
            upsampling="continuous",
            **{"nodes": "spline", "input_resolution": 4} if name == "spline" else {},
            **embeddings,
        )
        made = random_params(config)
    elif name == "cips_res":
        config = families.cips_res(
            height=16, width=16, channels=1, channel_base=128, channel_max=8, z_dim=8, w_dim=8,
            **dict.fromkeys(("embedding_coarse", "embedding_fine"),
                            Embedding(shared=5, shifted=True, table=6, distribution="uniform")),
        )  # fmt: skip
        made = random_params(config)
    else:
        made = params_of(name)
    spread = max(np.ptp(ContinuousImage(made[k]).render()) for k in (0, 1))
    return made[np.arange(2)], spread


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    @functools.cache
    def made(name):
        folder = tmp_path_factory.mktemp(name)
        export_site(params(name)[0], ["first", "second"], folder, name)
        return folder

    return made


def pixels(browser, expected: np.ndarray, **job) -> np.ndarray:
    got = browser.execute_async_script(PIXELS, job)
    assert not isinstance(got, str), got
    return np.reshape(np.asarray(got, np.float32), expected.shape)


NAMES = ("inr_gan_any", "spline", "inr_gan", "cips_res", "paper", "inr_gan_fmm_tanh")
FIRST, *OTHERS = itertools.product(NAMES, ("webgl", "cpu"))


def test_opens_and_zooms_from_a_file(browser, sites):
    browser.get("about:blank")
    browser.get((sites("inr_gan_any") / "index.html").as_uri())
    until(browser, lambda b: b.find_elements("css selector", "#functions button"), "the gallery")
    browser.find_elements("css selector", "#functions button")[1].click()
    until(browser, sharp, "the image")
    before = browser.find_element("id", "picture").screenshot_as_png
    browser.find_element("id", "in").click()
    until(browser, lambda b: "zoom=1.5" in b.current_url, "the address")
    until(browser, sharp, "the picture, zoomed")
    assert browser.find_element("id", "picture").screenshot_as_png != before
    assert errors(browser) == []


@pytest.mark.parametrize(
    "name, machine", [FIRST, *(pytest.param(*case, marks=whole) for case in OTHERS)]
)
def test_pixels_are_those_of_render(browser, sites, name, machine):
    """To 1e-3 of the range [-1, 1]; random networks have more contrast, which is taken out."""
    of, spread = params(name)
    browser.get("about:blank")
    browser.get(f"{(sites(name) / 'index.html').as_uri()}#machine={machine}")
    for k, (window, width, height) in enumerate(WINDOWS):
        image = ContinuousImage(of[k % 2])
        expected = image.render(width, height, window=window)
        got = pixels(browser, expected, image=k % 2, window=window, width=width, height=height)
        assert browser.execute_script("return inrSite.machine") == machine
        assert np.abs(got - expected).max() / max(spread, 2) < 5e-4, (window, width, height)
    assert errors(browser) == []


@whole
def test_other_views_and_blends_are_those_of_render(browser, sites):
    of, spread = params("inr_gan")
    browser.get((sites("inr_gan") / "index.html").as_uri())
    window, size = (-0.5, -0.25, 0.25, 0.5), {"width": 30, "height": 30}
    for options in (
        {"superres_from": 1, "density": float("inf")},
        {"superres_from": 0, "density": 3.0},
    ):
        expected = ContinuousImage(of[0]).render(**size, window=window, **options)
        density = options["density"]
        job = {"superresFrom": options["superres_from"], "image": 0, "window": window, **size}
        browser.execute_script(
            "window.density = arguments[0] || Infinity", 0 if np.isinf(density) else density
        )
        got = browser.execute_async_script(
            PIXELS.replace("(job)", "({ ...job, density: window.density })"), job
        )
        assert np.abs(np.reshape(got, expected.shape) - expected).max() / max(spread, 2) < 5e-4
    own = materialize(of)
    both = lerp(own[0].image, own[1].image, 0.25)
    blend = ContinuousImage(type(own)(own.shared, both, own.spec))
    expected = blend.render(**size, window=window)
    got = pixels(browser, expected, image={"from": 0, "to": 1, "t": 0.25}, window=window, **size)
    assert np.abs(got - expected).max() / max(spread, 2) < 5e-4


def sharp(browser):
    return browser.execute_script(
        "const v = document.getElementById('viewer'); return !v.hidden && v.dataset.missing === '0'"
    )


def text_of(browser, element: str) -> str:
    return browser.execute_script(
        "return document.getElementById(arguments[0]).textContent", element
    )


@whole
def test_a_visit(browser, sites):
    """From a plain web server: gallery, zoom, drag, keys, a link, the end of zoom, and back."""
    from selenium.webdriver import ActionChains, Keys

    with served(sites("inr_gan_any")) as address:
        browser.get(address)
        drawn = """return [...document.querySelectorAll("#functions canvas")].every((canvas) =>
            canvas.getContext("2d").getImageData(0, 0, 128, 90).data.some((v) => v > 0))"""
        until(browser, lambda b: b.execute_script(drawn), "the gallery")
        browser.find_elements("css selector", "#functions button")[1].click()
        until(browser, sharp, "the image")
        picture = browser.find_element("id", "picture")
        assert browser.switch_to.active_element == picture
        ActionChains(browser).drag_and_drop_by_offset(picture, 100, 40).perform()
        ActionChains(browser).send_keys("+++", Keys.ARROW_LEFT).perform()
        until(browser, lambda b: "zoom=3.375" in b.current_url, "the address")
        assert "zoom 3.38" in text_of(browser, "status")
        until(browser, sharp, "the picture, zoomed")
        link, shown = browser.current_url, picture.screenshot_as_png
        browser.get("about:blank")
        browser.get(link)
        until(browser, sharp, "the link's picture")
        until(
            browser,
            lambda b: b.find_element("id", "picture").screenshot_as_png == shown,
            "the same",
        )
        until(browser, lambda b: text_of(b, "said").endswith("sharp"), "what screen readers say")
        for _ in range(40):
            browser.find_element("id", "in").click()
        assert "float32" in text_of(browser, "notice")
        ActionChains(browser).send_keys("0").perform()
        until(browser, lambda b: "zoom=1&" in f"{b.current_url}&", "all of it")
        ActionChains(browser).send_keys(Keys.ESCAPE).perform()
        assert not browser.find_element("id", "viewer").is_displayed()
        browser.find_elements("css selector", "#functions button")[0].click()
        until(browser, sharp, "the other image")
        browser.find_element("id", "back").click()
        assert browser.switch_to.active_element.text == "first"
        assert errors(browser) == []


@whole
def test_morphs_and_saves(browser, sites):
    browser.get("about:blank")
    browser.get((sites("inr_gan_any") / "index.html").as_uri() + "#image=0&to=1&part=0.5&zoom=2")
    until(browser, sharp, "the blend")
    assert "50% of the way to second" in text_of(browser, "status")
    browser.execute_script("""window.saved = null; HTMLAnchorElement.prototype.click =
        function () { window.saved = [this.href, this.download]; };""")
    browser.find_element("id", "save").click()
    until(browser, lambda b: b.execute_script("return window.saved"), "the PNG")
    size = browser.execute_async_script("""const done = arguments[0], image = new Image();
        image.onload = () => done([image.width, image.height]); image.src = window.saved[0];""")
    assert size == [600, 450]
    assert browser.execute_script("return window.saved[1]").endswith(".png")


@whole
def test_mistakes_in_an_address_are_said(browser, sites):
    browser.get("about:blank")
    browser.get((sites("inr_gan_any") / "index.html").as_uri() + "#image=7&zoom=much")
    until(
        browser, lambda b: "asks for image 7: there are 0 to 1" in text_of(b, "error"), "the line"
    )
    assert not browser.find_element("id", "viewer").is_displayed()
