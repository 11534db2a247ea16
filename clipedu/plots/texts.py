"""The figure of a caption, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipedu.inference.texts import OWN, TextReading
from clipedu.plots.style import COLOURS, TEXT, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PADDING = "#BBBBBB"


def plot_reading(reading: TextReading) -> Figure:
    """Draw a caption, a column a token.

    Above is the share of each token's state in the feature, where it is known, below how far the embedding moves when the token is
    left out.

    Args:
        reading: of `clipedu.inference.texts.read_text`.
    """
    count = len(reading.tokens)
    rows = 1 if reading.pooling == OWN else 2
    figure = new_figure(min(11.0, 2.0 + 0.42 * count), 2.1 * rows + 0.6 * (rows == 1))
    *upper, below = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    colours = [TEXT if place < reading.real else PADDING for place in range(count)]
    for above in upper:
        above.bar(range(count), 100 * reading.weights.numpy(), color=colours)
        dress(above, f"In the feature ({reading.pooling})", "", "share of its state (%)")
    below.bar(range(count), np.nan_to_num(reading.moved.numpy()), color=COLOURS[0])
    dress(below, "Left out of the caption", "", "embedding moves by\n1 - cosine")
    _name(below, reading)
    return figure


def _name(ax: Axes, reading: TextReading) -> None:
    ax.set_xticks(
        range(len(reading.tokens)), reading.tokens, rotation=60, ha="right", rotation_mode="anchor", fontsize=9
    )
    for place, label in enumerate(ax.get_xticklabels()):
        if place >= reading.real:
            label.set_color("#888888")
