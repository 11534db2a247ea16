"""Measured over predicted norms, a row a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipedu.plots.style import COLOURS, dress, new_figure, plain
from clipedu.utils.statistics import student_ends

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SMALL = 9  # points
GROUPS = {True: "Layers that a normalisation follows", False: "The others"}


def plot_ratios(frame: pandas.DataFrame, band: float) -> Figure:
    """Draw the ratio of every layer: mean and interval over seeds.

    Args:
        frame: a row a run and layer: "variant", "run", "layer", "normalised", "ratio" (measured / predicted, above 0).
        band: what counts as predicted: 0.05 is 5 %.
    """
    import seaborn

    groups = {normalised: frame[frame["normalised"] == normalised] for normalised in GROUPS}
    groups = {normalised: rows for normalised, rows in groups.items() if len(rows)}
    heights = [rows["layer"].nunique() + 2 for rows in groups.values()]
    figure = new_figure(9, 1.4 + 0.27 * sum(heights))
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    order = list(dict.fromkeys(frame["variant"]))
    for ax, (normalised, rows) in zip(axes, groups.items(), strict=True):
        ax.axvspan(1 - band, 1 + band, color="#dddddd", zorder=0)
        ax.axvline(1, color="#666666", linewidth=0.8, zorder=1)
        seaborn.pointplot(
            x=rows["ratio"].astype(float), y=rows["layer"].map(plain), hue=rows["variant"], hue_order=order, orient="y", ax=ax,
            palette=list(COLOURS[: len(order)]), markers=list("os^Dv"[: len(order)]), dodge=0.5, linestyle="none", log_scale=(True, False),
            errorbar=student_ends, markersize=4.5, err_kws={"linewidth": 1.3}, legend=ax is axes[-1],
        )  # fmt: skip
        low, high = rows["ratio"].min(), rows["ratio"].max()
        fine = (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2)
        all_ticks = fine if high / low < 1.5 else (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10)
        ticks = [tick for tick in all_ticks if low / 1.1 <= tick <= high * 1.1]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        dress(
            ax,
            GROUPS[normalised],
            "measured ||w|| / predicted from settings, last third of the run" if ax is axes[-1] else "",
            "",
        )
        ax.tick_params(labelsize=SMALL)
        ax.grid(visible=True, axis="y", linewidth=0.4)
    handles, labels = axes[-1].get_legend_handles_labels()
    if (legend := axes[-1].get_legend()) is not None:
        legend.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(order), frameon=False, fontsize=10)
    seeds = frame.groupby("variant")["run"].nunique().max()
    several = f"mean and Student's 95 % interval over {seeds} seeds" if seeds > 1 else "one seed: no intervals"
    figure.suptitle(f"Grey: within {100 * band:g} % of the prediction; {several}", fontsize=11)
    return figure
