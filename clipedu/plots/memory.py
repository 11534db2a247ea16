"""The figure of SogCLR's memory beside the exact normaliser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipedu.plots.style import dress, new_figure
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

PANELS = {
    "difference": ("Too large or too small?", "log of the estimate - exact (nats)"),
    "rank correlation": ("Does it know the hard anchors?", "Spearman's rank correlation"),
}
BATCHES = (("fresh batch", "one fresh batch", "--"), ("in training", "one batch in training mode", ":"))


def plot_memory(rows: pandas.DataFrame) -> Figure:
    """Draw difference and rank correlation over the training.

    A curve is the memory of a variant, with Student's 95 % interval over the seeds where there are several; grey are the
    estimates of one batch, means over all variants.

    Args:
        rows: of `clipedu.studies.memory.memory_table`, of any number of runs.
    """
    import seaborn

    def bounds(values: pandas.Series) -> tuple[float, float]:
        mean, half = interval(values)
        return mean - half, mean + half

    rows = rows.assign(epoch=rows["step"] / rows.groupby(["variant", "seed"])["step"].transform("max"))
    kept = rows[rows["estimate"] == "memory"]
    variants = list(kept["variant"].unique())
    figure = new_figure(10, 4.8)
    axes = figure.subplots(1, 2)
    palette = seaborn.color_palette("colorblind", len(variants))
    for ax, (key, (title, label)) in zip(axes, PANELS.items(), strict=True):
        style = {"x": "epoch", "y": key, "ax": ax}
        seaborn.lineplot(
            kept, hue="variant", style="variant", hue_order=variants, style_order=variants, palette=palette, dashes=False,
            markers=True, errorbar=bounds, **style,
        )  # fmt: skip
        for estimate, name, dashes in BATCHES:
            part = rows[rows["estimate"] == estimate]
            seaborn.lineplot(part, color="#555555", linestyle=dashes, label=name, errorbar=None, **style)
        dress(ax, title, "share of the training", label)
        handles, labels = ax.get_legend_handles_labels()
        ax.get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure
