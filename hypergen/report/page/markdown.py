"""A page as Markdown: its sentences and tables."""

from collections.abc import Iterator, Sequence

from hypergen.report.page.blocks import Block, Chart, Code, Figures, Gallery, Page, Paragraphs
from hypergen.report.page.words import glossary
from hypergen.report.tables import Table

MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|#"} | {"\n": " "})
"""What would else be read as markup."""


def markdown(page: Page) -> str:
    """The page without its pictures; charts are their tables."""
    return "\n".join([*_lines(page)]) + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {plain(page.title)}"
    yield f"\n{plain(page.subject)}"
    yield f"\n{plain(page.question)}"
    yield f"\n**{in_code(page.verdict)}**"
    yield from (f"\n{in_code(text)}" for text in page.advice)
    for section in page.sections:
        yield f"\n## {plain(section.title)}"
        for block in section.blocks:
            yield from _block(block)
    yield "\n## Words\n"
    words = glossary(page.tables)
    yield from (f"- **{plain(word)}**: {plain(text)}" for word, text in words.items())


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraphs():
            yield from (f"\n{in_code(text)}" for text in block.texts)
        case Figures() | Chart():
            yield f"\n### {plain(block.caption)}\n"
            yield from _table(block.table)
        case Code():
            yield f"\n### {plain(block.caption)}\n\n    {block.text}"
        case Gallery():
            yield f"\n### {plain(block.caption)}\n"
            rows = [(each.label, each.before, each.after) for each in block.examples]
            yield from _table(Table(("image of", "before", "after"), rows))


def _table(table: Table) -> Iterator[str]:
    yield _row(table.headers)
    yield _row(["---", *["---:"] * (len(table.headers) - 1)], str)
    yield from (_row(row) for row in table.rows)
    yield from (f"\n{plain(note)}" for note in table.notes)


def _row(cells: Sequence[str], written=None) -> str:
    return f"| {' | '.join((written or plain)(cell) for cell in cells)} |"


def plain(text: str) -> str:
    """A text in which nothing is markup."""
    return text.translate(MARKS)


def in_code(text: str) -> str:
    """A text in which nothing but backquotes is markup."""
    return "`".join(
        part if place % 2 else plain(part) for place, part in enumerate(text.split("`"))
    )
