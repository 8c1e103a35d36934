import base64
import re
from html.parser import HTMLParser

import pytest

from hypergen.report.page import page
from hypergen.report.summary import run_table
from hypergen.report.tables import Table

PICTURE = b"\x89PNG and any bytes \x00\xff"


class Cells(HTMLParser):
    """Collects a page's table, row by row, and every attribute that loads something."""

    def __init__(self, text: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "data")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def test_the_page_holds_the_table_cell_by_cell(run_result):
    table = run_table(run_result)
    found = Cells(page("run", [], table, PICTURE)).rows
    assert found == [list(table.headers), *map(list, table.rows)]
    kinds = run_result["summary"]
    assert [row[0] for row in found[1:]] == list(kinds)
    for row in found[1:]:
        figure = float(re.match(r"\d+\.\d+", row[2])[0]) / 100
        assert figure == pytest.approx(kinds[row[0]]["accuracy"]["mean"], abs=0.5001e-3)


def test_the_page_loads_nothing_and_holds_the_picture(run_result):
    text = page("run", ["better"], run_table(run_result), PICTURE)
    (source,) = Cells(text).loaded
    kind, _, encoded = source.partition(",")
    assert kind == "data:image/png;base64" and base64.b64decode(encoded) == PICTURE
    assert "http" not in text and "<script" not in text and "@import" not in text
    assert 'name="viewport"' in text and "<p>better</p>" in text


def test_names_are_text_and_never_markup():
    name = "<script>alert('&')</script>"
    table = Table((name, name), [(name, name)], [name], {name: name})
    text = page(name, [name], table, PICTURE)
    assert "<script" not in text and Cells(text).rows == [[name, name]] * 2


def test_notes_and_key_stand_below_the_table(run_result):
    table = run_table(run_result)
    below = page("run", [], table, PICTURE).partition("</table>")[2]
    for text in ("PGD-50 and SRA on the same 100", "<dt>fbf average</dt><dd>one network"):
        assert text in below
