"""Figures of attention and of token norms.

    tokens = name_tokens(model)
    plot_attention(attention_maps(model, pixels), tokens, pixels)
    plot_token_norms({"plain": (token_norms(model, pixels), tokens)}, pixels)

Heat maps are laid out as the patches lie in the picture, dark for little and bright for much (cividis, which people with any
colour vision can read). Orange marks the query, or a patch that is an outlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clipedu.evaluation.token_artifacts import FACTOR, artifacts
from clipedu.inference.attention import Tokens
from clipedu.plots.style import BOTH, IMAGE, TEXT, bare, dress, new_figure, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLUMNS = 4  # blocks that are shown unless some are named
CMAP, FORBIDDEN = "cividis", "#D9D9D9"


def plot_attention(
    maps: Tensor,
    tokens: Tokens,
    pixels: Tensor,
    *,
    image: int = 0,
    queries: Sequence[str] | None = None,
    blocks: Sequence[int] | None = None,
) -> Figure:
    """Draw the attention weights of tokens of one picture.

    A row is a query, with the picture on its left; a column is a block, or a head. A map holds the weights on the
    patches, in percent of all weights of the query, from 0 to its largest, which is written above it: so a map that is
    bright all over is an even one. What is missing from 100 % goes to the extra tokens; that share is written above
    too, and on the left how much it would be if all weights were equal. Grey patches are forbidden by the mask; white
    lines bound the windows of summary tokens.

    Args:
        maps: [blocks, B, heads, L, L] of `attention_maps`.
        tokens: of the same model, `name_tokens`.
        pixels: uint8 [B, 3, H, W], the pictures.
        image: which of the B.
        queries: names of tokens, e.g. "patch (2, 5)", "summary 1x1". None takes two patches and the first token of each kind of
            extra tokens.
        blocks: from 0. Several: a column each, weights averaged over heads. One alone: a column a head. None takes up to
            four, evenly spread.
    Raises:
        ClipeduError: a token, a block or an image that is not there.
    """
    one = maps[:, _number("image", image, maps.shape[1])].float()
    queries = default_queries(tokens) if queries is None else queries
    if blocks is None:
        blocks = np.unique(np.linspace(0, len(maps) - 1, COLUMNS).round().astype(int)).tolist()
    blocks = [_number("block", block, len(maps)) for block in blocks]
    if not queries or not blocks:
        raise ClipeduError(
            f"nothing to show: queries={queries}, blocks={blocks}. Name at least one of each, or give None"
        )
    if len(blocks) == 1:
        columns = {f"block {blocks[0]}, head {head}": weights for head, weights in enumerate(one[blocks[0]])}
    else:
        columns = {f"block {block}, mean of heads": one[block].mean(0) for block in blocks}

    figure = new_figure(2.0 * (1 + len(columns)) + 0.9, 2.6 * len(queries) + 0.6)
    axes = figure.subplots(len(queries), 1 + len(columns), squeeze=False)
    for line, (row, query) in enumerate(zip(axes, queries, strict=True)):
        number = tokens.index(query)
        allowed = one[:, :, number].amax((0, 1)) > 0
        equal = 100 * (allowed[: tokens.extra].sum() / allowed.sum()).item()
        _draw_query(row[0], pixels[image], tokens, number, f"{equal:.0f} % to extra tokens\nif all were equal")
        weights = 100 * torch.stack([column[number] for column in columns.values()])
        for ax, title, column in zip(row[1:], columns, weights, strict=True):
            shown = np.ma.masked_where(~allowed.numpy(), column.numpy())[tokens.extra :].reshape(tokens.grid)
            mesh = _heat(ax, shown, 0, shown.max())
            _draw_windows(ax, tokens)
            _mark(ax, tokens, number)
            extra = f"{column[: tokens.extra].sum():.0f} % to extra tokens" if tokens.extra else "no extra tokens"
            words = f"{extra}\nlargest on a patch: {shown.max():.2g} %"
            ax.set_title(f"{title}\n{words}" if line == 0 else words, fontsize=9)
    bar = figure.colorbar(mesh, ax=axes[:, 1:].ravel().tolist(), ticks=mesh.get_clim(), aspect=30, shrink=0.5, pad=0.01)
    bar.ax.set_yticklabels(["0", "largest\nof the map"])
    figure.suptitle("Where a token looks: its weights on the patches", fontsize=11)
    return figure


def default_queries(tokens: Tokens) -> list[str]:
    """Name two patches and the first of each kind of extra tokens.

    One patch is in the middle, one at the side.
    """
    rows, columns = tokens.grid
    kinds: dict[str, str] = {}
    for name in tokens.names[: tokens.extra]:
        kinds.setdefault(" ".join(name.split()[: 2 if name.startswith("summary") else 1]), name)
    return [f"patch ({rows // 2}, {columns // 2})", f"patch ({rows // 2}, 0)", *kinds.values()]


def plot_token_norms(
    norms: Mapping[str, tuple[Tensor, Tokens]], pixels: Tensor, *, pictures: int = 3, block: int = -1
) -> Figure:
    """Draw the norms of tokens: maps of pictures, and curves over blocks.

    A map holds a patch's norm over the median of all patches of its block (in all pictures given), on one scale for all
    models; an orange square marks an outlier, as `artifacts` defines it. A model without artifacts is of one colour. The curves
    below are of all pictures; their band holds the middle nine tenths of the patches.

    Args:
        norms: by a model's name, its [blocks, B, L] of `token_norms` and its tokens of `name_tokens`.
        pixels: uint8 [B, 3, H, W], the same pictures for all.
        pictures: how many are shown, the first ones.
        block: of the maps, from 0; -1 is the last.
    Raises:
        ClipeduError: no models, a block that is not there, or norms of another number of pictures.
    """
    if not norms:
        raise ClipeduError("no token norms to plot: give at least one model's")
    pictures = min(pictures, len(pixels))
    tables = {name: artifacts(values, tokens, pixels) for name, (values, tokens) in norms.items()}
    ratios = {}
    for name, (values, tokens) in norms.items():
        shown = _number("block", block, len(values))
        median = tables[name]["median"][shown]
        ratios[name] = (values[shown, :, tokens.extra :].double() / median).unflatten(1, tokens.grid).numpy()
    highest = max(FACTOR, *(ratio.max() for ratio in ratios.values()))

    figure = new_figure(2.9 + 2.5 * len(norms), 1.8 * pictures + 2.9)
    heights, widths = [1.8] * pictures + [2.4], [2.0] + [2.5] * len(norms)
    axes = figure.subplots(pictures + 1, 1 + len(norms), height_ratios=heights, width_ratios=widths, squeeze=False)
    for number in range(pictures):
        axes[number, 0].imshow(pixels[number].permute(1, 2, 0).numpy())
        bare(axes[number, 0])
        for ax, ratio in zip(axes[number, 1:], ratios.values(), strict=True):
            mesh = _heat(ax, ratio[number], 0, highest)
            for row, column in np.argwhere(ratio[number] > FACTOR):
                _outline(ax, row, column, 1)
    figure.colorbar(mesh, ax=axes[:-1, 1:].ravel().tolist(), label=f"norm / median ({FACTOR:g}: outlier)", pad=0.01)
    for top, ax, name in zip(axes[0, 1:], axes[-1, 1:], norms, strict=True):
        top.set_title(plain(f"{name}\nafter block {block % len(norms[name][0])}"), fontsize=10)
        if ax is not axes[-1, 1]:
            ax.sharey(axes[-1, 1])
        _draw_norms(ax, *norms[name], tables[name])
    axes[-1, 1].set_ylabel("L2 norm of a token")
    axes[-1, 0].axis("off")
    handles = {part.get_label(): part for ax in axes[-1, 1:] for part in ax.get_legend_handles_labels()[0]}
    axes[-1, 0].legend(handles.values(), handles, loc="center", fontsize=8, frameon=False)
    return figure


def _draw_norms(ax: Axes, norms: Tensor, tokens: Tokens, table: pandas.DataFrame) -> None:
    """Draw the norms of one model over its blocks."""
    patches, extra = norms[..., tokens.extra :].flatten(1), norms[..., : tokens.extra].flatten(1)
    block = np.arange(len(norms))
    low, high = np.quantile(patches.numpy(), [0.05, 0.95], axis=1)
    ax.fill_between(block, low, high, color=IMAGE, alpha=0.25, linewidth=0, label="patches, 5 to 95 %")
    ax.plot(block, table["median"], color=IMAGE, linewidth=1.8, label="patches, median")
    ax.plot(
        block, patches.amax(1).numpy(), color=IMAGE, linestyle=":", marker="^", markersize=4, label="patches, largest"
    )
    if tokens.extra:
        ax.plot(
            block,
            extra.median(1).values.numpy(),
            color=TEXT,
            linestyle="--",
            marker="o",
            markersize=4,
            label="extra, median",
        )
    ax.plot(
        block,
        FACTOR * table["median"],
        color=BOTH,
        linestyle="-.",
        linewidth=1,
        label=f"{FACTOR:g} medians:\noutliers above",
    )
    last = table.iloc[-1]
    title = f"outliers at the end: {100 * last['outliers']:.1f} %\nlargest: {last['largest']:.2f} x median"
    dress(ax, title, "block", "")
    ax.set_xticks(block[:: -(-len(block) // 8)])


def _draw_query(ax: Axes, picture: Tensor, tokens: Tokens, number: int, below: str) -> None:
    """Draw the picture with the query's place in it, and name the query."""
    height, width = picture.shape[1:]
    rows, columns = tokens.grid
    ax.imshow(
        picture.permute(1, 2, 0).numpy(),
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        aspect=height * columns / (width * rows),
    )
    bare(ax)
    _mark(ax, tokens, number)
    ax.set_title(plain(tokens.names[number]), fontsize=10, color=TEXT, weight="bold")
    ax.set_xlabel(below if tokens.extra else "", fontsize=8)


