"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def markdown_row(cells: Sequence[str]) -> str:
    """Return one row of a Markdown table; cells are written as they are."""
    return f"| {' | '.join(cells)} |"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Return a Markdown table; cells are written as they are.

    Args:
        columns: the headings.
        rows: one string a column each.
        right: for each column whether it is aligned to the right; None leaves the alignment open.
    """
    rule = "|" + "---|" * len(columns)
    if right is not None:
        rule = markdown_row(["--:" if numeric else "---" for numeric in right])
    return "\n".join([markdown_row(columns), rule, *map(markdown_row, rows)])


def frame_table(frame: pandas.DataFrame, digits: int) -> str:
    """Return a frame without its index as a Markdown table.

    Args:
        frame: its columns are the headings.
        digits: of floats, after the point.
    """

    def cell(value: Any) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    return markdown_table(list(frame.columns), (list(map(cell, row)) for row in frame.itertuples(index=False)))
