"""The viewer in a real browser: every control, links, errors, and what is left when it is gone."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.browser import errors, kept, until
from helpers.browser import opened as window
from helpers.environment import ROOT, environment
from helpers.models import mild_model, write_checkpoint
from helpers.viewer import running
from PIL import Image
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from inr_gan_jax.view.shown import Generated

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def asked():
    with running(Generated(mild_model("inr_gan", size=16, classes=3)), told="a test") as viewer:
        yield viewer


@pytest.fixture(scope="module")
def browser():
    with window(1100, 800) as driver:
        yield driver


def loaded(browser):
    return browser.execute_script("return window.inrViewer && inrViewer.picture.loaded()")


def opened(browser, viewer, address: str = "") -> None:
    """A fresh page, when all of it is there."""
    browser.get("about:blank")
    browser.get(viewer.address + address)
    if "seeds=" in address:
        until(browser, loaded, "the image")
    else:
        until(browser, lambda b: len(thumbnails(b)) >= 8, "the gallery")


def thumbnails(browser) -> list:
    script = "return [...document.querySelectorAll('#images img')].filter((i) => i.naturalWidth)"
    return browser.execute_script(script)


def picture(browser) -> dict[str, str]:
    """What the address says."""
    hash_ = browser.current_url.partition("#")[2]
    return dict(part.split("=", 1) for part in hash_.split("&") if part)


def change(browser, control: str, value: str) -> None:
    """As a hand would: input while it moves, change at its end."""
    browser.execute_script(
        "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
        "for (const e of ['input', 'change']) c.dispatchEvent(new Event(e, {bubbles: true}))",
        control,
        value,
    )


def shot(browser) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def click(browser, control: str) -> None:
    browser.find_element(By.ID, control).click()


def test_from_the_gallery_a_thousand_times_into_an_image(asked, browser):
    """Click, zoom by the wheel and by keys, drag, undo, back; a link shows the same."""
    opened(browser, asked)
    kept(browser, "gallery")
    browser.find_element(By.CSS_SELECTOR, "#images button").click()
    until(browser, loaded, "the image")
    assert picture(browser)["seeds"] == "0"
    for _ in range(10):
        browser.find_element(By.ID, "deep").send_keys("+")
    until(browser, lambda b: float(picture(b)["at"].split(",")[2]) > 700, "the zoom")
    until(browser, loaded, "the zoomed image")
    kept(browser, "zoomed")
    before = picture(browser)["at"]
    middle = browser.find_element(By.ID, "deep")
    ActionChains(browser).drag_and_drop_by_offset(middle, 40, 30).perform()
    until(browser, lambda b: picture(b)["at"] != before, "the drag")
    link = browser.current_url
    browser.get("about:blank")
    browser.get(link)
    until(browser, loaded, "the image of the link")
    again = [float(v) for v in picture(browser)["at"].split(",")]
    want = [float(v) for v in link.split("at=")[1].split("&")[0].split(",")]
    np.testing.assert_allclose(again, want, rtol=1e-5, atol=1e-8)
    browser.find_element(By.ID, "deep").send_keys(Keys.ESCAPE)
    until(browser, lambda b: b.find_element(By.ID, "gallery").is_displayed(), "the gallery")
    assert not errors(browser)


@pytest.mark.whole
def test_one_to_one_shows_the_tiles_pixels(asked, browser):
    opened(browser, asked, "#seeds=2&class=1&at=0.1,0.2,3&outline=0")
    click(browser, "one")
    until(browser, loaded, "the image")
    time.sleep(0.5)
    shown = shot(browser)[100:400, 50:550].astype(int)
    at = browser.execute_script("return inrViewer.picture.seen().window")
    width, height = browser.execute_script(
        "const d = document.getElementById('deep'); return [d.clientWidth, d.clientHeight]"
    )
    image = asked.studio.artist.source.model.image(seed=2, classes=1)
    step = (at[2] - at[0]) / width
    level_step = 2 / 16 / 2 ** np.round(np.log2(2 / 16 / step))
    left, top = (np.round((at[0] + 1) / level_step), np.round((1 - at[3]) / level_step))
    window = (left * level_step - 1, 1 - (top + height) * level_step,
              (left + width) * level_step - 1, 1 - top * level_step)  # fmt: skip
    want = image.render(width, height, window=[float(v) for v in window])
    want = np.clip(np.round((want + 1) * 127.5), 0, 255)[100:400, 50:550]
    assert np.abs(shown - want).max() <= 1


@pytest.mark.whole
def test_every_control_changes_the_address_and_the_picture(asked, browser):
    opened(browser, asked, "#seeds=2&class=1")
    changes = {
        "seed": ("7", "seeds", "7"), "class": ("2", "class", "2"), "psi": ("0.5", "psi", "0.5"),
        "level": ("1", "level", "1"), "density": ("inf", "density", "inf"),
        "tables": ("reflect", "tables", "reflect"), "mix": ("5", "mix", "5"),
    }  # fmt: skip
    for control, (value, name, told) in changes.items():
        before = shot(browser)
        change(browser, control, value)
        until(browser, lambda b, n=name, t=told: picture(b).get(n) == t, control)
        until(browser, loaded, f"the picture after {control}")
        time.sleep(0.3)
        if control not in ("density", "tables"):
            assert (shot(browser) != before).any(), control
    change(browser, "last", "2")
    until(browser, lambda b: picture(b).get("layers") == "0-2", "layers")
    command = "return document.getElementById('command').value"
    until(browser, lambda b: "layers=0-2" in b.execute_script(command), "the command")
    for _ in range(3):
        click(browser, "undo")
    until(browser, lambda b: "tables" not in picture(b), "three steps back")
    assert picture(browser)["density"] == "inf"
    click(browser, "outline")
    until(browser, lambda b: picture(b).get("outline") == "0", "no outline")
    assert not errors(browser)


@pytest.mark.whole
def test_a_slider_that_rests_before_it_is_let_go(asked, browser):
    """What it was let go at is seen, in one step, which can be undone."""
    opened(browser, asked, "#seeds=2")
    event = "const c = document.getElementById('psi'); c.value = 0.3;"
    event += "c.dispatchEvent(new Event(arguments[0]))"
    browser.execute_script(event, "input")
    until(browser, lambda b: picture(b).get("psi") == "0.3", "the slider's value")
    until(browser, loaded, "the picture while it rests")
    before = shot(browser)
    browser.execute_script(event, "change")
    time.sleep(0.5)
    until(browser, loaded, "the picture when it is let go")
    np.testing.assert_array_equal(shot(browser)[100:700, :700], before[100:700, :700])
    click(browser, "undo")
    until(browser, lambda b: "psi" not in picture(b), "the step back")
    until(browser, loaded, "the picture before")
    assert (shot(browser)[100:700, :700] != before[100:700, :700]).any()


@pytest.mark.whole
def test_a_link_in_the_same_page_goes_to_its_place(asked, browser):
    opened(browser, asked, "#seeds=2&at=0.1,0.1,4")
    browser.execute_script("location.hash = '#seeds=3&at=-0.4,0.2,9'")
    zoom = "return inrViewer.picture.seen().window"
    want = 2 / 9
    until(browser, lambda b: np.isclose(np.ptp(b.execute_script(zoom)[::2]), want), "its place")
    assert not errors(browser)


@pytest.mark.whole
def test_between_picked_images(asked, browser):
    opened(browser, asked)
    for count, box in enumerate(browser.find_elements(By.CSS_SELECTOR, "#images input")[:4], 1):
        box.click()
        assert browser.find_element(By.ID, "between").is_enabled() == (count in (2, 4))
    click(browser, "between")
    until(browser, loaded, "the image between")
    assert picture(browser)["seeds"] == "0,1,2,3"
    pad = browser.find_element(By.ID, "pad")
    ActionChains(browser).move_to_element_with_offset(pad, -40, 20).click().perform()
    until(browser, lambda b: float(picture(b)["u"]) < 0.4, "the pad")
    assert 0.5 < float(picture(browser)["v"]) < 0.75
    pad.send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda b: 0.25 < float(picture(b)["u"]) < 0.45, "an arrow on the pad")
    change(browser, "space", "style")
    until(browser, lambda b: picture(b).get("space") == "style", "the space")
    until(browser, loaded, "the image between styles")
    kept(browser, "between")
    assert not errors(browser)


@pytest.mark.whole
def test_the_zoom_ends_with_a_sentence(asked, browser):
    opened(browser, asked, "#seeds=1&at=0.3,0.3,1")
    browser.execute_script("inrViewer.picture.zoomBy(2 ** 40)")
    error = "return document.getElementById('error').textContent"
    until(browser, lambda b: "float32" in b.execute_script(error), "the end")
    until(browser, loaded, "the deepest image")
    assert not errors(browser)


@pytest.mark.whole
def test_saves(asked, browser, tmp_path):
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    opened(browser, asked, "#seeds=1&class=1")
    change(browser, "width", "200")
    click(browser, "save")
    until(browser, lambda _: list(tmp_path.glob("*.png")), "the file")
    assert Image.open(next(tmp_path.glob("*.png"))).size[0] == 200
    change(browser, "kind", ".tif")
    change(browser, "width", "30000")
    click(browser, "save")
    until(browser, lambda b: b.find_element(By.ID, "cancel").is_displayed(), "the progress")
    click(browser, "cancel")
    said = "return document.getElementById('said').textContent"
    until(browser, lambda b: b.execute_script(said) == "Cancelled.", "the end of it")


@pytest.mark.whole
def test_narrow_dark_and_by_keyboard(asked, browser):
    """No control is out of reach of a narrow window; every one has a name."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True},
    )
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    try:
        opened(browser, asked, "#seeds=1")
        click(browser, "panel-open")
        wide = "return document.documentElement.scrollWidth <= innerWidth"
        assert browser.execute_script(wide)
        back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert back == "rgb(20, 20, 20)"
        kept(browser, "narrow_dark")
        nameless = browser.execute_script(
            "return [...document.querySelectorAll('button, input, select, textarea, a')].filter((e)"
            " => !(e.ariaLabel || e.textContent.trim() || e.closest('label'))).map((e) => e.id)"
        )
        assert nameless == ["file"]  # which has its name when there is one
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1100, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )


