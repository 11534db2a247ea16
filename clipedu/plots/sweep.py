"""The figures of a sweep: score against settings.

Two settings of numbers make a heat map a variant; one makes a curve a variant, with a band where there are several seeds; more
make a panel each, of points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipedu.plots.style import COLOURS, dress, new_figure, panels, plain, shorten
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS, BINS = 8, 6  # values of a setting that have a row each in a heat map; bins where there are more
WIDTH = 4.5  # of a panel, inches


@dataclass(frozen=True)
class Scale:
    """How a figure shows a setting that is a number.

    Attributes:
        log: on a logarithmic scale.
        drawn: its values were drawn from a range, so that hardly two are equal: a heat map counts them in bins.
    """

    log: bool = False
    drawn: bool = False


def plot_sweep(trials: pandas.DataFrame, numbers: Mapping[str, Scale], score: str, heading: str) -> Figure:
    """Plot the score against the settings that were varied.

    Args:
        trials: a row a trial and seed, with "variant", "trial", the settings and the score, in percent.
        numbers: the settings that are numbers.
        score: its column.
        heading: what to call it.
    Raises:
        ClipeduError: no setting is a number, or no trial has a score.
    """
    known = trials[trials[score].notna()]
    if known.empty:
        raise ClipeduError("no trial has a score yet")
    if not numbers:
        raise ClipeduError("no setting that was varied is a number")
    if len(numbers) == 2:
        return _heat_maps(known, numbers, score, heading)
    return _curves(known, numbers, score, heading)


def _heat_maps(known: pandas.DataFrame, numbers: Mapping[str, Scale], score: str, heading: str) -> Figure:
    """Draw a heat map a variant: each cell is the mean score over seeds of its best trial."""
    import seaborn

    (x, of_x), (y, of_y) = numbers.items()
    means = known.groupby(["variant", "trial"], sort=False).agg({x: "first", y: "first", score: "mean"}).reset_index()
    columns, at_x = _cells(means[x].to_numpy(float), of_x)
    rows, at_y = _cells(means[y].to_numpy(float), of_y)
    variants = list(dict.fromkeys(means["variant"]))
    across = min(3, len(variants))
    figure = new_figure(1 + WIDTH * across, 0.6 + 3.4 * -(-len(variants) // across))
    limits = {"vmin": means[score].min(), "vmax": means[score].max()}
    for number, (ax, variant) in enumerate(zip(panels(figure, len(variants), across), variants, strict=True), 1):
        own = (means["variant"] == variant).to_numpy()
        table = np.full((len(rows), len(columns)), np.nan)
        for column, row, value in zip(at_x[own], at_y[own], means[score].to_numpy()[own], strict=True):
            table[row, column] = np.fmax(table[row, column], value)
        ax.set_facecolor("#eeeeee")
        seaborn.heatmap(
            table[::-1], ax=ax, annot=table.size <= 64, fmt=".1f", cmap="viridis", mask=np.isnan(table[::-1]), linewidths=0.5,
            xticklabels=columns, yticklabels=rows[::-1], cbar=number % across == 0 or number == len(variants),
            cbar_kws={"label": plain(f"{heading} (%)")}, **limits,
        )  # fmt: skip
        dress(ax, "" if len(variants) == 1 else shorten(variant, 48), x, y)
        ax.grid(False)
        for label in ax.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
        ax.tick_params(axis="y", labelrotation=0)
    return figure


def _cells(values: np.ndarray, scale: Scale) -> tuple[list[str], np.ndarray]:
    """Return the labels of the cells along an axis, and in which of them each value is."""
    distinct = np.unique(values)
    if len(distinct) <= (1 if scale.drawn else MOST_CELLS):
        return [f"{value:.4g}" for value in distinct], np.searchsorted(distinct, values)
    low, high = distinct[0], distinct[-1]
    edges = np.geomspace(low, high, BINS + 1) if scale.log else np.linspace(low, high, BINS + 1)
    labels = [f"{a:.2g} to {b:.2g}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return labels, np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BINS - 1)


def _curves(known: pandas.DataFrame, numbers: Mapping[str, Scale], score: str, heading: str) -> Figure:
    """Draw a panel a setting: curves over the only one, points over each of several."""
    import seaborn

    across = min(3, len(numbers))
    figure = new_figure(1.5 + WIDTH * across if across > 1 else 7.5, 0.6 + 3.4 * -(-len(numbers) // across))
    variants = list(dict.fromkeys(known["variant"]))
    look = {"hue_order": variants, "style_order": variants, "palette": _palette(len(variants))}
    axes = panels(figure, len(numbers), across)
    for ax, (name, scale) in zip(axes, numbers.items(), strict=True):
        data = known[["variant", "trial", name, score]].astype({name: float})
        if len(numbers) == 1:
            seaborn.lineplot(
                data, x=name, y=score, hue="variant", style="variant", markers=True, errorbar=_student, ax=ax, **look
            )
        else:
            means = data.groupby(["variant", "trial"], sort=False).mean().reset_index()
            seaborn.scatterplot(means, x=name, y=score, hue="variant", style="variant", ax=ax, **look)
        if scale.log:
            ax.set_xscale("log")
        dress(ax, "", name, f"{heading} (%)")
        _legend(ax, variants, last=ax is axes[-1])
    return figure


def _legend(ax: Axes, variants: list[str], *, last: bool) -> None:
    found = ax.get_legend()
    if found is None:
        return
    handles = [handle for handle in found.legend_handles if handle is not None]
    found.remove()
    if last and len(variants) > 1:
        labels = [plain(shorten(variant, 40)) for variant in variants]
        ax.legend(handles, labels, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _palette(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _student(values: pandas.Series) -> tuple[float, float]:
    """Return the ends of Student's 95 % interval of the mean; those of the mean itself for one value."""
    mean, half = interval(values.tolist())
    return (mean, mean) if math.isnan(half) else (mean - half, mean + half)