def _heat(ax: Axes, values: np.ndarray, low: float, high: float) -> AxesImage:
    """Draw a heat map over the patch grid; what is masked is grey."""
    mesh = ax.imshow(values, cmap=CMAP, vmin=low, vmax=high)
    ax.set_facecolor(FORBIDDEN)
    bare(ax)
    return mesh


def _mark(ax: Axes, tokens: Tokens, number: int) -> None:
    """Draw an orange square around a patch, or the window of a summary token."""
    if number >= tokens.extra:
        _outline(ax, *divmod(number - tokens.extra, tokens.grid[1]), 1)
    elif tokens.windows is not None:
        size, top, left = tokens.windows[number].tolist()
        _outline(ax, top, left, size)


def _outline(ax: Axes, top: float, left: float, size: int) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle((left - 0.5, top - 0.5), size, size, fill=False, edgecolor=TEXT, linewidth=2, clip_on=False, zorder=3)
    )


def _draw_windows(ax: Axes, tokens: Tokens) -> None:
    """Draw white lines around the windows of summary tokens.

    They are thicker for larger windows.
    """
    if tokens.windows is None:
        return
    rows = tokens.grid[0]
    for size in tokens.windows[: tokens.extra, 0].unique().tolist():
        for edge in range(size, rows, size):
            ax.axhline(edge - 0.5, color="white", linewidth=0.3 + 1.2 * size / rows)
            ax.axvline(edge - 0.5, color="white", linewidth=0.3 + 1.2 * size / rows)


def _number(kind: str, given: int, count: int) -> int:
    """Return the number of a block or an image, counted from 0.

    A negative number counts from the end.
    """
    if not -count <= given < count:
        raise ClipeduError(f"there is no {kind} {given}. Allowed: 0 to {count - 1}")
    return given % count
