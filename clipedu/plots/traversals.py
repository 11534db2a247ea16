"""The figure of traversals: nearest captions on the way to the root."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from clipedu.evaluation.traversals import Stop
from clipedu.plots.style import TEXT, dress, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_traversal(walks: Mapping[str, list[Stop]], picture: Tensor | None = None) -> Figure:
    """Draw ways from an image to the root, one panel a walk.

    The image is above, the root below. A dot is where a caption becomes the nearest; the number before it is the distance to
    the root there.

    Args:
        walks: title -> stops, from `clipedu.evaluation.traversals`.
        picture: uint8 [3, H, W], the image, shown on the left.
    """
    widths = [1] * len(walks) if picture is None else [0.35, *[1] * len(walks)]
    figure = new_figure(3.5 * sum(widths), 4.6)
    axes = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    if picture is not None:
        show_picture(axes.pop(0), picture)
    for ax, (name, stops) in zip(axes, walks.items(), strict=True):
        draw_walk(ax, stops)
        ax.tick_params(labelleft=ax is axes[0])
        dress(ax, name, "", "share of the way to the root" if ax is axes[0] else "")
    return figure


def show_picture(ax: Axes, picture: Tensor) -> None:
    """Show a picture, uint8 [3, H, W], at the top of a panel."""
    ax.imshow(picture.permute(1, 2, 0).numpy())
    ax.set_anchor("N")
    ax.axis("off")


def draw_walk(ax: Axes, stops: list[Stop]) -> None:
    """Draw one panel of `plot_traversal`."""
    labels = [textwrap.wrap(f"{stop.distance:.2f}  {stop.caption}", 42, subsequent_indent=" " * 10) for stop in stops]
    heights = _spread([stop.share for stop in stops], [0.02 + 0.038 * len(lines) for lines in labels])
    ax.plot([0, 0], [0, 1], color="#999999", linewidth=2, zorder=1)
    for stop, lines, height in zip(stops, labels, heights, strict=True):
        ax.plot([0, 0.05, 0.1], [stop.share, height, height], color="#999999", linewidth=0.7, zorder=1)
        ax.text(0.12, height, plain("\n".join(lines)), fontsize=8, va="center")
    ax.scatter([0] * len(stops), [stop.share for stop in stops], color=TEXT, zorder=2)
    ax.set(xlim=(-0.05, 1.5), ylim=(1.06, -0.06), xticks=[])


def _spread(heights: list[float], sizes: list[float]) -> list[float]:
    """Move ascending heights apart, so that labels do not overlap.

    They are moved as little as that needs, and none far below 1.
    """
    apart = [(size + after) / 2 for size, after in pairwise(sizes)]
    spread = heights[:1]
    for height, gap in zip(heights[1:], apart, strict=True):
        spread.append(max(height, spread[-1] + gap))
    spread[-1] = min(spread[-1], max(1.0, heights[-1]))
    for k in reversed(range(len(apart))):
        spread[k] = min(spread[k], spread[k + 1] - apart[k])
    return spread
