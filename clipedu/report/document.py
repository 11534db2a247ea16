"""Pages of blocks, as one self-contained HTML file and as Markdown.

A report is a list of blocks (headings, text, tables, figures), which define what is on the page; `to_html` and
`to_markdown` define how it looks. All text is escaped, so that a run's name or a caption can hold any character. The
HTML needs no network and no other file: its style and its figures are embedded. The Markdown's figures are PNG files in
a folder beside it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from clipedu.utils.files import atomic_write, check_writable
from clipedu.utils.markdown import markdown_table

FIGURES = "plots"  # the folder of the Markdown's figures


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph, or with `items` a list; `warning` highlights it."""

    text: str
    items: Sequence[str] = ()
    warning: bool = False


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Table:
    """A table with cells as text.

    Rows in `best` are highlighted, columns of numbers aligned to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: set[int] = field(default_factory=set)
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: its name without ".png", its PNG bytes, and its caption.

    Two that are `half` are shown side by side.
    """

    name: str
    png: bytes
    caption: str
    half: bool = False


Block = Heading | Text | Code | Table | Picture

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 2px solid #0072B2; }
table { border-collapse: collapse; margin: .8rem 0 .3rem; font-size: .92rem; }
.wide { overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #555; }
td { overflow-wrap: break-word; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.s { white-space: nowrap; }
tr.best td { background: #e3f0f8; font-weight: 600; }
.note, figcaption { color: #444; font-size: .88rem; margin: .2rem 0 1rem; }
.warning { border-left: 5px solid #D55E00; background: #fdf1e9; padding: .5rem .9rem; }
pre { background: #f4f4f4; padding: .6rem .9rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .88rem; }
figure { margin: 1rem 0; }
figure.half { display: inline-block; width: 49%; margin: 1rem 0 0; vertical-align: top; }
img { max-width: 100%; height: auto; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; }
  .wide { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .4rem; }
  figure, tr, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the page as one HTML document."""
    body = "\n".join(_HTML[type(block)](block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def to_markdown(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """Return the page as Markdown, and write its figures.

    Args:
        title: the heading of the page.
        blocks: what is on the page, in order.
        folder: where the Markdown will be written; the figures go into its folder plots/.
    Raises:
        ClipeduError: a figure cannot be written.
    """
    check_writable(folder / FIGURES)
    for block in blocks:
        if isinstance(block, Picture):
            with atomic_write(folder / FIGURES / f"{block.name}.png") as partial:
                partial.write_bytes(block.png)
    return "\n\n".join([f"# {_md(title)}", *(_MARKDOWN[type(block)](block) for block in blocks)]) + "\n"


def _html_text(block: Text) -> str:
    items = "".join(f"<li>{escape(item)}</li>" for item in block.items)
    style = ' class="warning"' if block.warning else ""
    return (f"<p{style}>{escape(block.text)}</p>" if block.text else "") + (f"<ul>{items}</ul>" if items else "")


def _html_table(block: Table) -> str:
    short = [all(len(row[place]) <= 16 for row in block.rows) for place in range(len(block.columns))]
    look = [" ".join(["n"] * n + ["s"] * s) for n, s in zip(_numeric(block), short, strict=True)]

    def line(cells: Sequence[str], tag: str, style: str = "") -> str:
        inner = (f'<{tag} class="{own}">{escape(cell)}</{tag}>' for cell, own in zip(cells, look, strict=True))
        return f"<tr{style}>{''.join(inner)}</tr>"

    rows = (line(row, "td", " class=best" if place in block.best else "") for place, row in enumerate(block.rows))
    note = f'<p class="note">{escape(block.note)}</p>' if block.note else ""
    head = line(block.columns, "th")
    return (
        f'<div class="wide"><table><thead>{head}</thead><tbody>\n' + "\n".join(rows) + f"\n</tbody></table></div>{note}"
    )


def _html_picture(block: Picture) -> str:
    data = base64.b64encode(block.png).decode()
    caption = escape(block.caption)
    start = '<figure class="half">' if block.half else "<figure>"
    return f'{start}<img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def _markdown_text(block: Text) -> str:
    text = (f"> {_md(block.text)}" if block.warning else _md(block.text)) if block.text else ""
    return "\n\n".join(part for part in (text, "\n".join(f"- {_md(item)}" for item in block.items)) if part)


def _markdown_table(block: Table) -> str:
    rows = (
        [f"**{_md(cell)}**" if place in block.best and cell else _md(cell) for cell in row]
        for place, row in enumerate(block.rows)
    )
    table = markdown_table(block.columns, rows, right=_numeric(block))
    return f"{table}\n\n{_md(block.note)}" if block.note else table


def _numeric(block: Table) -> list[bool]:
    """Return for each column whether all its cells are numbers (or empty)."""
    number = re.compile(r"^([-−+±]?\d[\d.,eE+\-±†* %]*|–|)$")
    return [all(number.match(row[place]) for row in block.rows) for place in range(len(block.columns))]


def _md(text: str) -> str:
    """Escape text for Markdown and the HTML in it, on one line."""
    return re.sub(r"([\\`*_\[\]|$#~])", r"\\\1", escape(" ".join(text.split()), quote=False))


_HTML = {
    Heading: lambda block: f"<h2>{escape(block.text)}</h2>",
    Text: _html_text,
    Code: lambda block: f"<pre>{escape(block.text)}</pre>",
    Table: _html_table,
    Picture: _html_picture,
}
_MARKDOWN = {
    Heading: lambda block: f"## {_md(block.text)}",
    Text: _markdown_text,
    Code: lambda block: "\n".join("    " + line for line in block.text.splitlines()),
    Table: _markdown_table,
    Picture: lambda block: f"![{_md(block.caption)}]({FIGURES}/{block.name}.png)\n\n*{_md(block.caption)}*",
}
