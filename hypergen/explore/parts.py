"""Small parts that the page is made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

THROTTLE = 0.1
"""Seconds between two values of a slider that is being moved."""
PIXELS = "image-rendering: pixelated"


def heading(level: int, text: str) -> None:
    """A heading, as screen readers know it too."""
    ui.label(text).props(f'role="heading" aria-level="{level}"').classes(f"heading-{level}")


@contextmanager
def card(title: str, text: str) -> Iterator[None]:
    """A part of the page with a heading, and a sentence on what can be done there."""
    with ui.element("section").classes("card").props(f'aria-label="{title}"'):
        heading(2, title)
        if text:
            ui.label(text).classes("help")
        yield


def button(text: str, on_click: Callable[..., Any], kind: str = "act") -> ui.button:
    """A button, "act" for what a card is for, "plain" for what stands beside it."""
    made = ui.button(text, on_click=on_click, color=None).classes(kind)
    return made.props("no-caps unelevated")


class Slider(ui.element, component="slider.js"):
    """The browser's own slider; the value that it is set to is told to nobody."""

    def __init__(self, name: str, low: float, high: float, value: float):
        super().__init__()
        self.props["label"], self.props["step"] = name, (high - low) / 100
        self.props["min"], self.props["max"], self.props["value"] = low, high, value

    def set(self, value: float, text: str) -> None:
        """Moves it, and lets a screen reader say its value as `text`."""
        self.props["value"], self.props["text"] = value, text


class Slide:
    """A slider with its name and its value in words; `on_move` is called when somebody moves it.

    Attributes:
        value: where it stands.
    """

    def __init__(
        self,
        name: str,
        low: float,
        high: float,
        value: float,
        says: Callable[[float], str],
        on_move: Callable[[float], None],
    ):
        self._says, self._on_move, self._ends = says, on_move, (low, high)
        with ui.element("div").classes("slide"):
            with ui.element("div").classes("slide-head"):
                ui.label(name).classes("name")
                self._text = ui.label().classes("value")
            self._slider = Slider(name, low, high, value)
        self._slider.on("moved", lambda event: self._moved(event.args), throttle=THROTTLE)
        self.set(value)

    def set(self, value: float) -> None:
        """Moves it, and tells nobody."""
        self.value = value
        self._text.set_text(self._says(value))
        self._slider.set(value, self._says(value))

    def _moved(self, value: Any) -> None:
        low, high = self._ends
        if isinstance(value, int | float) and low <= value <= high:
            self.set(float(value))
            self._on_move(self.value)


class Picture:
    """An image with a line below it."""

    def __init__(self, caption: str, kind: str = ""):
        with ui.element("figure").classes(f"picture {kind}"):
            self._image = ui.element("img").style(PIXELS)
            with ui.element("figcaption"):
                self._caption = ui.label(caption)

    def show(self, address: str, caption: str) -> None:
        """Shows an image; the line is also what a screen reader says of it."""
        self._image.props["src"], self._image.props["alt"] = address, caption
        self._caption.set_text(caption)
