"""The reliability diagram: accuracy over confidence, bin by bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipedu.plots.style import BOTH, IMAGE, TEXT, dress, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from clipedu.evaluation.calibration import Calibration


def plot_reliability(
    found: Calibration, title: str = "Is the zero-shot classifier right as often as it is sure?"
) -> Figure:
    """Draw reliability diagrams, before and after temperature scaling.

    A bar is the accuracy of the pictures in a bin of confidence, a tick their mean confidence; the hatched part between them is the
    gap. Under the diagonal the classifier is too sure, above it not sure enough. Below, the share of pictures in each bin.

    Args:
        found: of `clipedu.evaluation.calibration.calibrate_zero_shot`, or of `calibrate`.
        title: of the figure.
    """
    figure = new_figure(9, 4.6)
    axes = figure.subplots(2, len(found.table), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1])
    for column, row in enumerate(found.table.to_dict("records")):
        bins = found.reliability[found.reliability["probabilities"] == row["probabilities"]]
        _draw_bins(axes[0, column], bins)
        heading = f"{row['probabilities']}: T = {row['temperature']:.4g}, ECE = {row['ece']:.1f} %"
        dress(axes[0, column], heading, "", "accuracy" if column == 0 else "")
        shares = bins["count"] / bins["count"].sum()
        axes[1, column].bar(
            bins["low"], shares, bins["high"] - bins["low"], align="edge", color="#999999", edgecolor="white"
        )
        dress(axes[1, column], "", "confidence", "share" if column == 0 else "")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.suptitle(plain(title), fontsize=11)
    return figure


def _draw_bins(ax: Axes, bins: DataFrame) -> None:
    filled = bins[bins["count"] > 0]
    left, width = filled["low"], filled["high"] - filled["low"]
    ax.bar(left, filled["accuracy"], width, align="edge", color=IMAGE, edgecolor="white", label="accuracy")
    low = filled[["accuracy", "confidence"]].min(axis=1)
    high = filled[["accuracy", "confidence"]].max(axis=1)
    ax.bar(
        left,
        high - low,
        width,
        bottom=low,
        align="edge",
        fill=False,
        edgecolor=TEXT,
        hatch="////",
        linewidth=0,
        label="gap",
    )
    ax.hlines(filled["confidence"], left, filled["high"], color=TEXT, linewidth=2, label="mean confidence")
    ax.plot([0, 1], [0, 1], color=BOTH, linestyle="--", linewidth=1, label="calibrated")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
