"""Reading a written report back."""

import re
from html import unescape

from clipedu.report.writer import write_report


def read(runs, folder, **options):
    """Both pages: the text of the HTML (tags removed) and the Markdown."""
    path = write_report(runs, folder, **options)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))
    return text, (folder / "report.md").read_text(encoding="utf-8")


def rows(markdown, start):
    """Cells of the Markdown table rows whose first cell is `start`."""
    cells = [
        [cell.strip(" *") for cell in line.strip("|").split(" | ")] for line in markdown.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if row[0] == start]
