"""The figure of random walks: Monte Carlo, theory, and the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.style import BOTH, COLOURS, dress, new_figure, plain
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clipedu.norms import Walk

DOTS = 33  # of a walk's records, those that get a dot


def plot_walk(walks: Walk | Sequence[Walk] | Mapping[str, Walk], quantity: str = "norm") -> Figure:
    """Plot Monte Carlo (dots) on theory (dashed), and the schedule below.

    The bars on the dots are two standard errors of the mean, often smaller than a dot. For a single walk a pale band holds
    the middle two thirds of the chains, and a dotted line is the balance that the lr and lambda of that step would lead to.

    Args:
        walks: from `clipedu.norms.random_walks`; a mapping gives their names, else what differs in their settings does.
        quantity: "norm" is ||w||^2 / C, "cosine" is cos(w, u).
    Raises:
        ClipeduError: no walk, an unknown quantity.
    """
    if quantity not in ("norm", "cosine"):
        raise unknown_name("quantity", quantity, ("norm", "cosine"))
    named = walks if isinstance(walks, Mapping) else _name(walks if isinstance(walks, Sequence) else [walks])
    if not named:
        raise ClipeduError("there is no walk to draw: give at least one")
    alone = len(named) == 1
    figure = new_figure(8.6, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
    for number, (name, walk) in enumerate(named.items()):
        colour = COLOURS[number % len(COLOURS)]
        (_draw_norm if quantity == "norm" else _draw_cosine)(above, walk, colour, name or "Monte-Carlo", alone)
        below.plot(walk.step, walk.lr / walk.lr.max(), color="#CCCCCC", linewidth=5, zorder=1, label="lr")
        label = "shrink = lr lambda" + ("" if alone else ", in the colours above")
        below.plot(walk.step, walk.shrink / (walk.shrink.max() or 1.0), color=colour, linewidth=1.5, label=label)
    title, label = ("How long is the weight?", "||w||^2 / C")
    if quantity == "cosine":
        title, label = ("Which way does the update point? Below 0: the step points outward", "cos(w, u)")
    else:
        _fit_axis(above, list(named.values()))
    below.set_ylim(-0.05, 1.12)
    above.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        title=None if alone else "dots Monte-Carlo, dashed theory",
        title_fontsize=8,
    )
    handles, labels = below.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    below.legend(once.values(), once.keys(), fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    if not alone:
        for line in below.get_legend().get_lines()[1:]:
            line.set_color(BOTH)
    dress(above, title, "", label)
    dress(below, "", "step", "share of its peak")
    return figure


def _draw_norm(ax: Axes, walk: Walk, colour: str, name: str, alone: bool) -> None:
    """Draw ||w||^2 / C of one walk; alone also its spread and the balance."""
    if alone:
        low, high = np.clip(walk.measured - walk.spread, 0, None), walk.measured + walk.spread
        ax.fill_between(walk.step, low, high, color=colour, alpha=0.15, linewidth=0, label="two of three chains")
        if np.isfinite(walk.balance).all():
            ax.plot(
                walk.step,
                walk.balance,
                label="balance at this lr and lambda",
                color=COLOURS[1],
                linestyle=":",
                linewidth=1.6,
            )
    _draw_dots(ax, walk.step, walk.measured, walk.predicted, 2 * walk.error, colour, name, alone)


def _draw_cosine(ax: Axes, walk: Walk, colour: str, name: str, alone: bool) -> None:
    """Draw cos(w, u) of one walk.

    Each record is a mean over chains and scatters.
    """
    ax.axhline(0, color="#888888", linewidth=0.8)
    _draw_dots(ax, walk.step, walk.cosine, walk.predicted_cosine, 0 * walk.error, colour, name, alone)


def _draw_dots(
    ax: Axes,
    step: np.ndarray,
    measured: np.ndarray,
    predicted: np.ndarray,
    bars: np.ndarray,
    colour: str,
    name: str,
    alone: bool,
) -> None:
    """Draw some measured values with error bars, and the predicted curve."""
    some = np.unique(np.linspace(0, len(step) - 1, DOTS).round().astype(int))
    dots: dict[str, Any] = {"fmt": "o", "markersize": 3.5, "elinewidth": 1.2, "color": colour}
    ax.errorbar(step[some], measured[some], bars[some], label=plain(name), **dots)
    line: dict[str, Any] = {"color": BOTH if alone else colour, "linestyle": "--", "linewidth": 1.6}
    ax.plot(step, predicted, label="theory" if alone else None, **line)


def _fit_axis(ax: Axes, walks: Sequence[Walk]) -> None:
    """Start the axis at 0, or make it logarithmic.

    It is logarithmic where a walk falls below a tenth.
    """
    low, high = min(walk.measured[-1] for walk in walks), max(walk.measured.max() for walk in walks)
    if 0 < 10 * low < high:
        ax.set_yscale("log")
        ax.set_ylim(0.5 * low, 2 * high)
    else:
        ax.set_ylim(bottom=0)


def _name(walks: Sequence[Walk]) -> dict[str, Walk]:
    """Name walks by the settings in which they differ."""
    settings = [walk.settings for walk in walks]
    keys = [key for key in settings[0] if len({repr(each.get(key)) for each in settings}) > 1] if walks else []
    names = [", ".join(f"{key} {_brief(each.get(key))}" for key in keys) for each in settings]
    return {
        name if names.count(name) == 1 else f"{name} ({k})": walk
        for k, (name, walk) in enumerate(zip(names, walks, strict=True), 1)
    }


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
