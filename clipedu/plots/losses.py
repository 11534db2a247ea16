"""Figures of losses: which pairs a loss pulls and pushes, and how hard.

Every function takes numbers (mostly what `clipedu.toys.similarity_batch.examine` returns) and returns a matplotlib `Figure`;
nothing is computed here but shares and orders. Matrices of pairs are drawn in `clipedu.plots.pair_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.pair_weights import plot_batch, plot_edited, plot_weights
from clipedu.plots.style import BOTH, COLOURS, dress, line_style, new_figure, plain
from clipedu.utils.markdown import markdown_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from clipedu.toys.similarity_batch import SimilarityBatch

__all__ = [
    "loss_table",
    "plot_batch",
    "plot_edited",
    "plot_memory",
    "plot_shares",
    "plot_silenced",
    "plot_sizes",
    "plot_weights",
    "plot_who",
]


def loss_table() -> str:
    """Make a Markdown table of all losses: name, description, formula.

    `IPython.display.Markdown` shows it.
    """
    from clipedu.losses import LOSSES

    rows = [(f"`{entry.name}`", f"{entry.description}<br>${entry.formula}$") for entry in LOSSES.values()]
    return "\n".join([markdown_row(["loss", "what it asks of a batch"]), "|:--|:--|", *map(markdown_row, rows)])


def plot_who(pulls: Mapping[str, Tensor], batch: SimilarityBatch) -> Figure:
    """Draw each pair's share of the pull, in percent: a row a loss.

    Args:
        pulls: name -> pull on each pair [B], as `Seen.pull`. The same number for all pairs would be 100 / B percent.
        batch: gives the names of the pairs.
    """
    table = np.array([100 * (pull / pull.sum()).numpy() for pull in pulls.values()]).clip(min=0) + 0.0  # no -0.0
    size = table.shape[1]
    figure = new_figure(2.4 + 0.8 * size, 1.9 + 0.36 * len(table))
    ax = figure.subplots()
    shown = ax.imshow(np.sqrt(table), cmap="cividis", vmin=0, vmax=10, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value < 35 else "black"
        ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
    ax.set_yticks(range(len(table)), [plain(name) for name in pulls], fontsize=9)
    ax.set_xticks(range(size), [plain(name) for name in batch.names], rotation=30, ha="right", fontsize=9)
    pictures = figure.colorbar(shown, ax=ax, label="share of the pull", ticks=np.sqrt([0, 5, 12.5, 25, 50, 100]))
    pictures.set_ticklabels(["0 %", "5 %", "12.5 %", "25 %", "50 %", "100 %"])
    ax.set_title(f"Who gets the gradient? In percent; equal shares would be {100 / size:g}", fontsize=10)
    return figure


def plot_shares(pulls: Mapping[str, Tensor], lead: Tensor) -> Figure:
    """Plot the share of the pull that the easiest x percent of the pairs get.

    That is a Lorenz curve: the straight line is equal shares.

    Args:
        pulls: name -> pull on each pair [B].
        lead: how far each pair is ahead, [B], as `clipedu.toys.similarity_batch.lead`: the easiest have the largest.
    """
    order = lead.argsort(descending=True).numpy()
    figure = new_figure(7.2, 4.4)
    ax = figure.subplots()
    x = np.linspace(0, 100, len(order) + 1)
    ax.plot(x, x, color="#888888", linewidth=1, label="equal shares")
    for number, (name, pull) in enumerate(pulls.items()):
        share = 100 * np.cumsum(np.concatenate([[0.0], pull.numpy()[order]])) / pull.sum().item()
        colour, dashes = line_style(number)
        ax.plot(x, share, color=colour, linestyle=dashes, linewidth=1.8, label=plain(name))
    won = 100 * (lead > 0).double().mean().item()
    ax.vlines(won, 0, 100, color=BOTH, linestyle=":", linewidth=1)
    ax.text(won, 101, "won | lost", ha="center", va="bottom", fontsize=8)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    dress(
        ax,
        "How much of the gradient goes to the easy pairs?",
        "the easiest ... percent of the pairs",
        "share of the pull (%)",
    )
    return figure


def plot_memory(histories: Mapping[str, Mapping[str, Tensor]], pair: int) -> Figure:
    """Plot one anchor's running average over its visits.

    The upper panel has the log of this batch's mean (g) and of the divisor (u), the lower one g / u.

    Args:
        histories: name of a form -> "g" and "u" as from `clipedu.toys.similarity_batch.remembered`, [visits, B] each; g of the
            first.
        pair: which anchor.
    """
    figure = new_figure(8.5, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1])
    g = next(iter(histories.values()))["g"][:, pair].numpy()
    above.plot(g, "o", color=BOTH, markersize=3.5, label="g: this visit's batch")
    for number, (name, history) in enumerate(histories.items()):
        colour, dashes = line_style(number)
        u = history["u"][:, pair].numpy()
        above.plot(u, color=colour, linestyle=dashes, linewidth=1.8, label=plain(f"u: {name}"))
        below.plot(np.exp(g - u), color=colour, linestyle=dashes, linewidth=1.8, label=plain(name))
    below.set_ylim(-0.05, 1.4)
    above.legend(fontsize=9)
    dress(above, "Memory: u follows g, quickly up and slowly down", "", "natural logarithm")
    dress(below, "The anchor's weight g / u: 1 is its full share, 0 is silence", "visit (one an epoch)", "g / u")
    return figure


def plot_silenced(counts: Mapping[str, Sequence[int]], temperatures: Sequence[float], pairs: int) -> Figure:
    """Plot how many pairs a loss silences, over the temperature.

    Args:
        counts: name -> one count a temperature.
        temperatures: in ascending order, > 0.
        pairs: of how many.
    """
    figure = new_figure(7.2, 3.6)
    ax = figure.subplots()
    for number, (name, count) in enumerate(counts.items()):
        colour, dashes = line_style(number)
        ax.plot(
            temperatures,
            count,
            color=colour,
            linestyle=dashes,
            marker="o^sD"[number % 4],
            linewidth=1.8,
            label=plain(name),
        )
    ax.set_xscale("log")
    ax.set_xticks(temperatures, [f"{temperature:g}" for temperature in temperatures])
    ax.minorticks_off()
    ax.set_ylim(-0.03 * pairs, 1.03 * pairs)
    ax.legend(fontsize=9)
    dress(ax, "Pairs that the 1e-8 switches off", "temperature", f"silenced pairs, of {pairs}")
    return figure


def plot_sizes(sizes: Mapping[str, Mapping[str, float]]) -> Figure:
    """Plot the size of each loss's gradient, |dL/dS|, on a log axis.

    `sizes`: name of a scale -> loss -> size.
    """
    losses = list(next(iter(sizes.values())))
    figure = new_figure(7.5, 0.9 + 0.36 * len(losses))
    ax = figure.subplots()
    for number, (scale, size) in enumerate(sizes.items()):
        look: dict[str, Any] = {"marker": "os^D"[number % 4], "markersize": 11 - 3 * number, "linestyle": "none"}
        fill: dict[str, Any] = {
            "markeredgecolor": COLOURS[number],
            "markerfacecolor": COLOURS[number] if number else "none",
        }
        ax.plot([size[loss] for loss in losses], range(len(losses)), label=plain(scale), **look, **fill)
    ax.set_xscale("log")
    ax.set_yticks(range(len(losses)), [plain(loss) for loss in losses])
    ax.invert_yaxis()
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    dress(ax, "Size of the gradient that leaves the loss", "norm of dL/dS", "")
    return figure
