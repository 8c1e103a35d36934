"""The page of a run, read back: every figure on it is one of the results'."""

import base64
import gzip
import json
import re
import statistics

import pytest

from hypergen.report.page.html import html
from hypergen.report.page.markdown import markdown
from hypergen.report.page.run import run_page
from hypergen.report.summary import run_table
from hypergen.report.tables import Table, percent
from tests.hypergen.report.pages import EVIL, Cells, found_in_run, with_details

CHARTS = 10
"""On the page of a run with everything: scatter, front, over beta, curve, growth, attacks, measures
and losses of training, and one of each measure's estimates."""


@pytest.fixture
def result(run_result):
    return with_details(run_result)


@pytest.fixture
def page(result):
    return run_page(found_in_run(result))


@pytest.fixture
def read(page) -> Cells:
    return Cells(html(page))


def shown(row) -> list[str]:
    """The cells of a row as HTML shows them."""
    return [cell.replace(" +- ", " ± ") for cell in row]


def table_with(read: Cells, *heads: str) -> list[list[str]]:
    """The rows of the first table whose header begins so."""
    return next(t[1:] for t in read.tables if tuple(t[0][: len(heads)]) == heads)


def test_the_page_embeds_the_results_and_shows_all_tables_cell_by_cell(page, read, result):
    assert read.json("results") == json.loads(json.dumps(result))
    expected = [[shown(row) for row in (table.headers, *table.rows)] for table in page.tables]
    assert read.tables == expected
    own = run_table(result)
    assert table_with(read, "kind", "networks") == [shown(row) for row in own.rows]


def test_figures_of_networks_equal_the_results(read, result):
    rows = table_with(read, "network", "beta")
    networks = result["networks"]
    assert len(rows) == len(networks)
    for cells, network in zip(rows, networks, strict=True):
        assert cells[2] == f"{100 * network['accuracy']:.2f}"
        assert cells[3] == f"{100 * network['pgd']:.2f}"
        assert cells[4] == (f"{100 * network['sra']:.2f}" if "sra" in network else "-")
    differ = table_with(read, "kind", "disagree")
    assert {kind: float(share) for kind, share, _ in differ} == {
        kind: pytest.approx(100 * share, abs=0.0051)
        for kind, share in result["disagreement"].items()
    }
    for cells, (name, own) in zip(
        table_with(read, "measure", "mean error"), result["value_network"].items(), strict=True
    ):
        assert cells[:3] == [name, percent(own["mean_error"]), percent(own["overestimate"])]


def test_commands_time_and_machine_equal_the_results(page, read, result):
    rows = table_with(read, "call", "seconds")
    assert rows == [
        [str(place), seconds, EVIL, "2", "3.11.7", "2.6.0"]
        for place, seconds in enumerate(("1,234.5", "0.8", "2.0"), 1)
    ]
    (made,) = [section for section in page.sections if section.title == "How it was made"]
    (typed,) = [block for block in made.blocks if block.caption == "As it was typed"]
    commands = [row["command"] for row in result["sessions"]]
    assert typed.text.split("\n") == [*commands[:2], "called from Python"]
    assert any("1,237.2 seconds by the clock, in 3 calls" in b.caption for b in made.blocks)


def test_verdicts_of_checks_stand_beside_the_attacks(read):
    assert table_with(read, "network", "verdict") == [
        ["a.safetensors", "passed", "-"],
        ["b.safetensors", "masked", f"{EVIL}; flat"],
    ]


def test_points_of_the_scatter_equal_the_results(read, result):
    chart = read.json("charts")[0]
    all_sra, near_sra, *_ = chart["views"]
    points = [trace for trace, on in zip(chart["traces"], all_sra["shown"], strict=True) if on]
    found = sorted(
        (trace["name"], x, y)
        for trace in points
        for x, y in zip(trace["x"], trace["y"], strict=True)
    )
    known = [row for row in result["networks"] if "sra" in row]
    assert found == sorted((r["kind"], 100 * r["sra"], 100 * r["accuracy"]) for r in known)
    ends = [
        (x - minus, x + plus)
        for trace in points
        for x, minus, plus in zip(
            trace["x"], trace["error_x"]["arrayminus"], trace["error_x"]["array"], strict=True
        )
    ]
    intervals = [[100 * end for end in row["sra_interval"]] for row in known]
    assert sorted(ends) == [pytest.approx(each) for each in sorted(intervals)]
    sample = next(row for row in known if row["kind"] == "sample")
    (told,) = [t for trace in points for t in trace["text"] if sample["file"] in t]
    for text in (f"beta {sample['beta']:.4g}", f"SRA {percent(sample['sra'])} %", "z = "):
        assert text in told
    low, high = near_sra["layout"]["xaxis.range"]
    assert low < 74 and high > 75 and low > 10, "the start is far away"


