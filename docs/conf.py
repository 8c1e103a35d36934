"""How Sphinx makes these pages. `make docs` runs the notebooks and takes no warning."""

import os
import re
from importlib import import_module
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

import hypergen
from hypergen.cli.main import COMMANDS
from hypergen.cli.options import POSITIONAL, field_docs
from hypergen.cli.wording import in_options, option
from hypergen.settings import Settings, fields

project = "hypergen"
author = "the hypergen authors"
version = release = hypergen.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"hypergen {release}"
html_copy_source = False
highlight_language = "none"  # of commands and what they print
smartquotes = False  # they would make one dash of the two of an option

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True

default_role = "code"  # what stands in single backticks in a docstring
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!(hypergen|attacks|targets)\.).*"),  # of other libraries, or a word of prose
    ("py:class", r"hypergen\.(knob|registry|runtime|settings)\..*"),  # what users need not know
    ("py:class", r"hypergen\.models\.bundle\.ModelBundle"),
    ("py:class", r"targets\.(outputs\.Module|parallel\.[RT])"),  # variables of types
    ("py:class", r"hypergen\.experiments\.(run_folder\.RunSettings|objects\.Networks)"),
]

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = {
    ROOT / "scripts/results/README.md": DOCS / "results.md",
    ROOT / "scripts/results/LOG.md": DOCS / "log.md",
    ROOT / "CHANGELOG.md": DOCS / "changelog.md",
    ROOT / "CONTRIBUTING.md": DOCS / "contributing.md",
}
"""Files elsewhere in the repository, and the pages that include them."""
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")

ROW = "| {} | {} | {} |"


class Options(SphinxDirective):
    """All options of a command, a table for each class of settings: `{options} train`."""

    required_arguments = 1

    def run(self):
        name = self.arguments[0]
        command = import_module(f"hypergen.cli.{name}").COMMAND
        lines = [COMMANDS[name], ""]
        for settings in (command.own, *command.settings.values()):
            lines += ["", ROW.format("option", "default", "meaning"), "|---|---|---|"]
            lines += list(rows(settings))
        return self.parse_text_to_nodes("\n".join(lines))


def rows(settings: type[Settings]):
    """A line of a table for each setting. No default is shown where the text says what happens."""
    docs = field_docs(settings)
    for field in fields(settings):
        name = field.short if field.short in POSITIONAL else option(field.short)
        has_default = isinstance(field.default, str | int | float) and field.default is not False
        default = f"`{field.default}`" if has_default else ""
        yield ROW.format(f"`{name}`", default, in_options(docs[field.short]).replace("|", "\\|"))


def without_settings(app, what, name, thing, options, signature, returns):
    """No signature for settings, of which a table has every one with what it means."""
    if isinstance(thing, type) and issubclass(thing, Settings):
        return "", None
    return None


def with_links(text: str, file: Path, page: Path) -> str:
    """The text of a file as part of a page: links to what is a page here lead to that page."""

    def link(found: re.Match) -> str:
        target = (file.parent / found[1]).resolve()
        return f"]({os.path.relpath(PAGES.get(target, target), page.parent)}"

    return LINK.sub(link, text)


def read_page(app, name, source):
    """Mends the links of a page."""
    page = app.env.doc2path(name)
    source[0] = with_links(source[0], Path(page), Path(page))


def read_included(app, path, name, source):
    """Mends the links of a file that a page includes."""
    source[0] = with_links(source[0], DOCS / path, Path(app.env.doc2path(name)))


def setup(app):
    app.add_directive("options", Options)
    app.connect("autodoc-process-signature", without_settings)
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
