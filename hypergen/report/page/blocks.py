"""What a page is made of, whatever it is written as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypergen.report.tables import Table


@dataclass(frozen=True)
class Card:
    """A figure that stands out at the top of a page.

    value: as text, with its unit; beside: what to compare it with, a sentence or nothing.
    """

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Paragraphs:
    """Sentences, a paragraph each."""

    kind: ClassVar[str] = "paragraphs"
    texts: Sequence[str]


@dataclass(frozen=True)
class Figures:
    """A table under a caption.

    folded: whether it is shown only when it is asked for.
    """

    kind: ClassVar[str] = "figures"
    caption: str
    table: Table
    folded: bool = False


@dataclass(frozen=True)
class View:
    """One way to look at a chart, chosen by a button.

    shown: whether each trace is; layout: what it changes of the chart's, as plotly has it, by paths
    such as "xaxis.range".
    """

    name: str
    shown: Sequence[bool]
    layout: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A chart that plotly draws, with all of its figures as a table beside it.

    traces, layout: as plotly has them, plain lists and dicts; figures in them are percent where an
    axis says so. views: the first is the one that is shown.
    """

    kind: ClassVar[str] = "chart"
    caption: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    table: Table
    views: Sequence[View] = ()


@dataclass(frozen=True)
class Picture:
    """A picture in a file's bytes; text: what it shows, for who cannot see it."""

    kind: ClassVar[str] = "picture"
    caption: str
    text: str
    data: bytes
    mime: str = "image/png"


@dataclass(frozen=True)
class Attacked:
    """An image before and after an attack, as PNG, and what a network makes of both."""

    clean: bytes
    change: bytes
    attacked: bytes
    label: str
    before: str
    after: str
    fooled: bool


@dataclass(frozen=True)
class Gallery:
    """Images that were attacked against one network."""

    kind: ClassVar[str] = "gallery"
    caption: str
    examples: Sequence[Attacked]


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str


Block = Paragraphs | Figures | Chart | Picture | Gallery | Code


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """All that a page says.

    Args:
        title: of what it is about, such as a folder's name.
        subject: what was looked at, in a line.
        question: what is asked, a sentence.
        verdict: the answer, a sentence.
        advice: further sentences on it; settings in backquotes.
        cards: the figures that matter most.
        sections: the rest, in its order.
        results: what the page was made of, as results.json has it.
    """

    title: str
    subject: str
    question: str
    verdict: str
    advice: Sequence[str]
    cards: Sequence[Card]
    sections: Sequence[Section]
    results: Mapping[str, Any]

    @property
    def tables(self) -> list[Table]:
        """All that stand on the page, in their order."""
        found = []
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Figures | Chart):
                    found.append(block.table)
        return found
