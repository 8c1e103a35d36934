"""A page as one HTML file that asks nothing of any other."""

import base64
import gzip
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hypergen.report.page.blocks import Chart, Page
from hypergen.report.page.words import glossary
from hypergen.storage.impersonal import impersonal_tree

ALSO = "epsilon", "beta", "z", "interval", "value network"
"""Words that stand in sentences and not at the head of a table."""


def html(page: Page) -> str:
    """The page as HTML: tables, pictures, data and the drawing library inside it.

    What results and names hold is text there, whatever it looks like.
    """
    words = glossary(page.tables, ALSO)
    charts = [
        block for section in page.sections for block in section.blocks if isinstance(block, Chart)
    ]
    return _template().render(
        page=page,
        words=words,
        anchor=anchor,
        in_code=in_code,
        style=_part("page.css"),
        script=_part("page.js"),
        results=embedded(impersonal_tree(page.results)),
        charts=embedded([_described(chart) for chart in charts]),
        number=lambda chart: next(n for n, each in enumerate(charts) if each is chart),
        plotly=Markup(compressed_plotly()) if charts else "",
    )


@cache
def _template() -> Any:
    loader = PackageLoader("hypergen.report.page", "")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["typeset"] = lambda text: text.replace(" +- ", " ± ")
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.get_template("page.html")


@cache
def _part(name: str) -> Markup:
    """A file beside the template, which is ours and needs no escapes."""
    return Markup(files("hypergen.report.page").joinpath(name).read_text())


@cache
def compressed_plotly() -> str:
    """plotly.js as base64 of gzip: 2 MB in the place of 5."""
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 6, mtime=0)).decode()


def embedded(tree: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends that element.

    What is no number is null: browsers read no other.
    """
    text = json.dumps(json.loads(json.dumps(tree), parse_constant=lambda name: None))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def _described(chart: Chart) -> dict[str, Any]:
    views = [{"shown": view.shown, "layout": view.layout} for view in chart.views]
    return {"traces": chart.traces, "layout": chart.layout, "views": views}


def anchor(text: str) -> str:
    """A text as the name of a place on the page: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def in_code(text: str) -> Markup:
    """A sentence with what stands in backquotes set as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
