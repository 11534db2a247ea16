"""The figure of a line between two models: scores over t."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import METRICS, SCORES
from clipedu.plots.style import BOTH, COLOURS, dress, line_style, new_figure, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_blend(line: Any) -> Figure:
    """Plot the scores along the line between two models.

    Solid lines are the scores, dotted ones the straight lines between the ends; an arrow shows how far the lowest point of
    the average lies below. Squares are the ends as they are, where batch-norm statistics were computed again.

    Args:
        line: `clipedu.workflow.blending.Line`: with `curve`, `ends`, `barrier`, `names` and `statistics`.
    Raises:
        ClipeduError: none of the scores that every table shows is on the line.
    """
    shown = [key for key in SCORES if key in set(line.table["metric"])]
    if not shown:
        raise ClipeduError("there is nothing to draw: no score is on this line")
    figure = new_figure(9, 4.4)
    ax = figure.subplots()
    for number, key in enumerate(shown):
        main = key == "average"
        colour, dashes = (BOTH, "-") if main else line_style(number)
        t, values = line.curve(key)
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2.4 if main else 1.4}
        ax.plot(t, values, marker="o", markersize=4, label=METRICS[key].heading, **look)
        ax.plot([0, 1], values[[0, -1]], color=colour, linestyle=":", linewidth=1.0, alpha=0.8)
        if line.statistics == "recomputed":
            ax.plot([0, 1], line.ends(key), "s", color=colour, markersize=8, markerfacecolor="none", clip_on=False)
    ax.plot([], [], color="#666666", linestyle=":", label="straight line of the ends")
    if line.statistics == "recomputed":
        ax.plot([], [], "s", color="#666666", markersize=8, markerfacecolor="none", label="the ends as they are")
    title = "Scores between two models"
    if "average" in shown and len(line.curve("average")[0]) > 2:
        found = line.barrier()
        title = _title(found.height)
        if found.height > 0:
            arrow = {"arrowstyle": "<->", "color": COLOURS[1], "linewidth": 1.6}
            ax.annotate("", (found.t, found.score), (found.t, found.line), arrowprops=arrow)
            middle = (found.score + found.line) / 2
            ax.annotate(f" barrier {found.height:.1f}", (found.t, middle), color=COLOURS[1], fontsize=10, va="center")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    a, b = (plain(name if len(name) < 40 else f"…{name[-39:]}") for name in line.names)
    dress(ax, title, "", "score (%)")
    ax.set_xlabel(f"t: weights (1 - t) A + t B\nA (t = 0): {a}      B (t = 1): {b}")
    return figure


def _title(height: float) -> str:
    if height > 0:
        return f"Between the two models the average falls up to {height:.1f} below the straight line"
    return "Between the two models the average is nowhere below the straight line"
