"""Read tables from CSV files, with the column and line of what is wrong."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_text
from clipedu.utils.schema import shown

if TYPE_CHECKING:
    import pandas

LARGEST = 1e100  # of a number in a table: figures compute with squares


def read_table(
    path: Path,
    required: Collection[str],
    words: Collection[str] = (),
    counted: Collection[str] = (),
    key: Sequence[str] = (),
    grows: bool = False,
) -> pandas.DataFrame:
    """Read a CSV file as a frame.

    Args:
        path: of the file; an empty one is a table without rows.
        required: columns that it must have.
        words: columns of text; all others hold numbers, or nothing.
        counted: columns of whole numbers from 0, none of them missing.
        key: columns that are the same in no two rows.
        grows: rows are appended to it, so that a last line that is not whole is of a write that was broken off: it is left out.
    Returns:
        the frame, with numbers as int or float; the columns of `required` if the file is empty.
    Raises:
        FileNotFoundError: there is no file.
        ClipeduError: it is damaged; the message names the column and the line.
    """
    import pandas as pd

    text = read_text(path)
    if grows and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    if not text.strip():
        return pd.DataFrame(columns=list(required), dtype=float)
    if fault := _ragged(text):
        raise ClipeduError(f"{path} cannot be read: {fault}")
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            dtype=dict.fromkeys(words, str),
            keep_default_na=False,
            na_values=["", "nan", "NaN"],
            low_memory=False,
        )
    except (ValueError, OverflowError) as error:
        raise ClipeduError(f"{path} cannot be read: {error}") from None
    if missing := [name for name in required if name not in frame]:
        raise ClipeduError(f"{path} cannot be read: the column {missing[0]!r} is missing")
    for name in frame:
        if fault := _misfit(frame[name], name in words, name in counted):
            raise ClipeduError(f"{path} cannot be read: column {name!r}, {fault}")
        if name not in words and frame[name].dtype.kind not in "iuf":  # no row, or numbers that only a float holds
            frame[name] = frame[name].map(_number).astype(float)
    if key and (again := frame.duplicated(list(key)).to_numpy()).any():
        named = ", ".join(f"{name} {_shown(frame[name].iloc[int(again.argmax())])}" for name in key)
        raise ClipeduError(f"{path} cannot be read: line {int(again.argmax()) + 2} is a second one of {named}")
    return frame


def _ragged(text: str) -> str | None:
    """Return which line has more or fewer cells than the header, if any."""
    try:
        rows = csv.reader(io.StringIO(text), strict=True)
        width = len(next(rows))
        for row in rows:
            if row and len(row) != width:
                return f"line {rows.line_num} has {len(row)} cells, the header has {width}"
    except csv.Error as error:
        return f"line {rows.line_num}: {error}"
    return None


def _misfit(column: pandas.Series, words: bool, counted: bool) -> str | None:
    """Return which line of a column does not fit, and what is there."""
    if words:
        wrong, expected = column.isna(), "a text"
    else:
        numbers = column.astype(float) if column.dtype.kind in "iuf" else column.map(_number).astype(float)
        expected = "a whole number >= 0" if counted else f"a number up to {LARGEST:g}"
        too_large = (numbers.abs() > LARGEST) & np.isfinite(numbers)
        wrong = (numbers.isna() & column.notna()) | too_large
        if counted:
            wrong |= numbers.isna() | (numbers < 0) | (numbers % 1 != 0) | (numbers > 2**53)
    if not wrong.any():
        return None
    row = int(wrong.to_numpy().argmax())
    return f"line {row + 2}: {_shown(column.iloc[row])}, expected {expected}"


def _number(cell: Any) -> float:
    """Return a cell as a number; nan for what is none, or too large for one."""
    try:
        number = math.nan if isinstance(cell, (bool, np.bool_)) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return math.nan if math.isinf(number) and any(c.isdigit() for c in str(cell)) else number  # digits too many


def _shown(cell: Any) -> str:
    """Describe a cell, which may be a number of numpy."""
    value = cell.item() if hasattr(cell, "item") else cell
    return "nothing" if value != value else shown(value)  # noqa: PLR0124  nan is not equal to itself
