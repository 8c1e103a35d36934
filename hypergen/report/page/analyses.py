"""What analyses of the networks' geometry found, each with its picture."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from hypergen.report.analysis import analysis_table
from hypergen.report.page.blocks import Block, Card, Figures, Page, Picture, Section
from hypergen.report.page.sessions import session_blocks
from hypergen.report.tables import threat_text
from hypergen.storage.impersonal import impersonal

WIDTH, COLOURS = 1100, 64
"""Most pixels and colours of an analysis's picture on a page."""


@dataclass(frozen=True)
class Found:
    """What results.json of an analysis holds, and the PNG of each analysis that has one."""

    result: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def analysis_blocks(found: Found) -> list[Block]:
    """A table an analysis, folded below its picture where it has one."""
    blocks: list[Block] = []
    for name, own in found.result["analyses"].items():
        table = analysis_table(own, found.result["groups"])
        title = own["title"][:1].upper() + own["title"][1:]
        picture = found.pictures.get(name)
        if picture is not None:
            text = f"{title}: {'; '.join(own['figures'].values())}. The figures stand below."
            blocks.append(Picture(title, text, smaller(picture)))
        heading = f"{title}: figures" if picture is not None else title
        blocks.append(Figures(heading, table, folded=picture is not None))
    return blocks


def smaller(picture: bytes) -> bytes:
    """A PNG with at most `WIDTH` pixels across and `COLOURS` colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)))
    file = io.BytesIO()
    image.quantize(COLOURS).save(file, "png", optimize=True)
    return file.getvalue()


def analysis_page(name: str, found: Found) -> Page:
    """The page of a folder of analyses."""
    result = found.result
    dataset = impersonal(result["dataset"])
    groups = {group["name"]: group["networks"] for group in result["groups"]}
    failed = [name for name, own in result["analyses"].items() if own["failed"]]
    verdict = f"{len(result['analyses'])} analyses looked at {sum(groups.values())} networks."
    parts = {"Geometry": analysis_blocks(found), "How it was made": session_blocks(result)}
    if failed:
        verdict = f"{verdict} Some broke: {', '.join(failed)}."
    return Page(
        name,
        f"{dataset}, {threat_text(result['attack']['threat'])}",
        f"What is different about the networks of {len(groups)} groups on {dataset}?"
        if len(groups) > 1
        else f"What are these networks like on {dataset}?",
        verdict,
        [],
        [Card(group, f"{count} networks") for group, count in groups.items()],
        [Section(title, blocks) for title, blocks in parts.items() if blocks],
        result,
    )
