"""The page without a browser: what it shows, two at once, a run that trains on, and its speed."""

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

pytest.importorskip("nicegui", reason="the extra `explore` is not installed")
from nicegui import core, ui  # noqa: E402
from nicegui.testing.user import User  # noqa: E402
from nicegui.testing.user_simulation import user_simulation  # noqa: E402

from hypergen.errors import InputError  # noqa: E402
from hypergen.experiments.explorer import Explorer  # noqa: E402
from hypergen.explore import page as module  # noqa: E402
from hypergen.explore.choosing import Plane  # noqa: E402
from hypergen.explore.desk import Desk  # noqa: E402
from hypergen.explore.drawing import Drawing  # noqa: E402
from hypergen.explore.page import Page  # noqa: E402
from hypergen.explore.parts import Slider  # noqa: E402
from hypergen.explore.server import free_port  # noqa: E402
from hypergen.storage.weights import read_metadata  # noqa: E402


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for something that takes a second, and longer on a busy machine."""
    for _ in range(1200):
        if is_so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never is")


class Tab:
    """A page, and the user who looks at it."""

    def __init__(self, user: User, page: Page):
        self.user, self.page = user, page

    async def settled(self) -> None:
        """Waits until all that the page shows is of now."""
        await until(lambda: not self.page.stale)

    def trigger(self, kind: type[ui.element], event: str, value: Any, label: str = "") -> None:
        """An event as the browser sends it, of the element that has such a label."""
        found = self.user.find(kind=kind)
        found.elements = {each for each in found.elements if label in each.props.get("label", "")}
        assert len(found.elements) == 1
        found.trigger(event, value)

    def click(self, text: str) -> None:
        self.user.find(kind=ui.button, content=text).click()


@contextlib.asynccontextmanager
async def tabs(explorer: Explorer, count: int = 1) -> AsyncIterator[list[Tab]]:
    """So many tabs with the page of one server."""
    pages: list[Page] = []
    desk = Desk(explorer)
    async with user_simulation(root=lambda: pages.append(Page(desk))) as first:
        transport = partial(httpx.ASGITransport, core.app)
        others = [
            User(httpx.AsyncClient(transport=transport(), base_url="http://test"))
            for _ in range(count - 1)
        ]
        for user in (first, *others):
            await user.open("/")
        failed = None
        try:
            yield [Tab(user, page) for user, page in zip((first, *others), pages, strict=True)]
        except BaseException as error:  # NiceGUI ends well only where nothing has failed
            failed = error
        for page in pages:
            page.close()
        desk.close()
    if failed is not None:
        raise failed


def browsing(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run to its end."""

    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = __import__("inspect").signature(test)  # pyright: ignore
    return run


@pytest.fixture
def own_explorer(explored, large_digits, tmp_path) -> Explorer:
    """An explorer of a copy of the run."""
    shutil.copytree(explored, tmp_path / "run")
    return Explorer(tmp_path / "run", large_digits)


@pytest.fixture(autouse=True)
def _quick_to_compute(monkeypatch) -> None:
    """Maps are of no estimates, attacks of one step: what they are is tested without a page."""
    monkeypatch.setattr(Explorer, "estimates", lambda self, z, preference: z[:, :2].sigmoid())
    monkeypatch.setattr("hypergen.experiments.explorer.QUICK_STEPS", 1)
    monkeypatch.setattr(module, "CHUNK", 81)


@browsing
async def test_a_network_is_chosen_tried_and_kept(own_explorer):
    async with tabs(own_explorer) as (tab,):
        page = tab.page
        await tab.settled()
        assert not page.cells.isnan().any()
        first = page.chosen
        tab.trigger(Slider, "moved", 0.9, "beta")
        tab.trigger(Plane, "chosen", [0.5, -0.25])
        await tab.settled()
        assert page.chosen is not first and page.place == (0.5, -0.25)
        assert float(page.chosen.preference) == pytest.approx(0.9)
        expected = own_explorer.slice(0).points(torch.tensor([[0.5, -0.25]]))[0]
        assert torch.equal(page.chosen.z, expected)
        assert f"{100 * float(page.chosen.estimates[1]):.1f} %" in page.estimates.content

        tab.user.find("draw one").click()
        tab.trigger(Drawing, "drawn", [255] * 784)
        await tab.settled()
        assert page.trying.label is None and page.trying.image.eq(1).all()
        tried = page._tried(page.chosen.population, page.trying.image, None, 0.1)
        is_same = tried.probabilities.argmax() == tried.attacked.probabilities.argmax()
        await tab.user.should_see("Not fooled" if is_same else "Fooled")

        tab.click("Keep this network")
        path = own_explorer.folder / "explored" / "network-0000.safetensors"
        await tab.user.should_see(f"Kept as {path}", retries=50)
        assert read_metadata(path)["z"] == page.chosen.z.tolist()


