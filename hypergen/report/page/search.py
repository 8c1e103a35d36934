"""The page of a search of the latent space."""

from collections.abc import Mapping
from typing import Any

from hypergen.report.fronts import search_table
from hypergen.report.page.attacks import attack_blocks
from hypergen.report.page.blocks import Block, Card, Figures, Page, Section
from hypergen.report.page.charts import label, scatter
from hypergen.report.page.estimates import estimates_chart
from hypergen.report.page.sessions import session_blocks
from hypergen.report.page.settings import settings_table
from hypergen.report.tables import percent, threat_text


def search_page(name: str, result: Mapping[str, Any]) -> Page:
    """The page of a search; name: of its folder, result: what results.json holds."""
    table, rows, key = search_table(result), result["networks"], result["figures"][1]
    names = " and ".join(map(label, result["figures"]))
    points = [{**row, "kind": "test images"} for row in rows]
    points += [{**row, **row["val"], "kind": "validation images"} for row in rows]
    # Those of validation images have no interval there.
    for row in points[len(rows) :]:
        row.pop("interval", None)
    keys: dict[str, tuple[str, str | None]] = {
        label(key): (key, "interval" if key == "sra" else None)
    }
    volumes = result["hypervolume"]
    parts: dict[str, list[Block]] = {
        "What was found": [
            Figures("% of images; best in accuracy first", table),
            scatter("Networks of the front, twice each", points, keys, table),
        ],
        "What each attack left": attack_blocks(
            {**result, "networks": [{**row, "kind": row["file"]} for row in rows]}
        ),
        "What the value network knew": measured_blocks(result),
        "How it was made": [
            *session_blocks(result),
            Figures("Settings of the search", settings_table(result["search"])),
            Figures("The attack", settings_table(result["attack"]), folded=True),
        ],
    }
    return Page(
        name,
        f"search of a latent space, {result['dataset']}, {threat_text(result['attack']['threat'])}",
        f"Which networks of this generator are best in {names}?",
        verdict(result),
        [],
        [
            Card("networks kept", str(len(rows)), f"of {result['search']['candidates']} looked at"),
            Card(
                "hypervolume on test images",
                f"{volumes['test']:.4f}",
                f"on validation images {volumes['val']:.4f}",
            ),
        ],
        [Section(title, blocks) for title, blocks in parts.items() if blocks],
        result,
    )


def verdict(result: Mapping[str, Any]) -> str:
    """The best network by each figure, on test images."""
    names = result["figures"]
    best: dict[str, list[str]] = {}
    for name in names:
        row = max(result["networks"], key=lambda row: row[name])
        figures = " and ".join(f"{label(each)} {percent(row[each], 1)} %" for each in names)
        best.setdefault(f"{row['file']} ({figures})", []).append(label(name))
    told = (f"{network} is best in {' and '.join(of)}" for network, of in best.items())
    return f"On test images {'; '.join(told)}."


def measured_blocks(result: Mapping[str, Any]) -> list[Block]:
    """What was estimated of the candidates that were measured, and what was measured."""
    rows = [
        {**row, **row["measured"], "file": f"candidate {place}"}
        for place, row in enumerate(result["measured"])
    ]
    return [estimates_chart(name, rows, name) for name in (rows[0]["measured"] if rows else ())]
