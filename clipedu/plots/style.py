"""What all figures share: colours, dashes, panels, curves.

Colours are those of Okabe and Ito (2008), which people with any colour vision can distinguish; lines differ in their dashes
too, so that a grey print can be read. Figures are made with matplotlib's object interface, without pyplot.
"""

from __future__ import annotations

import functools
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.utils.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    import pandas
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from torch import Tensor

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe-Ito without its yellow
DASHES = ("-", "--", "-.", ":")
IMAGE, TEXT, BOTH = "#0072B2", "#D55E00", "#000000"  # a modality has the same colour in every figure


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, `width` x `height` inches at 100 dots an inch.

    As the last line of a notebook cell it shows itself.
    """
    return _figure_class()(figsize=(width, height), dpi=100, layout="constrained")


@functools.cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that Jupyter always shows.

        A bare `Figure` is shown only after `%matplotlib inline`.
        """

        def _repr_png_(self) -> bytes:
            return to_png(self)

    return NotebookFigure


def to_png(figure: Figure) -> bytes:
    """Make the bytes of a PNG file.

    They are those of `figure.savefig`, which draws everything once more, unseen, only to lay the figure out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file in one step (see `atomic_write`).

    Raises:
        ClipeduError: it cannot be written.
    """
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png")


def line_style(number: int) -> tuple[str, str]:
    """Return colour and dashes of line `number`; the first 28 differ."""
    return COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]


def panels(figure: Figure, count: int, across: int, **kwargs: Any) -> list[Axes]:
    """Make `count` panels row by row, at most `across` side by side.

    Args:
        figure: where they are made.
        count: number of panels.
        across: columns; the places that are left in the last row stay empty.
        kwargs: of `Figure.subplots`.
    """
    grid = figure.subplots(-(-count // across), across, squeeze=False, **kwargs).ravel()
    for ax in grid[count:]:
        ax.remove()
    return list(grid[:count])


def bare(ax: Axes) -> None:
    """Remove ticks and frame of a panel."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def draw_points(ax: Axes, points: np.ndarray | Tensor, **kwargs: Any) -> PathCollection:
    """Scatter points.

    Args:
        ax: the panel.
        points: [N, 2].
        kwargs: of `Axes.scatter`.
    """
    return ax.scatter(points[:, 0], points[:, 1], **kwargs)


def draw_pairs(ax: Axes, starts: np.ndarray, ends: np.ndarray, **kwargs: Any) -> None:
    """Join each of points [N, 2] with its partner by a grey line.

    Args:
        ax: the panel.
        starts, ends: points [N, 2].
        kwargs: of `Axes.plot`.
    """
    for pair in zip(starts, ends, strict=True):
        ax.plot(*np.transpose(pair), color="#999999", zorder=1, **kwargs)


def dress(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Set title and labels, a pale grid, and no frame above and on the right.

    Args:
        ax: the panel.
        title, xlabel, ylabel: taken literally, by `plain`.
    """
    ax.set_title(plain(title), fontsize=10)
    ax.set_xlabel(plain(xlabel))
    ax.set_ylabel(plain(ylabel))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def draw_curve(ax: Axes, step: pandas.Series, value: pandas.Series, colour: str, dashes: str, label: str) -> Line2D:
    """Draw all values as a pale line and their running median as a strong one.

    The window is a fortieth of the values, and odd, so that one odd step does not move the median. Values that are not finite
    are left out; where they end the curve, a cross marks the last good one.

    Args:
        ax: the panel.
        step, value: of equal length.
        colour, dashes: of the strong line, as from `line_style`.
        label: of the strong line, taken literally.
    Returns:
        the strong line.
    """
    value = value.astype(float)
    value = value.where(np.isfinite(value))
    smooth = value.rolling(len(value) // 40 | 1, center=True, min_periods=1).median().where(value.notna())
    ax.plot(step, value, color=colour, linewidth=0.6, alpha=0.25)
    (line,) = ax.plot(step, smooth, color=colour, linestyle=dashes, linewidth=1.8, label=plain(label))
    last = value.last_valid_index()
    if last is not None and math.isnan(value.iloc[-1]):
        ax.plot(step[last], smooth[last], "x", color=colour, markersize=9, markeredgewidth=2.5)
    return line


def log_where_it_helps(ax: Axes, values: pandas.Series) -> None:
    """Make the axis logarithmic where values span more than a factor of ten.

    Only positive values count; the smallest hundredth may fall below the axis.
    """
    positive = values[(values > 0) & np.isfinite(values)]
    if len(positive) and positive.max() > 10 * positive.min():
        ax.set_yscale("log")
        ax.set_ylim(0.5 * positive.quantile(0.01), 2 * positive.max())


def log_in_words(axis: Any) -> None:
    """Make an axis logarithmic, with the ticks 0.1, 0.2, 0.5, 1, 2, 5, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def plain(text: Any) -> str:
    """Escape text that matplotlib would not take literally.

    A `$` starts no formula, and a leading `_` hides no legend entry.
    """
    text = str(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def shorten(text: str, length: int = 32) -> str:
    """Cut text at `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
