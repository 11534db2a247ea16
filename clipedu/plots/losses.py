"""Figures of losses: which pairs a loss pulls and pushes, and how hard.

Every function takes numbers (mostly what `clipedu.toys.similarity_batch.examine` returns) and returns a matplotlib `Figure`;
nothing is computed here but shares and orders. Two colour scales, everywhere the same:

- weights W = dL/dS on a red-white-blue one with 0 in its middle: *blue pulls* (W < 0), *red pushes*. Anyone can distinguish these
  two; black squares mark the diagonal, the matched pairs.
- similarities and shares on cividis: brighter is more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.style import BOTH, COLOURS, IMAGE, TEXT, dress, line_style, new_figure, panels, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from torch import Tensor

    from clipedu.toys.similarity_batch import SimilarityBatch

PULL, PUSH = IMAGE, TEXT  # blue and vermilion, as the two ends of the scale of weights


def loss_table() -> str:
    """Make a Markdown table of all losses: name, description, formula.

    `IPython.display.Markdown` shows it.
    """
    from clipedu.losses import LOSSES

    rows = [f"| `{entry.name}` | {entry.description}<br>${entry.formula}$ |" for entry in LOSSES.values()]
    return "\n".join(["| loss | what it asks of a batch |", "|:--|:--|", *rows])


def plot_batch(batch: SimilarityBatch) -> Figure:
    """Draw the similarities of a batch [B, B], with the number in each cell.

    Pictures are down, captions across.
    """
    size = len(batch.names)
    figure = new_figure(1.6 + 0.72 * size, 1.9 + 0.55 * size)
    ax = figure.subplots()
    shown = draw_similarity(ax, batch.similarity, batch)
    ax.set_xticks(range(size), [plain(caption) for caption in batch.captions], rotation=35, ha="right", fontsize=9)
    ax.set_title("Similarity S: each row a picture, each column a caption\n(black squares: own pairs)", fontsize=10)
    figure.colorbar(shown, ax=ax, label="similarity", shrink=0.8)
    return figure


def plot_weights(maps: Mapping[str, Tensor], batch: SimilarityBatch | None = None) -> Figure:
    """Draw maps of pair weights dL/dS side by side, on one scale.

    Each holds shares of its own sum of |W|, which is in the title. The scale is a square root, so that a share of 1 % can be
    seen beside one of 30 %.

    Args:
        maps: title -> W [B, B].
        batch: gives the names; without it pairs are numbered.
    Raises:
        ClipeduError: no maps.
    """
    from matplotlib.colors import FuncNorm

    if not maps:
        raise ClipeduError("there are no weights to draw: give at least one map")
    across = min(4, len(maps))
    down = -(-len(maps) // across)
    figure = new_figure(2.0 + 2.4 * across, 1.5 + 2.45 * down)
    axes = panels(figure, len(maps), across)
    shares = {title: _shares(weights) for title, weights in maps.items()}
    largest = max(np.abs(share).max() for share in shares.values()) or 1.0
    norm = FuncNorm((_signed_root, _signed_square), vmin=-largest, vmax=largest)
    for place, (ax, (title, share)) in enumerate(zip(axes, shares.items(), strict=True)):
        shown = ax.imshow(share, cmap="RdBu_r", norm=norm)
        _own_pairs(ax, len(share))
        ax.set_title(f"{plain(title)}\nsum of |W| = {maps[title].abs().sum():.3g}", fontsize=9)
        _name_sides(ax, batch, first_column=place % across == 0, last_row=place + across >= len(maps))
    bar = figure.colorbar(shown, ax=axes, shrink=0.85, fraction=0.04)
    bar.set_label("share of all |W|: blue pulls, red pushes")
    ticks = [share for share in (0.01, 0.05, 0.1, 0.2, 0.4) if share <= largest]
    bar.set_ticks([-tick for tick in reversed(ticks)] + [0] + ticks)
    bar.set_ticklabels([f"{100 * abs(tick):g} %" for tick in bar.get_ticks()])
    return figure


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

    Above: log of this batch's mean (g) and of what is divided by (u). Below: g / u.

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


def plot_edited(batch: SimilarityBatch, similarity: Tensor, weights: Tensor, chosen: tuple[int, int]) -> Figure:
    """Draw S with a chosen cell, W in its own units, and the pull and push.

    Args:
        batch: gives names and pictures.
        similarity, weights: S and dL/dS as they are now, [B, B].
        chosen: image and caption of the ringed cell.
    """
    size = len(similarity)
    figure = new_figure(12.5, 4.7)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1.15, 0.75])
    draw_similarity(left, similarity, batch)
    ring = {"markersize": 27, "markerfacecolor": "none", "markeredgecolor": PUSH, "markeredgewidth": 2.5}
    left.plot(chosen[1], chosen[0], "o", **ring)
    left.set_title("Similarity S (ring: the chosen cell)", fontsize=10)
    largest = weights.abs().max().item() or 1.0
    shown = middle.imshow(weights.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(shown, ax=middle, shrink=0.7)
    _own_pairs(middle, size)
    middle.set_title("W = dL/dS: blue pulls, red pushes", fontsize=10)
    _name_sides(left, batch, first_column=True, last_row=True)
    _name_sides(middle, batch, first_column=False, last_row=True)
    pull, push = (-weights).clamp(min=0).sum(1).numpy(), weights.clamp(min=0).sum(1).numpy()
    right.barh(range(size), -pull, color=PULL)
    right.barh(range(size), push, color=PUSH, hatch="//", edgecolor="white")
    right.axvline(0, color=BOTH, linewidth=0.8)
    right.set_yticks(range(size), [plain(name) for name in batch.names], fontsize=8)
    right.set_ylim(size - 0.5, -0.5)
    dress(right, "Pull and push on each picture", "pull   <   0   <   push\n(sums over its row of W)", "")
    return figure


def draw_similarity(ax: Axes, similarity: Tensor, batch: SimilarityBatch) -> AxesImage:
    """Draw S with its numbers, and the pictures at its left.

    Args:
        ax: the panel.
        similarity: S, float [B, B].
        batch: gives names and pictures.
    Returns:
        the image of S, for a colour bar.
    """
    size = len(similarity)
    shown = ax.imshow(similarity.numpy(), cmap="cividis", vmin=-0.2, vmax=1)
    for (row, column), value in np.ndenumerate(similarity.numpy()):
        ax.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value < 0.45 else "black",
        )
    strip = np.concatenate([*batch.pixels.permute(0, 2, 3, 1).numpy()])
    ax.imshow(strip, extent=(-1.55, -0.6, size - 0.5, -0.5), aspect="equal", interpolation="nearest")
    ax.set_xlim(-1.55, size - 0.5)
    ax.set_yticks(range(size), [plain(name) for name in batch.names], fontsize=9)
    ax.spines[:].set_visible(False)
    _own_pairs(ax, size)
    return shown


def _name_sides(ax: Axes, batch: SimilarityBatch | None, first_column: bool, last_row: bool) -> None:
    """Name pictures down the left and captions along the bottom."""
    names = [plain(name) for name in batch.names] if batch else None
    if names:
        ax.set_xticks(range(len(names)), names if last_row else [], rotation=90, fontsize=8)
        ax.set_yticks(range(len(names)), names if first_column else [], fontsize=8)
    ax.set_xlabel("caption" if last_row else "", fontsize=9)
    ax.set_ylabel("picture" if first_column else "", fontsize=9)


def _own_pairs(ax: Axes, size: int) -> None:
    """Draw a black square around each cell of the diagonal."""
    from matplotlib.patches import Rectangle

    for row in range(size):
        ax.add_patch(Rectangle((row - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=1.0))


def _shares(weights: Tensor) -> np.ndarray:
    total = weights.abs().sum()
    return (weights / total if total > 0 else weights).numpy()


def _signed_root(value: np.ndarray) -> np.ndarray:
    return np.sign(value) * np.sqrt(np.abs(value))


def _signed_square(value: np.ndarray) -> np.ndarray:
    return np.sign(value) * np.square(value)
