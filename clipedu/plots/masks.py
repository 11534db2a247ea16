"""Figures of the fractal mask: as a matrix, and what one token sees.

    plot_mask(16, 4)
    plot_who_sees(16, 4, token_at(16, 4, "4 x 4", 0, 3))

Colours say by which of the two rules of `clipedu.models.fractal_mask` a token may attend to another: blue, they are of the same
level; orange, the window of one contains the window of the other. After two blocks a token can also depend on another through
a third: green. Both figures read as "query attends to key", True in the mask; the mask is symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipedu.models.fractal_mask import fractal_mask, summary_sides, tokens
from clipedu.plots.style import COLOURS, bare, dress, new_figure
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = ("#E6E6E6", COLOURS[0], COLOURS[4], "#A6DCC9")  # for 0, 1, 2, 3 of `reach`
MEANINGS = ("not seen", "seen: same level", "seen: one window lies in the other", "seen: through a third token")
MARK = "#000000"
FRAME: dict[str, Any] = {"fill": False, "edgecolor": MARK, "linewidth": 1.3}
STAR: dict[str, Any] = {"color": MARK, "markersize": 13, "markeredgecolor": "white"}
NAMED = 30  # tokens, up to which each has its name in the figure
WIDEST = 11.5  # inches, of all levels side by side


def level_names(grid: int, base: int) -> list[str]:
    """Name the levels, coarsest first: 4, 2 -> ["1 x 1", "2 x 2", "patches"].

    Raises ClipeduError, as `summary_sides`.
    """
    return [*(f"{side} x {side}" for side in summary_sides(grid, base)), "patches"]


def token_at(grid: int, base: int, level: str, row: int = 0, column: int = 0) -> int:
    """Find where in the sequence a token is.

    Args:
        grid: n, patches a side; a power of `base`.
        base: k, patches a side of the smallest windows.
        level: one of `level_names`.
        row, column: in the grid of that level, from 0.
    Raises:
        ClipeduError: a level or place that is not there, or a grid that cannot carry the windows.
    """
    names, sides = level_names(grid, base), _sides(grid, base)
    if level not in names:
        raise unknown_name("level", level, names)
    side, before = sides[names.index(level)], sum(s * s for s in sides[: names.index(level)])
    if not (0 <= row < side and 0 <= column < side):
        raise ClipeduError(f"there is no ({row}, {column}) on level {level!r}: rows and columns are 0 to {side - 1}")
    return before + row * side + column


def token_name(grid: int, base: int, token: int) -> str:
    """Name a token: "global token", "4 x 4 token (0, 3)" or "patch (2, 1)".

    Args:
        grid, base: as in `token_at`.
        token: number in the sequence, from 0.
    Returns:
        its name, row before column.
    Raises:
        ClipeduError: a token that is not there, or a grid that cannot carry the windows.
    """
    level, row, column = _place(grid, base, token)
    name = level_names(grid, base)[level]
    return "global token" if level == 0 else f"{'patch' if name == 'patches' else f'{name} token'} ({row}, {column})"


def reach(grid: int, base: int, blocks: int = 1) -> Tensor:
    """Say why a query can depend on a key after one or two blocks.

    Args:
        grid, base: as in `token_at`.
        blocks: 1 or 2.
    Returns:
        int64 [L, L], a row a query. 0 it cannot; 1 both are of the same level; 2 one's window contains the other's; 3 only
        through a third token.
    Raises:
        ClipeduError: another number of blocks, or a grid that cannot carry the windows.
    """
    if blocks not in (1, 2):
        raise ClipeduError(f"blocks={blocks}: 1 is the mask, 2 what can depend on what after two; more change nothing")
    mask = fractal_mask(grid, base)
    size = tokens(_sides(grid, base))[:, 0]
    why = torch.where(size[:, None] == size, 1, 2) * mask
    return why if blocks == 1 else torch.where((why == 0) & (mask.float() @ mask.float() > 0), 3, why)


def plot_mask(grid: int, base: int, token: int | None = None, *, blocks: int = 1) -> Figure:
    """Draw the fractal mask: query rows, key columns.

    Lines are between the levels, which are named above and on the right.

    Args:
        grid, base: as in `token_at`.
        token: number in the sequence, from 0, of a token whose row is marked (`token_at`).
        blocks: 1 shows the mask, 2 what can depend on what after two blocks: all on all.
    Raises:
        ClipeduError: a grid that cannot carry the windows, a token that is not there, `blocks` neither 1 nor 2.
    """
    from matplotlib.patches import Rectangle

    why = reach(grid, base, blocks)
    count, allowed = len(why), int((why > 0).sum())
    figure = new_figure(7.0, 7.6)
    ax = figure.subplots()
    ax.imshow(_paint(why), extent=(0, count, count, 0))
    dress(ax, "", "key: the token that is seen", "query: the token that looks")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.yaxis.labelpad = 12
    _name_tokens(ax, grid, base)
    _name_levels(ax, grid, base)
    does = "pairs may attend" if blocks == 1 else f"pairs are connected after {blocks} blocks"
    heading = f"{grid} x {grid} patches, base {base}: {count:,} tokens; {allowed:,} of {count**2:,} {does}, {allowed / count**2:.1%}"
    if token is not None:
        heading += f"\nmarked row: {token_name(grid, base, token)}"
        around = max(0, 0.006 * count - 0.5)  # a row of many is too thin for a frame: some of its neighbours are in it
        ax.add_patch(Rectangle((0, token - around), count, 1 + 2 * around, clip_on=False, **FRAME))
        ax.plot(-0.012 * count, token + 0.5, ">", color=MARK, markersize=8, clip_on=False)
    ax.set(xlim=(0, count), ylim=(count, 0))
    figure.suptitle(heading, fontsize=10)
    _legend(figure, why)
    return figure


def plot_who_sees(grid: int, base: int, token: int, *, blocks: int = 1) -> Figure:
    """Draw what one token sees, a panel a level.

    The grids of all levels are drawn over the same square, so that a window lies over its patches. A star is the token itself;
    the black frame, in every panel, its window.

    Args:
        grid, base, blocks: as in `plot_mask`.
        token: number in the sequence, from 0 (`token_at`).
    Raises:
        ClipeduError: as `plot_mask`.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    name = token_name(grid, base, token)
    why = reach(grid, base, blocks)[token]
    sides, names = _sides(grid, base), level_names(grid, base)
    width = min(2.9, WIDEST / len(sides))
    figure = new_figure(max(4.5, width * len(sides)), width + 1)
    axes = figure.subplots(1, len(sides), squeeze=False)[0]
    size, top, left = tokens(sides)[token].tolist()
    short = _short_names(grid, base)
    seen = why.split([side * side for side in sides])
    for level, (ax, side, part) in enumerate(zip(axes, sides, seen, strict=True)):
        _draw_level(ax, grid, part.view(side, side), short[level])
        ax.add_patch(Rectangle((left, top), size, size, clip_on=False, zorder=3, **FRAME))
        ax.set_title(f"{names[level]}: {int((part > 0).sum()):,} of {side * side:,}", fontsize=10)
        if grid // side == size:
            ax.plot(left + size / 2, top + size / 2, "*", zorder=4, **STAR)
        ax.set(xlim=(0, grid), ylim=(grid, 0))
    after = "" if blocks == 1 else f" after {blocks} blocks"
    figure.suptitle(f"{name} sees {int((why > 0).sum()):,} of {len(why):,} tokens{after}", fontsize=11)
    star = Line2D([], [], linestyle="", marker="*", label="the token itself", **STAR)
    window = Rectangle((0, 0), 1, 1, label="its window", **FRAME)
    _legend(figure, why, [star, window])
    return figure


