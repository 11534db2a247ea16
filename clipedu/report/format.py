"""What the pages of `report.py` are put together from: words for numbers, a figure or the reason why there is none."""

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
    """The figure, or where a run lacks what it needs, the reason why it is not there."""
    try:
        return Picture(name, to_png(draw()), caption)
    except ClipeduError as error:
        return Text(f"No figure here: {error}.")


def score_name(key: str) -> str:
    """A score's key as a heading: "tr@1" is TR@1."""
    return {"top1": "top-1", "top5": "top-5"}.get(key, key.upper() if "@" in key else key)


def number(score: float | None) -> str:
    """Two digits after the point, or a dash."""
    return "–" if score is None or math.isnan(score) else f"{score:.2f}"


def as_text(item: Any) -> str:
    """A setting's value as text."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key}={as_text(inner)}" for key, inner in item.items()) or "none"
    if isinstance(item, float):
        return f"{item:g}"
    return "none" if item is None else str(item)


def duration(seconds: float) -> str:
    """Seconds in the two units a person would say: 8.3 s, 12 min 5 s, 3 h 40 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
