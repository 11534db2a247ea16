"""Format values for a page.

They are scores, settings, durations, and a figure or the reason why there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from clipedu.plots.style import to_png
from clipedu.report.document import Block, Picture, Text
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(name: str, draw: Callable[[], Figure], caption: str) -> Block:
    """Return a figure as a block, or a line that says why there is none.

    Args:
        name: of the PNG file, without ".png".
        draw: makes the figure; a ClipeduError of it becomes the reason.
        caption: the sentence below the figure.
    """
    try:
        return Picture(name, to_png(draw()), caption)
    except ClipeduError as error:
        return Text(f"No figure here: {error}.")


def number(score: float | None, decimals: int = 2) -> str:
    """Return a score with its decimals, or a dash for none."""
    return "–" if score is None or math.isnan(score) else f"{score:.{decimals}f}"


def as_text(item: Any) -> str:
    """Return a setting's value as text."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key}={as_text(inner)}" for key, inner in item.items()) or "none"
    if isinstance(item, list) and all(isinstance(inner, str) for inner in item):
        return ", ".join(item) or "none"
    if isinstance(item, float):
        return f"{item:g}"
    return "none" if item is None else str(item)


def duration(seconds: float) -> str:
    """Return seconds in at most two units: 8.3 s, 12 min 5 s, 3 h 40 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
