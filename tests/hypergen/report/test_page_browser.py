"""The page in a real browser, opened from disk: it draws, answers, asks nobody, and is readable."""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hypergen.report.page.html import html
from hypergen.report.page.run import run_page
from tests.hypergen.report.pages import found_in_run, with_details

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
axe = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed")

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
if DRIVER is None or BROWSER is None:
    pytest.skip("no Chromium with its driver: apt-get install chromium-driver", True)
FOLDER = "<script>alert(1)<"
WAIT, SECONDS = 60, 2.0
"""Seconds to wait on a busy machine, and of work until a page can be used."""
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(2 * WAIT)
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser, run_result, tmp_path):
    """Opens the page of a run in a folder with an evil name, at a size and in a colour scheme."""

    def load(size: str, scheme: str = "light") -> Any:
        file = tmp_path / FOLDER / "report.html"
        file.parent.mkdir(exist_ok=True)
        page = html(run_page(found_in_run(with_details(run_result), FOLDER)))
        file.write_text(page)
        width, height = SIZES[size]
        phone = size == "phone"
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        told = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})
        browser.get_log("performance"), browser.get_log("browser")
        browser.execute_cdp_cmd("Performance.disable", {})
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.get(file.as_uri())
        wait_until(browser, "return document.documentElement.dataset.ready")
        return browser

    return load


def wait_until(browser: Any, script: str) -> Any:
    """What a script returns, once that is true."""
    end = time.monotonic() + WAIT
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < end, script
        time.sleep(0.05)
    return found


def go_to_first_chart(browser: Any) -> None:
    browser.execute_script("document.getElementById('chart-0').scrollIntoView()")
    wait_until(browser, "return document.querySelector('#chart-0 .point')")


def work(browser: Any) -> float:
    """Seconds that the page has kept its thread busy, however busy the machine is with others."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {each["name"]: each["value"] for each in metrics}["TaskDuration"]


def asked_for(browser: Any) -> list[str]:
    """All that the page has requested, but what it holds itself."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith("data:")]


def faults(browser: Any) -> list[str]:
    """What axe-core calls serious or critical, with where it is."""
    found = axe.Axe().run(browser)
    return [
        f"{each['id']}: {node['html'][:100]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize(
    ("size", "scheme"), [pytest.param("wide", "light", marks=pytest.mark.slow), ("phone", "dark")]
)
def test_the_page_is_drawn_and_asks_nobody(open_page, browser, size, scheme):
    least = min(work(open_page(size, scheme)) for _ in range(2))  # the first starts a browser too
    assert least < SECONDS
    go_to_first_chart(browser)
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    (own,) = asked_for(browser)
    assert own.startswith("file:") and own.endswith("report.html")
    assert browser.execute_script(
        "return [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= SIZES[size][0], "the page itself is not moved sideways"
    assert faults(browser) == []
    assert browser.title == FOLDER


@pytest.mark.slow  # as the page above, each takes some seconds
def test_charts_answer(open_page):
    """A point tells of its network; buttons change what is shown, from the keyboard too."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = open_page("wide")
    go_to_first_chart(browser)
    point = browser.find_element("css selector", "#chart-0 .point")
    ActionChains(browser).scroll_to_element(point).move_to_element(point).perform()
    told = wait_until(browser, "return document.querySelector('#chart-0 .hoverlayer')?.textContent")
    assert "samples/sample-000" in told and "SRA" in told and "z = " in told
    ends = "return document.getElementById('chart-0').layout.xaxis.range"
    before = browser.execute_script(ends)
    first, second, *_ = browser.find_elements("css selector", "[data-chart='0']")
    second.send_keys(Keys.ENTER)
    after = browser.execute_script(ends)
    assert after[1] - after[0] < before[1] - before[0]
    pressed = [each.get_attribute("aria-pressed") for each in (first, second)]
    assert pressed == ["false", "true"]
    count = "return document.querySelectorAll('.chart').length"
    drawn = "return document.querySelectorAll('.chart:has(.main-svg)').length"
    assert browser.execute_script(drawn) < browser.execute_script(count)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    wait_until(browser, f"{drawn} === document.querySelectorAll('.chart').length")