@browsing
async def test_two_tabs_do_not_disturb_each_other(own_explorer):
    async with tabs(own_explorer, 2) as (one, other):
        await one.settled()
        await other.settled()
        untouched = other.page.chosen
        one.trigger(Slider, "moved", 0.1, "beta")
        one.click("Another slice")
        one.click("Next")
        await one.settled()
        assert (one.page.number, one.page.values, one.page.trying.label) == (
            1,
            {"beta": 0.1},
            own_explorer.image(1)[1],
        )
        assert other.page.chosen is untouched and other.page.number == 0
        assert other.page.values == {"beta": 0.5}


@browsing
async def test_a_measurement_goes_on_beside_the_page_and_can_be_stopped(own_explorer, monkeypatch):
    go_on = threading.Event()

    def measure(self, chosen, images, advance):
        for done in range(1, images + 1):
            advance(done)
            go_on.wait(0.05)
        assert go_on.wait(60)
        return {"accuracy": 0.5, "intervals": {}, "attack": {"images": images}}

    monkeypatch.setattr(Explorer, "measure", measure)
    async with tabs(own_explorer) as (tab,):
        await tab.settled()
        page, of = tab.page, tab.page.chosen
        measuring = asyncio.create_task(page._measure(3))
        await until(lambda: page._work is not None and page._work.done == 3)
        tab.trigger(Slider, "moved", 0.2, "beta")  # which is answered meanwhile
        await tab.settled()
        assert page.chosen is not of and page.measured is None
        go_on.set()
        await measuring
        assert page.measured[0] is of
        await tab.user.should_see("A network chosen earlier, on 3 attacked validation images")

        go_on.clear()
        before = page.measured
        measuring = asyncio.create_task(page._measure(10_000))
        await until(lambda: page._work.images == 10_000 and page._work.done > 1)
        tab.click("Stop")
        await asyncio.wait_for(measuring, 60)
        assert page.measured is before


@browsing
async def test_a_run_that_trains_on_is_loaded_anew(own_explorer, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.05)
    file = own_explorer.folder / "checkpoint.safetensors"
    async with tabs(own_explorer, 2) as (one, other):
        await one.settled()
        await one.user.should_not_see("Reload")
        shutil.copy(file, file.with_name("new"))
        file.with_name("new").replace(file)
        for tab in (one, other):
            await tab.user.should_see("Reload", retries=100)
        one.click("Reload")
        await until(lambda: one.page.explorer is not own_explorer)
        await one.settled()
        await one.user.should_not_see("Reload")
        assert not one.page.explorer.is_outdated
        assert other.page.explorer is own_explorer  # until it asks for it
        other.click("Reload")
        await until(lambda: other.page.explorer is one.page.explorer)
        await other.settled()


@browsing
async def test_what_a_browser_should_never_send_changes_nothing(own_explorer):
    async with tabs(own_explorer) as (tab,):
        await tab.settled()
        tab.user.find("draw one").click()
        for value in (None, "x", [1], ["a", "b"], [[1], 2], {}, 7.0):
            tab.trigger(Plane, "chosen", value)
            tab.trigger(Drawing, "drawn", value)
            tab.trigger(Slider, "moved", [value], "beta")
        tab.trigger(Slider, "moved", 7.0, "beta")  # beyond its end
        tab.trigger(Drawing, "drawn", ["x"] * 784)
        assert tab.page.values == {"beta": 0.5} and tab.page.place == (0.0, 0.0)
        assert tab.page.trying.label is not None and not tab.page.stale


def test_a_moved_slider_is_answered_at_once(explorer):
    """In time of one core, the least of several: other processes may be at work."""
    image, label = explorer.image(0)
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = []
        for beta in (0.1, 0.3, 0.5, 0.7, 0.9):
            start = time.thread_time()
            chosen = explorer.choose(torch.zeros(16), explorer.preference({"beta": beta}))
            explorer.probabilities(chosen.population, image)
            times.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(cores)
    print(f"answered in {min(times):.3f} s of one core")
    assert min(times) < 0.5


def test_a_port_that_is_taken_is_told():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="`port` .* cannot be had"):
            free_port(taken.getsockname()[1])
    assert 1024 <= free_port(None) <= 65535


def test_everything_that_the_page_is_made_of_comes_with_the_package():
    here = Path(module.__file__).parent
    for path in here.iterdir():
        if path.suffix in (".js", ".css"):
            text = path.read_text()
            assert "http" not in text.replace("http-equiv", ""), path.name
