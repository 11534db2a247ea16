"""Scores against a step size that is written in several ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipedu.plots.style import COLOURS, DASHES, dress, log_in_words, new_figure, plain
from clipedu.utils.statistics import student_ends

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SMALL = 9  # points


@dataclass(frozen=True)
class Way:
    """A way to write the step size.

    Attributes:
        column: of the frame.
        label: of the axis.
        best: the best value of each alpha; nan is not drawn.
    """

    column: str
    label: str
    best: Mapping[float, float]


def plot_transfer(frame: pandas.DataFrame, ways: Sequence[Way], score: str) -> Figure:
    """Draw a panel a way: a curve a momentum, and its best value.

    Args:
        frame: a row a run: "alpha", "seed", "score" in percent, and the column of each way, above 0.
        ways: the panels, side by side.
        score: what the score is.
    """
    import seaborn

    alphas = sorted(set(frame["alpha"]), reverse=True)
    colours = {alpha: COLOURS[number % len(COLOURS)] for number, alpha in enumerate(alphas)}
    several = frame["seed"].nunique() > 1
    figure = new_figure(5 * len(ways), 4.4)
    axes = figure.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for ax, way in zip(axes, ways, strict=True):
        for number, alpha in enumerate(alphas):
            rows = frame[frame["alpha"] == alpha]
            seaborn.lineplot(
                x=rows[way.column].astype(float), y=rows["score"].astype(float), errorbar=student_ends, ax=ax, color=colours[alpha],
                linestyle=DASHES[number % len(DASHES)], marker="os^Dv"[number % 5], label=plain(f"α = {alpha:g}"), legend=False,
            )  # fmt: skip
            if math.isfinite(way.best.get(alpha, math.nan)):
                ax.axvline(way.best[alpha], color=colours[alpha], linestyle=DASHES[number % len(DASHES)], linewidth=1)
        log_in_words(ax.xaxis)
        dress(ax, "", way.label, score if ax is axes[0] else "")
        ax.tick_params(labelsize=SMALL)
        ax.tick_params(axis="x", rotation=30)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(alphas), frameon=False, fontsize=10)
    bands = f"bands: Student's 95 % interval over {frame['seed'].nunique()} seeds" if several else "one seed: no bands"
    figure.suptitle(f"Vertical lines: the best value of each momentum; {bands}", fontsize=11)
    return figure
