"""A real browser: Debian's Chromium by its own driver, which draws WebGL on the CPU."""

import contextlib
import functools
import http.server
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.environment import ROOT
from helpers.web import at_work

SCREENS = ROOT / ".pytest_cache" / "screens"
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


@contextlib.contextmanager
def opened(width: int = 1200, height: int = 900, *switches: str) -> Iterator:
    """A selenium driver of a window of this size; its console log holds all of the page's errors.

    Skips the test, with a line that says why, where there is no browser.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("there is no chromium with chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, *switches):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    try:
        # What a page sees of the window is less than the window.
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which Python's plain web server shows a folder, on the loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with at_work(functools.partial(Quiet, directory=str(folder))) as server:
        yield f"http://127.0.0.1:{server.server_port}/"


def until(browser, condition: Callable, what: str, seconds: float = 60):
    """Waits until `condition(browser)` is true, and gives it; else fails, and names `what`."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.wait import WebDriverWait

    try:
        return WebDriverWait(browser, seconds, 0.05).until(condition)
    except TimeoutException:
        pytest.fail(f"{what} did not come within {seconds} s: {errors(browser)}")


def kept(browser, name: str) -> None:
    """A screenshot as .pytest_cache/screens/NAME.png, for people to look at."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    (SCREENS / f"{name}.png").write_bytes(browser.get_screenshot_as_png())


def errors(browser) -> list[str]:
    """What the page's console has said that is wrong, since this was last asked."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
