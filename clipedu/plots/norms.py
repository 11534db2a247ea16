"""Figures of norms over a run: layers, rotation, balance, and walks.

Every function takes numbers (rows of `NormMonitor.frame()`, or a `Walk` of `clipedu.norms.random_walks`) and returns a matplotlib
`Figure`. What was measured is a solid line or a dot, what was predicted a dashed one or a band.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.random_walks import plot_walk
from clipedu.plots.style import BOTH, COLOURS, draw_curve, dress, log_where_it_helps, new_figure, panels
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipedu.norms import SteadyState

__all__ = ["QUANTITIES", "plot_balance", "plot_layers", "plot_prediction", "plot_rotation", "plot_walk"]

NAMED = 6  # layers with a colour and a name in one panel; where there are more, the others are pale
WITHIN = 0.05  # half the width of the band around a prediction
PALE = "#BBBBBB"

# what can be drawn of layers: title and axis; what of a `SteadyState` predicts it
QUANTITIES = {
    "weight": ("Norm of the weights", "||w||", "norm"),
    "gradient": ("Norm of the gradients, before clipping", "||g||", None),
    "update": ("Norm of what a step changes", "||w' - w||", None),
    "relative_update": ("Relative size of a step", "lr ||u|| / ||w||", None),
    "angle": ("Rotation: the angle between a weight and the next", "radians a step", "rotation"),
    "cosine": ("Does a step point along the weight?", "cos(w, u)", "cosine"),
    "spectral": ("Largest singular value", "spectral norm", None),
}


def plot_layers(
    frame: pandas.DataFrame,
    quantity: str = "weight",
    predicted: Mapping[str, SteadyState | float | Sequence[float]] | None = None,
    layers: Iterable[str] | None = None,
) -> Figure:
    """Plot one quantity of each layer over the steps.

    Each part of the model and kind of layer has a panel. One with more than six layers names six of them, spread from its
    largest to its smallest; the others are pale.

    Args:
        frame: `NormMonitor.frame()` or `run.layers`.
        quantity: one of `QUANTITIES`.
        predicted: layer -> its `SteadyState` or the number (a band of 5 % to each side), or one number for each of its rows
            (a dashed curve). Only named layers show theirs: choose `layers`.
        layers: names of the layers to draw; all.
    Raises:
        ClipeduError: no rows, an unknown quantity or layer, or a quantity that was not recorded.
    """
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    if quantity not in frame:
        raise ClipeduError(f"these rows have no column {quantity!r}: NormMonitor(..., spectral=True) makes 'spectral'")
    frame = _chosen(frame, layers)
    groups = list(frame.groupby(["part", "kind"], sort=False))
    across = min(2, len(groups))
    down = -(-len(groups) // across)
    title, label, field = QUANTITIES[quantity]
    figure = new_figure(1.0 + 5.6 * across, 0.6 + 2.9 * down)
    figure.suptitle(title, fontsize=11)
    axes = panels(figure, len(groups), across)
    for ax, ((part, kind), rows) in zip(axes, groups, strict=True):
        count = rows["layer"].nunique()
        _draw_layers(ax, rows, quantity, {} if predicted is None else predicted, field)
        heading = f"{part}, {kind}: {count} layer{'s' * (count > 1)}"
        dress(ax, heading, "step" if ax in axes[-across:] else "", label)
    return figure


def plot_rotation(
    frame: pandas.DataFrame,
    predicted: Mapping[str, SteadyState | float | Sequence[float]] | None = None,
    layers: Iterable[str] | None = None,
) -> Figure:
    """Plot how far each layer turns in a step, in radians.

    Args:
        frame, predicted, layers: as in `plot_layers`; a `SteadyState` predicts its rotation.
    Raises:
        ClipeduError: as `plot_layers`.
    """
    return plot_layers(frame, "angle", predicted, layers)


def plot_prediction(
    frame: pandas.DataFrame,
    predicted: Mapping[str, SteadyState | float | Sequence[float]],
    quantity: str = "weight",
) -> Figure:
    """Plot measured over predicted, of every layer with a prediction.

    Each part of the model has a panel; 1 is as predicted.

    Args:
        frame, predicted, quantity: as in `plot_layers`; layers without a finite prediction are left out.
    Raises:
        ClipeduError: no layer has a finite prediction.
    """
    _, label, field = QUANTITIES[quantity]
    ratios = []
    for layer, rows in frame.groupby("layer", sort=False):
        value = _value(predicted.get(layer), field)
        if value is not None and np.all(np.isfinite(value)) and np.all(value != 0):
            ratios.append(rows.assign(ratio=rows[quantity].to_numpy() / value))
    if not ratios:
        raise ClipeduError("no layer of these rows has a finite prediction")
    parts = {part: [r for r in ratios if r["part"].iloc[0] == part] for part in dict.fromkeys(frame["part"])}
    parts = {part: rows for part, rows in parts.items() if rows}
    figure = new_figure(1.2 + 4.2 * len(parts), 3.8)
    axes = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for ax, (part, of_part) in zip(axes, parts.items(), strict=True):
        ax.axhspan(1 - WITHIN, 1 + WITHIN, color=COLOURS[2], alpha=0.18, linewidth=0)
        ax.axhline(1, color=COLOURS[2], linestyle="--", linewidth=1.4)
        for rows in of_part:
            ax.plot(rows["step"], rows["ratio"], color=COLOURS[0], linewidth=0.8, alpha=0.35)
        steps = of_part[0]["step"]
        if all(len(rows) == len(steps) for rows in of_part):
            median = np.median([rows["ratio"].to_numpy() for rows in of_part], axis=0)
            ax.plot(steps, median, color=BOTH, linewidth=2.0)
        dress(
            ax,
            f"{part}: {len(of_part)} layers, their median black",
            "step",
            f"{label}, measured / predicted" * (ax is axes[0]),
        )
    return figure


def plot_balance(frame: pandas.DataFrame, layer: str) -> Figure:
    """Plot what changes the length of one layer: three terms and their sum.

    Alignment, injection and decay are drawn as shares of its ||w||^2 a step.

    Args:
        frame: `NormMonitor.frame()` or `run.layers`.
        layer: its name there.
    Raises:
        ClipeduError: no rows, or an unknown layer.
    """
    rows = _chosen(frame, [layer])
    squared = rows["weight"] ** 2
    terms = {
        "injection: lr^2 ||u||^2": (rows["injection"], COLOURS[2], "-"),
        "alignment: -2 lr (1 - s) <w, u>": (rows["alignment"], COLOURS[0], "-."),
        "decay: -(1 - (1 - s)^2) ||w||^2": (rows["decay"], COLOURS[1], "--"),
        "their sum": (rows["injection"] + rows["alignment"] + rows["decay"], BOTH, ":"),
    }
    figure = new_figure(8.6, 3.8)
    ax = figure.subplots()
    ax.axhline(0, color="#888888", linewidth=0.8)
    for name, (values, colour, dashes) in terms.items():
        draw_curve(ax, rows["step"], values / squared, colour, dashes, name)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    ax.ticklabel_format(axis="y", scilimits=(-2, 3))
    dress(ax, f"What changes the length of {layer}", "step", "share of ||w||^2 a step")
    return figure


def _draw_layers(
    ax: Axes, rows: pandas.DataFrame, quantity: str, predicted: Mapping[str, Any], field: str | None
) -> None:
    """Draw all layers of a panel; the named ones with colour and prediction."""
    layers = {layer: of_layer for layer, of_layer in rows.groupby("layer", sort=False)}
    final = {layer: of_layer[quantity].iloc[-1] for layer, of_layer in layers.items()}
    order = sorted(layers, key=lambda layer: final[layer], reverse=True)
    named = (
        order if len(order) <= NAMED else [order[k] for k in np.linspace(0, len(order) - 1, NAMED).round().astype(int)]
    )
    for layer in order:
        if layer not in named:
            ax.plot(layers[layer]["step"], layers[layer][quantity], color=PALE, linewidth=0.7)
    values = {layer: _value(predicted.get(layer), field) for layer in named}
    values = {layer: value for layer, value in values.items() if value is not None and np.all(np.isfinite(value))}
    bands = {layer: value for layer, value in values.items() if np.ndim(value) == 0}
    shared = len(bands) > 1 and np.ptp(list(bands.values())) < 0.2 * WITHIN * abs(np.mean(list(bands.values())))
    for number, layer in enumerate(named):
        colour, of_layer = COLOURS[number], layers[layer]
        draw_curve(ax, of_layer["step"], of_layer[quantity], colour, "-", _short(layer, rows["part"].iloc[0]))
        if layer in bands and not shared:
            _band(ax, bands[layer], colour)
        elif layer in values and layer not in bands:
            ax.plot(of_layer["step"], values[layer], color=colour, linestyle="--", linewidth=1.4)
    if shared:
        _band(ax, float(np.mean(list(bands.values()))), "#777777")
    if quantity != "cosine":
        log_where_it_helps(ax, rows[quantity])
    title = "bands: predicted ± 5 %" if bands else "dashed: predicted" if values else None
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), title=title, title_fontsize=7)


def _band(ax: Axes, value: float, colour: str) -> None:
    ax.axhspan(value - WITHIN * abs(value), value + WITHIN * abs(value), color=colour, alpha=0.18, linewidth=0)


def _value(prediction: Any, field: str | None) -> Any:
    """Return a number or an array from what may be a `SteadyState`."""
    if prediction is None or np.ndim(prediction) > 0 or isinstance(prediction, int | float | np.number):
        return prediction
    return getattr(prediction, field) if field else None


def _chosen(frame: pandas.DataFrame, layers: Iterable[str] | None) -> pandas.DataFrame:
    """Return the rows of some layers.

    Raises ClipeduError: an unknown layer, no rows.
    """
    if not len(frame):
        raise ClipeduError("there is nothing to draw: these rows are empty (was a step recorded?)")
    if layers is None:
        return frame
    known = dict.fromkeys(frame["layer"])
    for layer in (layers := list(layers)):
        if layer not in known:
            raise unknown_name("layer", layer, known)
    return frame[frame["layer"].isin(layers)]


def _short(layer: str, part: str) -> str:
    """Shorten a layer's name by what the panel's title says.

    Only the end of a long name is kept.
    """
    name = layer.removesuffix(".weight")
    head, dot, tail = name.partition(".")
    name = tail if dot and head.startswith(part) else name
    return name if len(name) <= 30 else "…" + name[-29:]
