"""Writes pages into files: HTML, Markdown, or PDF by a browser."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from hypergen.errors import InputError, RunError
from hypergen.report.page.blocks import Page
from hypergen.report.page.html import html
from hypergen.report.page.markdown import markdown
from hypergen.storage.atomic import replacing, write_text

REPORT = "report.html"
"""The page in the folder of what it is about."""
Format = Literal["html", "md", "pdf"]
BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"
"""Programs that print a page without showing it."""
PRINT_SECONDS = 120


def write_page(file: Path, page: Page, form: Format = "html") -> None:
    """Writes a page as one file, at once or not at all.

    `InputError`: PDF where there is no browser. `RunError`: a browser that fails.
    """
    if form == "md":
        write_text(file, markdown(page))
    elif form == "html":
        write_text(file, html(page))
    else:
        _print(file, page, browser())


def browser() -> str:
    """The path of a browser that prints; `InputError` where there is none."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise InputError(
        "PDF is printed by Chromium or Google Chrome, and neither is installed; write html, which "
        "any browser prints"
    )


def _print(file: Path, page: Page, program: str) -> None:
    with tempfile.TemporaryDirectory() as folder, replacing(file) as part:
        source = Path(folder, "page.html")
        source.write_text(html(page))
        words = [program, "--headless=new", "--no-pdf-header-footer", "--disable-gpu"]
        words += [f"--user-data-dir={folder}/profile", f"--print-to-pdf={part}"]
        words += ["--virtual-time-budget=20000"]  # time for the charts
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # as whom it does not start otherwise
            words.append("--no-sandbox")
        try:
            done = subprocess.run(
                [*words, source.as_uri()], capture_output=True, timeout=PRINT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"{program} printed nothing in {PRINT_SECONDS} s") from None
        if done.returncode or not part.stat().st_size:
            raise RunError(f"{program} failed to print: {done.stderr.decode()[-200:].strip()}")
