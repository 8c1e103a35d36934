"""The cards on which a network is measured, and kept as a file."""

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from hypergen.explore.desk import Measuring
from hypergen.explore.markup import measured
from hypergen.explore.parts import button, card

SIZES = [10, 20, 50, 100, 200, 500, 1000]
"""Numbers of images to choose from."""
USUAL = 50
TICK = 0.5
"""Seconds between two looks at how far a measurement is."""


class MeasureCard:
    """Where the real attack on some images is started, watched and stopped."""

    def __init__(
        self,
        images: int,
        on_start: Callable[[int], Awaitable[None]],
        on_stop: Callable[[], None],
    ):
        self._work: Measuring | None = None
        text = (
            "Estimates are no measurements. This runs the standard attacks (APGD-CE, APGD-T, FAB-T "
            "and Square), which takes minutes; the page stays usable meanwhile."
        )
        sizes = [size for size in SIZES if size < images] + [images] * (images <= SIZES[-1])
        with card("5. Measure it", text):
            with ui.element("div").classes("chooser"):
                size = ui.select(sizes, label="validation images", value=min(USUAL, images))
                self._start = button("Measure", lambda: on_start(size.value))
                self._stop = button("Stop", on_stop, "plain")
            self._bar = ui.linear_progress(0.0, show_value=False).props('aria-label="measured"')
            self._says = ui.label().classes("help").props('aria-live="polite"')
            self._measured = ui.label().classes("help").props('aria-live="polite"')
            self._figures = ui.html("")
            ui.timer(TICK, self._look)
        self.wait(None)

    def wait(self, work: Measuring | None) -> None:
        """Shows how far a measurement is from now on; None: there is none."""
        self._work = work
        self._start.set_enabled(work is None)
        self._stop.set_visibility(work is not None)
        self._bar.set_visibility(work is not None)
        self._says.set_text("")

    def _look(self) -> None:
        if self._work is not None:
            done, images = self._work.done, self._work.images
            self._bar.set_value(done / images)
            self._says.set_text(f"{done} of {images} images attacked")

    def say(self, text: str) -> None:
        """Says something in the place of figures."""
        self._says.set_text(text)

    def show(self, figures: dict[str, Any], which: str) -> None:
        """Shows what was measured; which: of which network."""
        self._figures.set_content(measured(figures))
        self._measured.set_text(
            f"{which}, on {figures['attack']['images']} attacked validation images; each with its "
            "95 % interval."
        )


class KeepCard:
    """Where the chosen network is written to a file."""

    def __init__(self, folder: Path, on_keep: Callable[[], Awaitable[Path | None]]):
        text = f"Writes the chosen network to {folder}/, as a weight file that PyTorch opens."
        with card("6. Keep it", text):
            button("Keep this network", self._keep)
            self._kept = ui.element("div").props('aria-live="polite"')
        self._on_keep = on_keep

    async def _keep(self) -> None:
        path = await self._on_keep()
        if path is None:
            return
        with self._kept:
            ui.label(f"Kept as {path}").classes("kept")
            ui.label("Judge it on all test images:").classes("help")
            ui.label(shlex.join(["hypergen", "evaluate", str(path)])).classes("command")
