"""The cards by which a network is chosen: the preference, and a map of the latent space."""

from collections.abc import Callable
from typing import Any

import torch
from nicegui import ui
from torch import Tensor

from hypergen.experiments.explorer import Explorer
from hypergen.experiments.latent_slice import SIDE
from hypergen.explore.markup import title
from hypergen.explore.parts import Slide, button, card
from hypergen.explore.pictures import colour_bar, map_address


class PreferenceCard:
    """Sliders for what a network should be good at; or why there are none."""

    def __init__(self, explorer: Explorer, on_change: Callable[[str, float], None]):
        sliders = explorer.sliders()
        text = "Move the slider: every network on this page is made anew for it."
        with card("1. What matters more?", text if sliders else ""):
            if not sliders:
                ui.label(_why_none(explorer)).classes("help")
            for each in sliders:
                says = SAYS.get(each.name, "{:.2f}".format)
                move = _moving(each.name, on_change)
                name = NAMES.get(each.name, f"Weight of {each.name}")
                Slide(name, each.low, each.high, each.start, says, move)
                if each.name in NAMES:
                    with ui.element("div").classes("ends"):
                        ui.label("accurate")
                        ui.label("robust")


def _moving(name: str, on_change: Callable[[str, float], None]) -> Callable[[float], None]:
    return lambda value: on_change(name, value)


def _says_beta(beta: float) -> str:
    return f"{beta:.2f}: robustness counts {100 * beta:.0f} %, accuracy {100 - 100 * beta:.0f} %"


NAMES = {
    "beta": "Accuracy or robustness (beta)",
    "radius": "Accuracy or robustness (radius to withstand)",
}
"""What the sliders of a number are called."""
SAYS: dict[str, Callable[[float], str]] = {"beta": _says_beta, "radius": "epsilon {:.3f}".format}
"""How their values are told."""


def _why_none(explorer: Explorer) -> str:
    objective = explorer.sampler.config.objective
    if objective.measures:
        how = "It was trained for fixed weights of its measures. Train with ranges, such as "
        how += "--measure accuracy=0:1 --measure robustness=0:1, "
    else:
        how = f"It was trained at one preference, beta = {objective.beta_range[0]:g} (the weight "
        how += "of robustness beside accuracy). Train with --beta 0:1 "
    return f"This generator has no slider. {how}to have one generator for all preferences."


class Plane(ui.element, component="plane.js"):
    """A picture of a plane with a point that is marked; it says which one a click has chosen."""

    def __init__(self, label: str):
        super().__init__()
        self.props["label"] = label

    def show(self, picture: str, place: tuple[float, float]) -> None:
        """Shows a picture by its address, and marks a place in [-1,1] across and up."""
        self.props["picture"] = picture
        self.props["across"], self.props["up"] = place


class MapCard:
    """A map of a slice of z, coloured by what V estimates; a click chooses a point.

    Attributes:
        explorer: whose errors it warns by.
        shown: the measure that it is coloured by, an index.
    """

    def __init__(
        self,
        explorer: Explorer,
        on_choice: Callable[[float, float], None],
        on_slice: Callable[[], None],
    ):
        self.explorer, self._on_choice = explorer, on_choice
        self._values = torch.full((SIDE * SIDE, len(explorer.measures)), torch.nan)
        self._place, self.shown = (0.0, 0.0), len(explorer.measures) - 1
        text = (
            "Every point is a network, made from its latent sample z. Click one, or use the two "
            "sliders. Colours are estimates of the value network V from few images: compare them "
            "with each other."
        )
        with card("2. Choose a network", text):
            names = dict(enumerate(map(title, explorer.measures)))
            choose = ui.select(names, label="colour by", value=self.shown).classes("wide")
            choose.on_value_change(lambda event: self._colour_by(event.value))
            self._plane = Plane("the map of the slice; its colours stand for the estimates")
            self._plane.on("chosen", lambda event: self._clicked(event.args))
            self._bar()
            self._across = self._axis("left or right")
            self._up = self._axis("down or up")
            self._note = ui.label().classes("help note")
            button("Another slice", on_slice, "plain")
        self.draw()

    def _bar(self) -> None:
        with ui.element("div").classes("colours"):
            self._low = ui.label()
            ui.element("div").classes("colour-bar").style(f"background: {colour_bar()}")
            self._high = ui.label()

    def _axis(self, name: str) -> Slide:
        return Slide(name, -1.0, 1.0, 0.0, "{:+.2f}".format, lambda value: self._slid())

    def set_values(self, values: Tensor) -> None:
        """Colours the map by values [cells, M]; NaN where none is known yet."""
        self._values = values
        self.draw()

    def set_place(self, across: float, up: float) -> None:
        """Marks a point, both in [-1,1], without telling anybody."""
        self._place = across, up
        self._across.set(across)
        self._up.set(up)
        self.draw()

    def draw(self) -> None:
        """Draws the map as far as it is known, and the point that is chosen."""
        values = self._values[:, self.shown]
        known = values[~values.isnan()]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        self._plane.show(map_address(values.view(SIDE, SIDE), low, high), self._place)
        self._low.set_text(f"{100 * low:.1f} %" if len(known) else "")
        self._high.set_text(f"{100 * high:.1f} %" if len(known) else "computing ...")
        self._note.set_text(self._doubt(low, high, len(known)))

    def _doubt(self, low: float, high: float, known: int) -> str:
        """Whether differences on the map are larger than V is usually wrong."""
        if known < len(self._values):
            return f"{known} of {len(self._values)} points estimated"
        error = self.explorer.errors.get(self.explorer.measures[self.shown])
        if error is None or high - low >= 2 * error:
            return ""
        return (
            f"V is usually off by {100 * error:.1f} points, and the whole map spans no more than "
            f"{100 * (high - low):.1f}: its colours may mean little."
        )

    def _colour_by(self, index: int) -> None:
        self.shown = index
        self.draw()

    def _clicked(self, place: Any) -> None:
        # It comes from a browser: anything may.
        if isinstance(place, list) and [type(each) in (int, float) for each in place] == [True] * 2:
            across, up = (max(-1.0, min(float(each), 1.0)) for each in place)
            self._choose(across, up)

    def _slid(self) -> None:
        self._choose(self._across.value, self._up.value)

    def _choose(self, across: float, up: float) -> None:
        self.set_place(across, up)
        self._on_choice(across, up)
