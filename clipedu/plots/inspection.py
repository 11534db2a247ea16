"""The figure of a model's layers: where norms are and should be, spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.style import BOTH, IMAGE, TEXT, dress, log_in_words, new_figure, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXPECTED = "#009E73"
KINDS = {  # of layers: colour, marker, label
    "normalised": (IMAGE, "o", "a normalisation follows"),
    "other": (TEXT, "^", "no normalisation follows"),
    "head": (BOTH, "D", "output layer"),
    "not measured": ("#777777", "o", "not measured"),
    "frozen": ("#BBBBBB", "s", "frozen"),
}


def kind_of_layer(row: Any) -> str:
    """Return one of `KINDS` for a row of `Inspection.layers`."""
    if not row["trained"]:
        return "frozen"
    if row["kind"] == "head":
        return "head"
    if row["normalised"] is None or row["normalised"] != row["normalised"]:
        return "not measured"
    return "normalised" if row["normalised"] else "other"


def plot_layer_norms(layers: pandas.DataFrame, part: str) -> Figure:
    """Plot each matrix of a part of the model: a row a layer.

    Left the root mean square of its numbers, with a green bar where the recipe says that it should be, and a dashed line at the balance of
    the peak lr where that is one for all; then the largest singular value, the stable rank, and alpha where it was measured.

    Args:
        layers: `Inspection.layers`.
        part: "image" or "text".
    Raises:
        ClipeduError: the part has no matrix.
    """
    rows = layers[(layers["part"] == part) & (layers["kind"] != "1-D")]
    if not len(rows):
        raise ClipeduError(f"there is no matrix in the part {part!r}")
    panels = [("spectral", "largest singular value"), ("stable_rank", "stable rank")]
    if rows["alpha"].notna().any():
        panels.append(("alpha", "alpha of the spectrum"))
    figure = new_figure(11.5, 1.5 + 0.23 * len(rows))
    axes = figure.subplots(1, 1 + len(panels), sharey=True, width_ratios=[2.4] + [1] * len(panels))
    places = np.arange(len(rows))
    _draw_norms(axes[0], rows, places)
    for ax, (column, label) in zip(axes[1:], panels, strict=True):
        _draw_marks(ax, rows, places, column)
        if column == "alpha":
            ax.axvspan(2, 6, color=EXPECTED, alpha=0.12, linewidth=0)
        else:
            log_in_words(ax.xaxis)
        dress(ax, label, "", "")
    axes[0].set_yticks(places, [plain(_short(name, part)) for name in rows["layer"]], fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    dress(axes[0], "root mean square of the weights", "", "")
    handles = {h.get_label(): h for h in axes[0].get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _draw_norms(ax: Axes, rows: pandas.DataFrame, places: np.ndarray) -> None:
    """Draw norms and what the recipe says of them."""
    root = np.sqrt(rows["size"].to_numpy())
    expected = rows["expected"].to_numpy(dtype=float) / root
    balance = rows["balance"].to_numpy(dtype=float) / root
    known = np.isfinite(expected)
    ax.hlines(places[known], rows["rms"].to_numpy()[known], expected[known], color=EXPECTED, linewidth=1.2, alpha=0.6)
    if known.any():
        at_end = rows["end"].notna().any()
        label = "the recipe: at its end" if at_end else "the recipe: at its peak lr"
        ax.plot(expected[known], places[known], "|", color=EXPECTED, markersize=11, markeredgewidth=2.6, label=label)
        middle = np.nanmedian(balance)
        if at_end and np.mean(abs(balance[known] / middle - 1) < 0.02) > 0.5:  # the same for most layers
            ax.axvline(middle, color=EXPECTED, linestyle="--", linewidth=1, label="balance at the peak lr")
    _draw_marks(ax, rows, places, "rms")
    log_in_words(ax.xaxis)


def _draw_marks(ax: Axes, rows: pandas.DataFrame, places: np.ndarray, column: str) -> None:
    kinds = np.array([kind_of_layer(row) for _, row in rows.iterrows()])
    values = rows[column].to_numpy(dtype=float)
    for kind, (colour, marker, label) in KINDS.items():
        if (kinds == kind).any():
            ax.plot(values[kinds == kind], places[kinds == kind], marker, color=colour, markersize=4.5, label=label)


def _short(layer: str, part: str) -> str:
    """Shorten a layer's name by the words that all of its part have."""
    name = layer.partition(" = ")[0].removesuffix(".weight")
    head, dot, tail = name.partition(".")
    name = tail if dot and head.startswith(part) else name
    return name if len(name) <= 44 else "…" + name[-43:]