def test_other_charts_equal_what_they_are_of(read, result):
    charts = read.json("charts")
    assert len(charts) == CHARTS
    front, _, curve, growth, after, training = charts[1:7]
    samples = [row for row in result["networks"] if row["kind"] == "sample"]
    assert front["traces"][0]["marker"]["color"] == [row["beta"] for row in samples]
    assert growth["traces"][0]["y"] == [100 * v for v in result["front_growth"]["values"]]
    assert curve["traces"][0]["x"] == [0.0, 0.5, 1.0]
    means = [
        100 * statistics.fmean(row["after"]["square"] for row in rows)
        for kind in dict.fromkeys(r["kind"] for r in result["networks"] if "after" in r)
        for rows in [[r for r in result["networks"] if r["kind"] == kind and "after" in r]]
    ]
    assert [trace["y"][-1] for trace in after["traces"]] == pytest.approx(means)
    measured, _, checks = training["traces"][:3]
    whole = [step / 600 for step in range(0, 500, 2)]
    assert len(measured["x"]) <= 200 and statistics.fmean(measured["y"]) == pytest.approx(
        100 * statistics.fmean(whole)
    )
    assert checks["x"] == [100, 300] and checks["y"] == [50, 50]
    for name, chart in zip(("accuracy", "robustness"), charts[-2:], strict=True):
        points = chart["traces"][1]
        assert points["x"] == [100 * row[name] for row in samples]
        assert points["y"] == [100 * row["estimated"][name] for row in samples]


def test_the_page_asks_nothing_of_others_and_is_small(page, read):
    text = html(page)
    assert len(text) < 5_000_000
    assert read.loaded and all(source.startswith("data:") for source in read.loaded)
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links)
    assert len(read.ids) == len(set(read.ids))
    assert "@import" not in text and "url(" not in text
    assert b"plotly.js" in gzip.decompress(base64.b64decode(read.scripts["plotly"]))[:200]


def test_names_are_text_and_never_markup(result):
    rows = result["networks"]
    named = result | {
        "dataset": EVIL,
        "networks": [row | ({"file": EVIL} if "file" in row else {}) for row in rows],
    }
    text = html(run_page(found_in_run(named, EVIL)))
    read = Cells(text)
    assert set(read.scripts) == {"results", "charts", "plotly", "code"} and EVIL not in text
    assert read.json("results") == json.loads(json.dumps(named))
    assert any(EVIL in cell for table in read.tables for row in table for cell in row)
    told = read.json("charts")[0]["traces"][0]["text"][0]
    assert "&lt;script&gt;" in told and "<script" not in told
    assert "<script" not in markdown(run_page(found_in_run(named, EVIL))).replace("\\<", "")


def test_words_are_explained_and_lead_there(read, page):
    text = html(page)
    for word in ("SRA", "start", "fbf average", "disagree", "PGD-50", "3 sample voting"):
        assert re.search(rf'<a class="word" href="#[^"]+" title="[^"]+">{word}</a>', text), word
        assert f"<dt>{word}</dt>" in text


def test_a_page_has_only_the_sections_that_it_has_something_for(make_result):
    row = {"accuracy": 0.9, "pgd": 0.5}
    groups = {"sample": [row, row], "start": [{"accuracy": 0.1, "pgd": 0.0}]}
    result = with_details(make_result(groups), ranged=False)
    del result["front_growth"]
    bare = found_in_run(result)
    bare = type(bare)(bare.name, bare.result, missing="no data")
    page = run_page(bare)
    titles = [section.title for section in page.sections]
    assert "Training" not in titles and "Trade-off" not in titles and "Geometry" not in titles
    text = html(page)
    assert "Not shown here: no data." in text and "<img" not in text
    views = page.sections[1].blocks[0].views
    assert [view.name for view in views] == ["all networks", "close up"]


def test_markdown_has_the_same_tables(page):
    text = markdown(page)
    lines = text.splitlines()
    assert lines[0] == "# run"
    for table in page.tables:
        assert isinstance(table, Table)
        for row in table.rows:
            cells = [re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", cell) for cell in row]
            assert f"| {' | '.join(cells)} |" in lines