def _draw_level(ax: Axes, grid: int, part: Tensor, names: list[str]) -> None:
    """Draw one level, a cell a token.

    The level fills the square from 0 to `grid` patches.
    """
    side = len(part)
    ax.imshow(_paint(part), extent=(0, grid, grid, 0), interpolation="nearest")
    edges = np.arange(side + 1) * (grid // side)
    style: dict[str, Any] = {"color": "white", "linewidth": 1.5 if side <= 9 else 0.6}
    ax.hlines(edges, 0, grid, **style)
    ax.vlines(edges, 0, grid, **style)
    for cell, name in enumerate(names):
        row, column = divmod(cell, side)
        place = (column * grid / side + 0.03 * grid, row * grid / side + 0.03 * grid)
        ax.text(*place, name, ha="left", va="top", fontsize=9, color="white" if part[row, column] == 1 else MARK)
    bare(ax)


def _name_levels(ax: Axes, grid: int, base: int) -> None:
    """Draw lines between the levels, and name these above and on the right.

    Names are moved apart where levels are small.
    """
    ends = np.cumsum([0, *(side * side for side in _sides(grid, base))])
    count = int(ends[-1])
    for start, end in zip(ends[:-2], ends[1:-1], strict=True):
        if end - start > 0.01 * count:  # a line would hide a smaller level
            ax.axhline(float(end), color=MARK, linewidth=0.7)
            ax.axvline(float(end), color=MARK, linewidth=0.7)
    middles, place = (ends[:-1] + ends[1:]) / 2, -np.inf
    for middle, name in zip(middles, level_names(grid, base), strict=True):
        place = max(middle, place + 0.03 * count)
        style: dict[str, Any] = {"color": "#888888", "linewidth": 0.8, "clip_on": False}
        ax.plot([middle, place], [0, -0.02 * count], **style)
        ax.plot([count, 1.02 * count], [middle, place], **style)
        ax.text(place, -0.025 * count, name, rotation=90, ha="center", va="bottom", fontsize=9)
        ax.text(1.025 * count, place, name, ha="left", va="center", fontsize=9)


def _name_tokens(ax: Axes, grid: int, base: int) -> None:
    """Name each token on both axes, where they are few, between thin lines."""
    names = [name for level in _short_names(grid, base) for name in level]
    places = np.arange(len(names))
    ax.set_xticks(places + 0.5, names, fontsize=8, rotation=90)
    ax.set_yticks(places + 0.5, names, fontsize=8)
    ax.tick_params(length=0)
    ax.tick_params("y", pad=12)
    for edge in places.tolist():
        ax.axhline(edge, color="white", linewidth=0.5)
        ax.axvline(edge, color="white", linewidth=0.5)


def _legend(figure: Figure, why: Tensor, marks: Sequence[Artist] = ()) -> None:
    """Add a legend of the colours that occur, and of other marks."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=SHADES[k], label=MEANINGS[k]) for k in why.unique().tolist()] + list(marks)
    columns = min(len(handles), 3) if figure.get_figwidth() < 8 else len(handles)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, columnspacing=1.4
    )


def _paint(why: Tensor) -> np.ndarray:
    """Return colours for `reach`: float [..., 3]."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(shade) for shade in SHADES])[why.numpy()]


def _sides(grid: int, base: int) -> list[int]:
    """Return the tokens a side of all levels, the patches last."""
    return [*summary_sides(grid, base), grid]


def _place(grid: int, base: int, token: int) -> tuple[int, int, int]:
    """Return level, row and column of a token.

    Raises ClipeduError if there is no such token.
    """
    sides = _sides(grid, base)
    count = sum(side * side for side in sides)
    if not 0 <= token < count:
        raise ClipeduError(f"there is no token {token}: the sequence has {count}, 0 to {count - 1}")
    size, top, left = tokens(sides)[token].tolist()
    return sides.index(grid // size), top // size, left // size


def _short_names(grid: int, base: int) -> list[list[str]]:
    """Name the tokens g, s00, s01, ..., p00, ..., level by level.

    The names of levels with many tokens are empty.
    """
    sides = _sides(grid, base)
    if sum(side * side for side in sides) > NAMED:
        return [[] for _ in sides]
    letters = ["g", *"s" * (len(sides) - 2), "p"]
    return [
        ["g"] if letter == "g" else [f"{letter}{row}{column}" for row in range(side) for column in range(side)]
        for letter, side in zip(letters, sides, strict=True)
    ]
