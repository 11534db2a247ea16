"""Markdown tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def markdown(table: pandas.DataFrame, digits: int) -> str:
    """A frame as a Markdown table; floats with so many digits after the point."""

    def word(value) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join(lines + ["| " + " | ".join(map(word, row)) + " |" for row in table.itertuples(index=False)])
