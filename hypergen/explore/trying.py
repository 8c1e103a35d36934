"""The card on which networks are tried: an image, an attack on it, and what networks say."""

from collections.abc import Callable
from dataclasses import dataclass

from nicegui import ui
from torch import Tensor

from hypergen.experiments.explorer import VOTERS, Attacked, Explorer
from hypergen.explore.drawing import Drawing
from hypergen.explore.markup import bars
from hypergen.explore.parts import Picture, Slide, button, card
from hypergen.explore.pictures import change_address, image_address

REACH = 3
"""How far the slider of epsilon goes, in the radii that the run was trained for."""


@dataclass(frozen=True)
class Tried:
    """What networks make of an image [C,H,W]: their probabilities [K] of it, and it attacked."""

    image: Tensor
    probabilities: Tensor
    attacked: Attacked


class TryCard:
    """Where an image and an attack are chosen.

    Attributes:
        image: [C,H,W]; label: its class, None of one that was drawn by hand.
        epsilon: of the attack.
    """

    def __init__(self, explorer: Explorer, on_change: Callable[[], None]):
        self._explorer, self._on_change = explorer, on_change
        self.image, self.label = explorer.image(0)
        self.label: int | None
        self.epsilon = explorer.threat.epsilon
        text = "What does the network say of one image, and can a small change of it fool it?"
        with card("4. Try it on an image", text):
            with ui.element("div").classes("sources"):
                with ui.element("div").classes("source"):
                    self._source()
                with ui.element("div").classes("attack"):
                    self._attack()
            self.own = Answer("The chosen network", explorer)
            self.voters = Answer(f"{VOTERS} samples voting", explorer)

    def _source(self) -> None:
        images = len(self._explorer.dataset.test)
        is_grey = self._explorer.dataset.input_shape[0] == 1
        if is_grey:
            kinds = {"test": "a test image", "drawn": "draw one"}
            ui.radio(kinds, value="test").props("inline").on_value_change(
                lambda event: self._use(event.value)
            )
        with ui.element("div").classes("chooser") as self._chooser:
            button("Previous", lambda: self._step(-1), "plain")
            label = f"test image, 0 to {images - 1}"
            self._number = ui.number(label, value=0, min=0, max=images - 1, precision=0)
            self._number.on_value_change(lambda: self._take())
            button("Next", lambda: self._step(1), "plain")
        if not is_grey:
            ui.label("Only test images are offered: drawing is for grey ones.").classes("help")
            return
        with ui.element("div").classes("pad") as self._pad:
            self._drawing = Drawing(self._explorer.dataset, self._drawn)
            with ui.element("div").classes("chooser"):
                ui.label("Draw large and in the middle.").classes("help")
                button("Clear", self._drawing.clear_drawing, "plain")
        self._pad.set_visibility(False)

    def _attack(self) -> None:
        trained = self._explorer.threat
        units = {"linf": "each pixel", "l2": "the image (L2 length)", "l1": "the image (L1 length)"}
        name = f"The attacker may change {units[trained.norm]} by up to"
        highest = REACH * trained.epsilon or 1.0
        if trained.norm == "linf":
            highest = min(highest, 1.0)
        Slide(name, 0.0, highest, self.epsilon, "epsilon {:.3f}".format, self._set_epsilon)
        ui.label(
            f"The run was trained against {trained.epsilon:.3g}; pixels go from 0 to 1. This is a "
            "quick attack: where it fails, a stronger one may not."
        ).classes("help")

    def _set_epsilon(self, value: float) -> None:
        self.epsilon = value
        self._on_change()

    def _use(self, kind: str) -> None:
        self._chooser.set_visibility(kind == "test")
        self._pad.set_visibility(kind == "drawn")
        if kind == "test":
            self._take()
        else:
            self._drawing.clear_drawing()

    def _step(self, by: int) -> None:
        images = len(self._explorer.dataset.test)
        self._number.value = (int(self._number.value or 0) + by) % images

    def _take(self) -> None:
        number, images = self._number.value, len(self._explorer.dataset.test)
        if number is not None and 0 <= number < images:
            self.image, self.label = self._explorer.image(int(number))
            self._on_change()

    def _drawn(self, image: Tensor) -> None:
        self.image, self.label = image, None
        self._on_change()


class Answer:
    """What one network, or several that vote, say of the image and of it attacked."""

    def __init__(self, name: str, explorer: Explorer):
        self._explorer = explorer
        with ui.element("section").classes("answer").props(f'aria-label="{name}"') as self._whole:
            ui.label(name).classes("who")
            self._verdict = ui.label("computing ...").classes("verdict").props('aria-live="polite"')
            with ui.element("div").classes("answer-row"):
                self._clean = Picture("the image")
                self._before = ui.html("").classes("bars")
                self._change = Picture("the change")
                self._attacked = Picture("attacked")
                self._after = ui.html("").classes("bars after")

    def wait(self) -> None:
        """Shows that what stands here is of before."""
        self._whole.classes(add="waiting")

    def show(self, tried: Tried, label: int | None, votes: list[int] | None = None) -> None:
        """Shows what was found; votes: what each of several says of the clean image."""
        names = self._explorer.dataset.class_names
        said, now = int(tried.probabilities.argmax()), int(tried.attacked.probabilities.argmax())
        self._clean.show(image_address(tried.image), "the image")
        change, factor = change_address(tried.image, tried.attacked.image)
        self._change.show(change, f"the change, magnified {factor:.0f} times")
        self._attacked.show(image_address(tried.attacked.image), "attacked")
        self._before.set_content(bars(tried.probabilities, names, label))
        self._after.set_content(bars(tried.attacked.probabilities, names, label))
        text = _verdict(names, said, now, label)
        if votes is not None:
            text += f" {votes.count(said)} of {len(votes)} samples say {names[said]} before it."
        self._verdict.set_text(text)
        is_wrong = said != now or label not in (None, said)
        self._whole.classes(remove="waiting fooled", add="fooled" if is_wrong else "")


def _verdict(names: tuple[str, ...], said: int, now: int, label: int | None) -> str:
    if label is not None and said != label:
        return f"Wrong without any attack: it says {names[said]}, and it is {names[label]}."
    if said != now:
        return f"Fooled: it says {names[said]}, and {names[now]} after the attack."
    return f"Not fooled: it says {names[said]}, and still does after the attack."
