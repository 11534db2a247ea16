"""Split a table into rows and cells; a stray quote loses no text.

Quoting is that of RFC 4180: a cell in double quotes may hold separators, line ends, and quotes that are doubled. Python's
`csv` believes every opening quote: one that never closes makes all that follows, up to the next quote, one cell. Here a quote
counts only if it closes before a separator or the end of a line; else it is part of the text, as in `"Stop" sign` or `12" pizza`.
And where a quoted cell would run over the starts of two rows of the table, each line is a row of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One row of a table.

    Attributes:
        cells: their texts, without the quotes around them.
        raw: the same as written; joined by the separator they are the whole row.
        unclosed: a cell begins with a quote that never closes, which was taken as text.
    """

    cells: list[str]
    raw: list[str]
    unclosed: bool = False


def records(text: str, separator: str, starts_row: Callable[[list[str]], bool] | None = None) -> Iterator[Record]:
    """Yield the rows of a table, empty lines among them.

    Args:
        text: the table. Rows end with CR LF or LF, or with CR if there is no LF; U+2028 and the like are text.
        separator: one character.
        starts_row: says whether the cells of a line, read alone, are the start of a row.
    """
    if "\n" not in text:
        text = text.replace("\r", "\n")
    ending = re.compile(rf" *(?=\r?(?:\n|\Z)|{re.escape(separator)})")
    position = 0
    while position < len(text):
        stop = _line_end(text, position)
        line = text[position:stop]
        if '"' in line:
            record, stop = _quoted(text, position, separator, ending, starts_row)
            yield record
        else:
            raw = line.split(separator)
            yield Record([cell.strip() for cell in raw], raw)
        position = stop + 1


def _quoted(
    text: str,
    start: int,
    separator: str,
    ending: re.Pattern[str],
    starts_row: Callable[[list[str]], bool] | None,
) -> tuple[Record, int]:
    """Read a row with quotes from `start`; returns it and its end."""
    cells, raw, unclosed, begin = [], [], False, start
    while True:
        opening = begin
        while text[opening : opening + 1] == " ":
            opening += 1
        closing = _closing(text, opening, ending) if text[opening : opening + 1] == '"' else -1
        if closing >= 0 and _holds_rows(text, start, opening, closing, separator, starts_row):
            closing = -1
        if closing >= 0:
            cells.append(text[opening + 1 : closing].replace('""', '"').strip())
            after = ending.match(text, closing + 1)
            assert after is not None  # as _closing has found
            stop = after.end()
        else:
            stop = _line_end(text, begin)
            if (next_one := text.find(separator, begin, stop)) >= 0:
                stop = next_one
            cells.append(text[begin:stop].strip())
            unclosed |= cells[-1].startswith('"') and cells[-1].count('"') % 2 == 1
        raw.append(text[begin:stop])
        if text[stop : stop + 1] != separator:
            return Record(cells, raw, unclosed), _line_end(text, stop)
        begin = stop + 1


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _closing(text: str, opening: int, ending: re.Pattern[str]) -> int:
    """Return where the quote at `opening` closes its cell, or -1."""
    at = text.find('"', opening + 1)
    while at >= 0 and text[at + 1 : at + 2] == '"':
        at = text.find('"', at + 2)
    return at if at >= 0 and ending.match(text, at + 1) else -1


def _holds_rows(
    text: str,
    start: int,
    opening: int,
    closing: int,
    separator: str,
    starts_row: Callable[[list[str]], bool] | None,
) -> bool:
    """Return whether a quoted cell would run over the starts of two rows."""
    if starts_row is None or "\n" not in text[opening:closing]:
        return False
    found, end = 0, _line_end(text, closing)
    while start < end and found < 2:
        stop = _line_end(text, start)
        found += starts_row(next(records(text[start:stop] or " ", separator)).cells)
        start = stop + 1
    return found == 2
