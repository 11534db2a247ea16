"""Read captions from a table.

Comma, tab, semicolon or | may separate the columns. The first line names the columns. Only the files of Flickr8k and Flickr30k need no header: `name.jpg#0<TAB>caption`.
"""

from __future__ import annotations

import re
from pathlib import Path

from clipedu.data.sources.caption_columns import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    Columns,
    NoTexts,
    cell_texts,
    find_columns,
    is_image_name,
    listed,
)
from clipedu.data.sources.caption_rows import CaptionTable
from clipedu.data.sources.csv_records import Record, records
from clipedu.utils.errors import ClipeduError, shorten

SEPARATORS = ",\t;|"
_TOKEN_FILE = re.compile(r"[^\t\n]+#\d+\t")


def read_table(text: str, path: Path) -> CaptionTable:
    """Read a table of images and captions.

    Args:
        text: of the file.
        path: of the file, for messages.
    Raises:
        ClipeduError: no header, or one without a column for images or captions.
    """
    text = text.lstrip("\ufeff")
    declared = re.match(r"sep=([,\t;|])\r?\n", text)  # as a spreadsheet can write above the header
    text = text[declared.end() :] if declared else text
    separator, names = _header(text, path)
    columns = find_columns(names)
    assert columns is not None  # as _header has found
    if columns.repeated:
        raise ClipeduError(f"{path} has two columns {columns.repeated!r}: give each its own name")
    shape = _Shape(columns, len(names))
    lines = [
        (number, record)
        for number, record in enumerate(records(text, separator, shape.starts_row), 1 + bool(declared))
        if any(record.cells)
    ]
    if not _TOKEN_FILE.match(text):
        del lines[0]
    table = CaptionTable()
    joined = [shape.fit(number, record, separator, table) for number, record in lines]
    _take(table, columns, [row for row in joined if row is not None])
    table.notes = _notes(columns, names, lines, shape.joined)
    return table


class _Shape:
    """Which rows have the shape of the header; counts those it mends."""

    def __init__(self, columns: Columns, width: int):
        self.columns, self.width = columns, width
        self.joined: list[int] = []  # numbers of rows whose caption held separators
        optional = set(columns.captions[1:])
        self.least = next((place + 1 for place in range(width - 1, -1, -1) if place not in optional), width)

    def starts_row(self, cells: list[str]) -> bool:
        """Return whether a line has an image name where a row has it."""
        place = self.columns.image
        place = place if place < self.columns.captions[0] else place - self.width
        return len(cells) > 1 and -len(cells) <= place < len(cells) and is_image_name(cells[place])

    def fit(self, number: int, record: Record, separator: str, table: CaptionTable) -> tuple[int, list[str]] | None:
        """Return a row's number and cells, or leave it out with the reason."""
        cells, raw = list(record.cells), list(record.raw)
        while len(cells) > self.width and not cells[-1]:
            del cells[-1], raw[-1]
        if len(cells) > self.width and self.columns.captions == (self.width - 1,):  # the rest of the row is the caption
            self.joined.append(number)
            cells = [*cells[: self.width - 1], separator.join(raw[self.width - 1 :]).strip()]
        if self.least <= len(cells) <= self.width:
            return number, cells + [""] * (self.width - len(cells))
        image = cells[self.columns.image] if self.columns.image < len(cells) else cells[0]
        many = len(cells) > self.width
        what = "more cells than the header" if many else "fewer cells than the header"
        count = f"{len(cells)} cell{'s' * (len(cells) > 1)}, the header has {self.width}"
        if len(cells) == 1 and self.columns.captions[-1] == self.width - 1 and not is_image_name(image):
            count += " (if the caption above goes on here, put it in quotes)"
        table.drop(number, image, what, count)
        return None


def _header(text: str, path: Path) -> tuple[str, list[str]]:
    """Return the separator and the names of the columns."""
    if _TOKEN_FILE.match(text):
        return "\t", ["image", "caption"]
    found: list[tuple[bool, int, str, list[str]]] = []
    for separator in SEPARATORS:
        cells = next((record.cells for record in records(text, separator) if any(record.cells)), [])
        while cells and not cells[-1]:
            del cells[-1]
        found.append((find_columns(cells) is not None, len(cells), separator, cells))
    works, _, separator, names = max(found, key=lambda one: one[:2])
    if works:
        return separator, names
    if any(is_image_name(name) for name in names):
        first = shorten(next(line for line in re.split("[\r\n]", text) if line.strip()))
        raise ClipeduError(f"{path} has no header: its first line is {first!r}. Put one above, such as image,caption")
    wanted = IMAGE_NAMES[:8] if find_columns([*names, "caption"]) is None else CAPTION_NAMES
    raise ClipeduError(
        f"{path} has the columns {shorten(', '.join(names), 200) or '(none)'}: one of them must be called {', '.join(wanted)}"
    )


def _take(table: CaptionTable, columns: Columns, rows: list[tuple[int, list[str]]]) -> None:
    """Take the rows into the table; cells that hold lists are several captions."""
    lists = {place for place in columns.captions if place in columns.plural or _mostly_lists(rows, place)}
    for number, cells in rows:
        image, texts = cells[columns.image], []
        try:
            for place in columns.captions:
                texts += cell_texts(cells[place], place in lists)
        except NoTexts as error:
            why = f'{error}: {shorten(cells[place], 40)}; write ["one", "two"]'
            table.drop(number, image, f"captions are {error}", f"captions are {why}")
            continue
        table.take(number, image, texts, None if columns.split is None else cells[columns.split])


def _mostly_lists(rows: list[tuple[int, list[str]]], place: int) -> bool:
    def is_list(cell: str) -> bool:
        try:
            return listed(cell) is not None
        except NoTexts:
            return True

    full = [cells[place] for _, cells in rows if cells[place]]
    return 2 * sum(map(is_list, full)) > len(full)


def _notes(columns: Columns, names: list[str], lines: list[tuple[int, Record]], joined: list[int]) -> list[str]:
    captions = ", ".join(names[place] for place in columns.captions)
    read = f"read: image from {names[columns.image]!r}, captions from {shorten(captions, 120)!r}"
    split = "; no column 'split', so all rows are train"
    if columns.split is not None:
        split = f", split from {shorten(names[columns.split], 120)!r}"
    notes = [read + split]
    if columns.unread:
        notes.append(f"not read: {shorten(', '.join(columns.unread), 120)}")
    if joined:
        count = f"{len(joined)}, the first is row {joined[0]}"
        notes.append(f"rows with more cells than the header: {count}; the rest of the line is the caption")
    if unclosed := [number for number, record in lines if record.unclosed]:
        count = f"{len(unclosed)}, the first is row {unclosed[0]}"
        notes.append(f"rows with a quote that never closes: {count}; it is part of the text")
    return notes
