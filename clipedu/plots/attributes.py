"""The figure of attributes over a training: foils, and R²."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipedu.plots.style import COLOURS, DASHES, dress, new_figure
from clipedu.utils.statistics import student_ends

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SMALL = 9  # points
PANELS = {
    "foil": ("True caption preferred to its foil", "scenes (%)"),
    "image": ("In image embeddings", "R² (%)"),
    "text": ("In caption embeddings", "R² (%)"),
}


def plot_attributes(frame: pandas.DataFrame, learned: float) -> Figure:
    """Draw a row a variant, a panel a measure, a curve an attribute.

    Args:
        frame: "variant", "seed", "step", "measure" (of `PANELS`), "attribute" and "value" in percent.
        learned: the foil score from which on an attribute counts as learned, in percent: a line.
    """
    import seaborn

    variants, attributes = list(dict.fromkeys(frame["variant"])), list(dict.fromkeys(frame["attribute"]))
    figure = new_figure(11, 0.9 + 3.1 * len(variants))
    axes = figure.subplots(len(variants), len(PANELS), squeeze=False, sharex="row")
    look = {
        name: (COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)], "os^DvPX"[n % 7])
        for n, name in enumerate(attributes)
    }
    for line, name in zip(axes, variants, strict=True):
        for ax, (measure, (title, label)) in zip(line, PANELS.items(), strict=True):
            rows = frame[(frame["variant"] == name) & (frame["measure"] == measure)]
            for attribute, own in rows.groupby("attribute", sort=False):
                colour, dashes, marker = look[str(attribute)]
                seaborn.lineplot(
                    x=own["step"].astype(float), y=own["value"].astype(float), errorbar=student_ends, ax=ax, color=colour, linestyle=dashes,
                    marker=marker, markersize=5, label=str(attribute), legend=False,
                )  # fmt: skip
            if measure == "foil":
                ax.axhline(50, color="#666666", linewidth=0.8)
                ax.axhline(learned, color="#666666", linewidth=0.8, linestyle=":")
                ax.set_ylim(40, 102)
            else:
                ax.set_ylim(-10, 102)
            last = name == variants[-1]
            dress(
                ax,
                f"{name}: {title[:1].lower()}{title[1:]}" if len(variants) > 1 else title,
                "step" if last else "",
                label,
            )
            ax.tick_params(labelsize=SMALL)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=10)
    seeds = frame["seed"].nunique()
    bands = f"bands: Student's 95 % interval over {seeds} seeds" if seeds > 1 else "one seed: no bands"
    figure.suptitle(f"Foils: chance is 50 %, dotted is half way to always; {bands}", fontsize=11)
    return figure
