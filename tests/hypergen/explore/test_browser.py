"""The page in a real browser: Debian's Chromium, driven by selenium."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("nicegui", reason="the extra `explore` is not installed")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402

from hypergen.explore.server import free_port  # noqa: E402
from hypergen.storage.weights import read_metadata  # noqa: E402

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
ARGUMENTS = "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1500"
PATIENCE = 300.0
"""Seconds; on an idle machine nothing here takes five."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()),
        reason="Chromium is not installed: apt-get install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def address(explored) -> Iterator[str]:
    """Of a server that shows the run, as the command starts it."""
    port = free_port(None)
    command = [sys.executable, "-m", "hypergen", "explore", str(explored), "--no-open"]
    # By this name NiceGUI would know that it is tested, and serve otherwise.
    usual = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    with subprocess.Popen([*command, "--port", str(port)], env=usual) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: server.poll() is not None or _answers(address))
            assert server.poll() is None
            yield address
        finally:
            server.terminate()


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/favicon.ico").status == 200
    except urllib.error.URLError:
        return False


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "it never is"
        time.sleep(0.05)


def texts(browser: WebDriver, selector: str) -> list[str]:
    """The texts of all elements, at one moment."""
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)"
    return browser.execute_script(script, selector)


def press(browser: WebDriver, text: str) -> None:
    browser.find_element(By.XPATH, f"//button[contains(., '{text}')]").click()


def settled(browser: WebDriver) -> None:
    """Waits until what networks say is of now."""
    until(lambda: len(texts(browser, ".answer")) == 2 and not texts(browser, ".waiting"))


def estimates(browser: WebDriver) -> list[str]:
    return texts(browser, ".figure")[:2]


def draw_seven(browser: WebDriver) -> None:
    canvas = browser.find_element(By.CSS_SELECTOR, "canvas.drawing")
    pen = ActionChains(browser, duration=40).move_to_element_with_offset(canvas, -45, -55)
    pen.click_and_hold()
    for move in ((45, 0), (45, 0), (-30, 55), (-30, 55)):
        pen.move_by_offset(*move)
    pen.release().perform()


def asked_hosts(browser: WebDriver) -> set[str]:
    """The hosts of all that the page has asked for, by its network log."""
    hosts = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        given = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            url = given["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            url = given["url"]
        else:
            continue
        if not url.startswith(("data:", "blob:")):
            hosts.add(urlsplit(url).netloc)
    return hosts


def test_a_network_is_chosen_tried_attacked_and_kept(browser, address, explored):
    browser.get(address)
    settled(browser)

    before = estimates(browser)
    slider = browser.find_element(By.CSS_SELECTOR, "input.slider")  # of the preference
    start = time.perf_counter()
    slider.send_keys(Keys.END)
    until(lambda: estimates(browser) != before)
    print(f"a moved slider was answered in {time.perf_counter() - start:.2f} s")
    assert "1.00: robustness counts 100 %" in texts(browser, ".slide")[0]

    browser.find_element(By.XPATH, "//*[@role='radio' and contains(., 'draw one')]").click()
    until(lambda: browser.find_element(By.CSS_SELECTOR, "canvas.drawing").is_displayed())
    draw_seven(browser)
    until(lambda: "Wrong without" not in texts(browser, ".verdict")[0])
    settled(browser)
    marked = [text for text in texts(browser, ".bar .name") if "(true)" in text]
    assert not marked  # nobody knows what was drawn

    epsilon = browser.find_elements(By.CSS_SELECTOR, "input.slider")[-1]
    epsilon.send_keys(Keys.HOME)
    until(lambda: "epsilon 0.000" in "".join(texts(browser, ".slide")))
    settled(browser)
    assert all(text.startswith("Not fooled") for text in texts(browser, ".verdict"))
    epsilon.send_keys(Keys.END)
    until(lambda: "epsilon 0.300" in "".join(texts(browser, ".slide")))
    settled(browser)
    assert texts(browser, ".verdict")[0].startswith("Fooled")  # of a network that nobody trained

    plane = browser.find_element(By.CSS_SELECTOR, ".plane")
    ActionChains(browser).move_to_element_with_offset(plane, 60, -80).click().perform()
    until(lambda: "+0.00" not in "".join(texts(browser, ".slide")))
    settled(browser)
    press(browser, "Keep this network")
    until(lambda: texts(browser, ".kept"))
    path = explored / "explored" / "network-0000.safetensors"
    assert texts(browser, ".kept") == [f"Kept as {path}"]
    assert read_metadata(path)["beta"] == 1.0

    assert asked_hosts(browser) == {urlsplit(address).netloc}
    faults = [each for each in browser.get_log("browser") if each["level"] in ("SEVERE", "WARNING")]
    assert not faults


def test_two_tabs_do_not_disturb_each_other(browser, address):
    browser.get(address)
    settled(browser)
    first, before = browser.current_window_handle, estimates(browser)
    browser.switch_to.new_window("tab")
    browser.get(address)
    settled(browser)
    assert estimates(browser) == before
    browser.find_element(By.CSS_SELECTOR, "input.slider").send_keys(Keys.END)
    press(browser, "Next")
    until(lambda: estimates(browser) != before)
    settled(browser)
    browser.switch_to.window(first)
    assert estimates(browser) == before
    assert "0.50: robustness" in texts(browser, ".slide")[0]


def test_the_page_is_fit_for_screen_readers_and_phones(browser, address):
    axe = pytest.importorskip("axe_core_python", reason="axe-core is not installed")
    browser.set_window_size(500, 900)
    browser.get(address)
    settled(browser)
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    wide, window = browser.execute_script(widths)
    assert wide <= window  # nothing is beyond the right edge
    browser.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text())
    browser.set_script_timeout(PATIENCE)
    found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    faults = {each["id"]: [node["html"] for node in each["nodes"]] for each in found}
    assert not {each["id"] for each in found} & {"image-alt", "label", "color-contrast"}, faults
    assert not [each["id"] for each in found if each["impact"] in ("serious", "critical")], faults


def test_other_sites_are_refused(address):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, headers=headers))
        assert refused.value.code == 403