@pytest.mark.whole
def test_a_bad_link_and_a_model_without_functions_are_sentences(asked, browser):
    error = "return document.getElementById('error').textContent"
    browser.get("about:blank")
    browser.get(f"{asked.address}#seeds=1,2,3")
    until(browser, lambda b: "one, two or four" in b.execute_script(error), "the reason")
    browser.get("about:blank")
    browser.get(f"{asked.address}#seeds=1&sede=2")
    until(browser, lambda b: "says sede, which means" in b.execute_script(error), "the name")
    until(browser, loaded, "the image all the same")
    browser.execute_script("inrViewer.address.set({ psi: '0.5' })")
    until(browser, lambda b: not b.execute_script(error), "nothing to be said")
    with running(Generated(mild_model("stylegan2", size=16))) as viewer:
        opened(browser, viewer, "#seeds=1")
        why = "return [...document.querySelectorAll('.why')].map((e) => e.textContent).join(' ')"
        assert "StyleGAN2 makes pixels" in browser.execute_script(why)


@pytest.mark.whole
def test_two_tabs_and_two_fingers(asked, browser):
    """Each tab has its own picture of one viewer; fingers that part zoom in where they are."""
    opened(browser, asked, "#seeds=1&class=1")
    errors(browser)  # of tests before
    first, before = browser.current_window_handle, shot(browser)
    browser.switch_to.new_window("tab")
    try:
        opened(browser, asked, "#seeds=5&class=2")
        bounds = "return inrViewer.picture.seen().window"
        left, bottom, right, top = browser.execute_script(bounds)
        for kind, reach in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120)):
            points = [{"x": 300 + way * reach, "y": 250, "id": i} for i, way in enumerate((-1, 1))]
            send = {"type": kind, "touchPoints": points}
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", send)
            time.sleep(0.1)
        end = {"type": "touchEnd", "touchPoints": []}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", end)

        def closer(browser):
            now = browser.execute_script(bounds)
            return now[2] - now[0] < (right - left) / 2

        until(browser, closer, "a closer look")
        until(browser, loaded, "its tiles")
        assert not errors(browser)
    finally:
        browser.close()
        browser.switch_to.window(first)
    assert {"seeds": "1", "class": "1"}.items() <= picture(browser).items()
    np.testing.assert_array_equal(shot(browser), before)


@pytest.mark.whole
def test_a_command_that_is_stopped(browser, tmp_path):
    """As a user starts it; the page says that it is gone, and the command ends with 0."""
    write_checkpoint(tmp_path, mild_model("inr_gan", size=16))
    command = [sys.executable, "-m", "inr_gan_jax.view", f"--checkpoint={tmp_path}", "--no_open"]
    process = subprocess.Popen(
        [*command, "--port=0"], cwd=ROOT, env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        lines = iter(process.stdout.readline, "")
        address = next(line.split()[1] for line in lines if "http://" in line)
        browser.get("about:blank")
        browser.get(f"{address}#seeds=1")
        until(browser, loaded, "the image", 60)
        process.send_signal(2)
        assert process.wait(20) == 0
        browser.execute_script("inrViewer.picture.zoomBy(64)")
        error = "return document.getElementById('error').textContent"
        until(browser, lambda b: "does not answer" in b.execute_script(error), "the message")
        assert json.dumps(process.stdout.read()).count("Traceback") == 0
    finally:
        process.kill()
