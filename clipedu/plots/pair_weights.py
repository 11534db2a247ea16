"""Figures of a batch as matrices: similarities S, and weights W = dL/dS.

Two colour scales, everywhere the same:

- weights on a red-white-blue one with 0 in its middle: *blue pulls* (W < 0), *red pushes*. Anyone can distinguish these two;
  black squares mark the diagonal, the matched pairs.
- similarities and shares on cividis: brighter is more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from clipedu.plots.style import BOTH, IMAGE, TEXT, dress, new_figure, panels, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from torch import Tensor

    from clipedu.toys.similarity_batch import SimilarityBatch

PULL, PUSH = IMAGE, TEXT  # blue and vermilion, as the two ends of the scale of weights


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
