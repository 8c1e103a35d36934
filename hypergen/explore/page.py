"""The page itself, one for each browser tab: what is chosen on it, and what is to be shown anew."""

import asyncio
from pathlib import Path
from typing import Any

import torch
from nicegui import background_tasks, ui
from torch import Tensor

from attacks import AttackError
from hypergen.errors import InputError
from hypergen.experiments.explorer import KEPT, Chosen, Explorer
from hypergen.experiments.latent_slice import SIDE
from hypergen.explore.choosing import MapCard, PreferenceCard
from hypergen.explore.desk import Desk, Measuring, Stopped
from hypergen.explore.keeping import KeepCard, MeasureCard
from hypergen.explore.markup import estimates
from hypergen.explore.parts import button, card, heading
from hypergen.explore.trying import Tried, TryCard
from targets import Ensemble, TargetError

CHUNK = 4
"""Points of the map that are estimated at once: while they are, nothing else of that thread is."""
LOOK = 3.0
"""Seconds between two looks at whether the run has a newer checkpoint."""
STYLE = (Path(__file__).parent / "style.css").read_text()
PARTS = "network", "image", "voters", "map"
"""What is computed, in this order: what a hand is on comes first."""
ERRORS = InputError, AttackError, TargetError


class Page:
    """What one browser tab shows of a run.

    `stale` names the parts of `PARTS` that are still of before. They are computed one after the
    other; whatever changes meanwhile ends that, and it begins anew with what is stale by then.
    """

    def __init__(self, desk: Desk):
        self.desk, self.explorer = desk, desk.explorer
        self.values = {slider.name: slider.start for slider in self.explorer.sliders()}
        self.number, self.place = 0, (0.0, 0.0)
        self.cells = torch.full((SIDE * SIDE, len(self.explorer.measures)), torch.nan)
        self.stale: set[str] = set()
        self.chosen: Chosen | None = None
        self.ensemble: Ensemble | None = None
        self.measured: tuple[Chosen, dict[str, Any]] | None = None
        self._work: Measuring | None = None
        self._task: asyncio.Task[Any] | None = None
        self._build()
        ui.context.client.on_delete(self.close)
        self.changed(*PARTS)

    def _build(self) -> None:
        explorer = self.explorer
        ui.add_css(STYLE)
        with ui.element("div").classes("page"):
            self._head()
            with ui.element("div").classes("column"):
                PreferenceCard(explorer, self._prefer)
                self.map = MapCard(explorer, self._choose, self._another_slice)
            with ui.element("div").classes("column"):
                with card("3. What to expect of it", ""):
                    self._sure = ui.label(_how_sure(explorer)).classes("help")
                    self.estimates = ui.html("computing ...").props('aria-live="polite"')
                self.trying = TryCard(explorer, lambda: self.changed("image", "voters"))
                with ui.element("div").classes("pair"):
                    images = len(explorer.dataset.val)
                    self.measuring = MeasureCard(images, self._measure, self._stop)
                    KeepCard(explorer.folder / KEPT, self._keep)

    def _head(self) -> None:
        explorer, config = self.explorer, self.explorer.sampler.config
        with ui.element("header").classes("head"):
            heading(1, "Explore a generator of networks")
            ui.label(
                f"Run {explorer.folder}: {config.target} ({explorer.weights:,} weights) for "
                f"{explorer.dataset.name}, trained against {config.adversary.norm} "
                f"{explorer.threat.epsilon:.3g}."
            ).classes("run")
            ui.label(
                "The generator makes networks: choose one by what it should be good at and by its "
                "place on the map, try it on images, measure it, and keep it as a file."
            ).classes("run")
            with ui.element("div").classes("newer").props('role="status"') as self._newer:
                ui.label("The run has trained on: there is a newer checkpoint.")
                button("Reload", self._reload, "plain")
        self._newer.set_visibility(False)
        ui.timer(LOOK, lambda: self._newer.set_visibility(self.explorer.is_outdated))

    def changed(self, *parts: str) -> None:
        """Computes these parts anew, and what is stale already."""
        self.stale |= {*parts}
        if "image" in self.stale:
            self.trying.own.wait()
        if "voters" in self.stale:
            self.trying.voters.wait()
        if self._task is not None:
            self._task.cancel()
        self._task = background_tasks.create(self._compute())

    async def _compute(self) -> None:
        steps = {
            "network": self._show_network,
            "image": self._show_image,
            "voters": self._show_voters,
            "map": self._show_map,
        }
        for part in PARTS:
            if part in self.stale:
                try:
                    await steps[part]()
                except ERRORS as error:
                    self._tell(error)
                    return
                self.stale.discard(part)

    async def _show_network(self) -> None:
        z = self.explorer.slice(self.number).points(torch.tensor([self.place]))[0]
        preference = self.explorer.preference(self.values)
        self.chosen = await self.desk.quick(self.explorer.choose, z, preference)
        self.estimates.set_content(estimates(self.chosen, self.explorer))
        self._show_measured()

    async def _show_image(self) -> None:
        assert self.chosen is not None
        image, label = self.trying.image, self.trying.label
        asked = self.chosen.population, image, label, self.trying.epsilon
        self.trying.own.show(await self.desk.quick(self._tried, *asked), label)

    async def _show_voters(self) -> None:
        image, label = self.trying.image, self.trying.label
        if self.ensemble is None:
            preference = self.explorer.preference(self.values)
            self.ensemble = await self.desk.later(self.explorer.voters, preference)
        asked = self.ensemble, image, label, self.trying.epsilon
        tried = await self.desk.later(self._tried, *asked)
        votes = await self.desk.later(self.explorer.votes, self.ensemble, image)
        self.trying.voters.show(tried, label, votes)

    def _tried(self, networks: Any, image: Tensor, label: int | None, epsilon: float) -> Tried:
        """What networks say; of an image without a class the attack leads away from their own."""
        before = self.explorer.probabilities(networks, image)
        away = int(before.argmax()) if label is None else label
        return Tried(image, before, self.explorer.attack(networks, image, away, epsilon))

    async def _show_map(self) -> None:
        latent_slice, cells = self.explorer.slice(self.number), self.cells
        z = latent_slice.points(latent_slice.cells())
        preference = self.explorer.preference(self.values)
        missing = cells[:, 0].isnan().nonzero()[:, 0]
        rng = torch.Generator().manual_seed(0)  # in no order, so that the whole is soon known
        for some in missing[torch.randperm(len(missing), generator=rng)].split(CHUNK):
            cells[some] = await self.desk.later(self.explorer.estimates, z[some], preference)
            self.map.set_values(cells)

    def _prefer(self, name: str, value: float) -> None:
        self.values[name] = value
        self._forget()
        self.changed(*PARTS)

    def _choose(self, across: float, up: float) -> None:
        self.place = across, up
        self.changed("network", "image")

    def _another_slice(self) -> None:
        self.number, self.place = self.number + 1, (0.0, 0.0)
        self.map.set_place(*self.place)
        self.cells.fill_(torch.nan)
        self.changed("network", "image", "map")

    async def _reload(self) -> None:
        before = self.explorer
        try:
            self.explorer = await self.desk.reload()
        except ERRORS as error:
            self._tell(error)
            return
        if self.explorer.sampler.config != before.sampler.config:  # sliders and measures differ
            ui.navigate.reload()
            return
        self._newer.set_visibility(False)
        self.map.explorer = self.explorer
        self._sure.set_text(_how_sure(self.explorer))
        self._forget()
        self.changed(*PARTS)

    def _forget(self) -> None:
        """What was computed for another preference, or another generator, holds no more."""
        self.cells = torch.full_like(self.cells, torch.nan)
        self.ensemble = None

    async def _measure(self, images: int) -> None:
        chosen, explorer = self.chosen, self.explorer
        if chosen is None:
            return
        work = self._work = Measuring(images)
        self.measuring.wait(work)
        try:
            figures = await self.desk.measure(explorer, chosen, work)
        except Stopped:
            return
        except ERRORS as error:
            self._tell(error)
            return
        finally:
            self.measuring.wait(None)
        self.measured = chosen, figures
        self._show_measured()

    def _show_measured(self) -> None:
        if self.measured is not None:
            network, figures = self.measured
            which = "This network" if network is self.chosen else "A network chosen earlier"
            self.measuring.show(figures, which)

    def _stop(self) -> None:
        if self._work is not None:
            self._work.is_stopped = True
            self.measuring.say("Stopping after the images that are under attack now ...")

    async def _keep(self) -> Path | None:
        if self.chosen is None:
            return None
        figures = None
        if self.measured is not None and self.measured[0] is self.chosen:
            figures = self.measured[1]
        try:
            return await self.desk.quick(self.explorer.keep, self.chosen, figures)
        except (*ERRORS, OSError) as error:
            self._tell(error)
            return None

    def _tell(self, error: Exception) -> None:
        with self.estimates.client:
            ui.notify(str(error), type="negative", timeout=10_000, close_button="close")

    def close(self) -> None:
        """The tab is gone: nothing is computed for it any more."""
        if self._task is not None:
            self._task.cancel()
        if self._work is not None:
            self._work.is_stopped = True


def _how_sure(explorer: Explorer) -> str:
    """What the figures are, and what stands after them."""
    text = "The value network V estimates, at once, shares of validation images. "
    if not explorer.errors:
        return f"{text}How far off it may be is not known: this run has not been checked yet."
    text += f"± is how far it is off by the run's own check ({explorer.checked})."
    if explorer.sampler.config.value_network.members > 1:
        text += " Members: how far the value networks of its ensemble differ."
    return text
