"""Maps of the score over learning rate and decay, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipedu.plots.style import COLOURS, dress, new_figure, panels
from clipedu.utils.statistics import student_ends

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 9  # points


@dataclass(frozen=True)
class DecayMap:
    """The map of one optimizer.

    Attributes:
        title: of the panel.
        rates, decays: values of the columns and rows, rising.
        scores: [decays, rates], percent; nan where nothing was run.
        label: what decay is.
    """

    title: str
    rates: Sequence[float]
    decays: Sequence[float]
    scores: np.ndarray
    label: str


def plot_maps(maps: Sequence[DecayMap], score: str, within: float) -> Figure:
    """Draw a heat map an optimizer, all with one scale of colours.

    The best setting has a star, and an outline is drawn around those within a share of it.

    Args:
        maps: of the panels.
        score: what the score is.
        within: share of a map's best score, 0 to 1.
    """
    import seaborn

    across = min(2, len(maps))
    figure = new_figure(0.8 + 4.9 * across, 0.7 + 3.9 * -(-len(maps) // across))
    every = np.concatenate([one.scores.ravel() for one in maps])
    limits = {"vmin": 0.0, "vmax": float(np.nanmax(every))}
    axes = panels(figure, len(maps), across)
    for ax, one in zip(axes, maps, strict=True):
        upward = one.scores[::-1]
        seaborn.heatmap(
            upward, ax=ax, annot=_words(upward), fmt="", annot_kws={"size": SMALL}, cmap="viridis", mask=np.isnan(upward), cbar=False,
            xticklabels=[f"{rate:g}" for rate in one.rates], yticklabels=[f"{decay:g}" for decay in one.decays[::-1]], **limits,
        )  # fmt: skip
        ax.set_facecolor("#eeeeee")
        _outline(ax, np.nan_to_num(upward) >= within * np.nanmax(upward))
        dress(ax, one.title, "lr", one.label)
        ax.grid(False)
        ax.tick_params(labelsize=SMALL, rotation=0)
    bar = figure.colorbar(axes[0].collections[0], ax=axes, shrink=0.8)
    bar.set_label(score)
    figure.suptitle(f"Outlined: within {100 * within:g} % of the best of the map (*), mean over seeds", fontsize=11)
    return figure


def plot_intervals(
    measured: Mapping[str, pandas.DataFrame], order: Sequence[str], named: Callable[[str], str] = str
) -> Figure:
    """Draw a panel a measure: mean and interval of every optimizer.

    Seeds are small points beside.

    Args:
        measured: by the panel's label: "optimizer", "seed" and "value".
        order: of the optimizers; those that are missing are left out.
        named: how an optimizer is written.
    """
    import seaborn

    figure = new_figure(0.6 + 3.9 * len(measured), 3.4)
    axes = figure.subplots(1, len(measured), squeeze=False)[0]
    for ax, (label, frame) in zip(axes, measured.items(), strict=True):
        there = [name for name in order if name in set(frame["optimizer"])]
        x, y = frame["optimizer"].map(named), frame["value"].astype(float)
        names = [named(name) for name in there]
        seaborn.stripplot(x=x, y=y, order=names, ax=ax, color="#999999", size=4, jitter=False)
        seaborn.pointplot(
            x=x, y=y, order=names, ax=ax, color=COLOURS[0], errorbar=student_ends, linestyle="none", capsize=0.15, err_kws={"linewidth": 1.5}
        )  # fmt: skip
        dress(ax, "", "", label)
        ax.tick_params(labelsize=SMALL)
        if frame["value"].min() < 0:
            ax.axhline(0, color="#666666", linewidth=0.8)
    several = any(frame["seed"].nunique() > 1 for frame in measured.values())
    figure.suptitle(
        "Mean and Student's 95 % interval over seeds; grey: each seed" if several else "One seed: no intervals",
        fontsize=11,
    )
    return figure


def _words(scores: np.ndarray) -> np.ndarray:
    """Return what is written into the cells: the scores, and a star at the best."""
    words = np.array([[f"{value:.1f}" for value in row] for row in scores], dtype=object)
    words[np.unravel_index(np.nanargmax(scores), scores.shape)] += " *"
    return words


def _outline(ax: Axes, inside: np.ndarray) -> None:
    """Draw the edges between cells that are inside and others; rows from the top."""
    padded = np.pad(inside, 1)
    strokes = ("white", 5.0), ("#D55E00", 2.5)
    for row, column in np.argwhere(inside):
        for down, right, xs, ys in (
            (-1, 0, (column, column + 1), (row, row)),
            (1, 0, (column, column + 1), (row + 1, row + 1)),
            (0, -1, (column, column), (row, row + 1)),
            (0, 1, (column + 1, column + 1), (row, row + 1)),
        ):
            if not padded[row + 1 + down, column + 1 + right]:
                for order, (colour, width) in enumerate(strokes):
                    ax.plot(
                        xs, ys, color=colour, linewidth=width, solid_capstyle="round", clip_on=False, zorder=3 + order
                    )
