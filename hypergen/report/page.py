"""report.html: one file that holds all it shows, readable on a phone."""

import base64
from collections.abc import Sequence
from html import escape

from hypergen.report.tables import Table

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 52rem; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr { border-bottom: 1px solid #8886; }
img { max-width: 100%; height: auto; }
dt { font-weight: bold; }
small { display: block; }
"""


def page(title: str, paragraphs: Sequence[str], table: Table, picture: bytes) -> str:
    """An HTML page: paragraphs, the table with its notes and key, and a PNG picture inside it."""
    encoded = base64.b64encode(picture).decode()
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f"<h1>{escape(title)}</h1>",
            *(f"<p>{escape(text)}</p>" for text in paragraphs),
            table_html(table),
            f'<p><img src="data:image/png;base64,{encoded}" alt="the table\'s networks as points">',
            "</html>\n",
        ]
    )


def table_html(table: Table) -> str:
    """The table as HTML; one that is wider than the screen is moved sideways alone."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.headers)
    rows = [
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        + "</tr>"
        for first, *others in table.rows
    ]
    return "\n".join(
        [
            '<div class="wide"><table>',
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *rows,
            "</tbody></table></div>",
            *(f"<small>{escape(note)}</small>" for note in table.notes),
            "<dl>",
            *(
                f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>"
                for word, text in table.key.items()
            ),
            "</dl>",
        ]
    )
