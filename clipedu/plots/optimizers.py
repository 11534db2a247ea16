"""Figures of optimizers: paths in a landscape, single steps, decay laws.

Every function takes what `clipedu.toys.landscapes` or `clipedu.optim` made and returns a matplotlib `Figure`. Landscapes are grey,
darker is higher, so that paths keep the same colours and dashes in every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from clipedu.plots.style import dress, line_style, new_figure, plain
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from clipedu.toys.landscapes import Descent

WIDTH, HEIGHT = (-2.0, 4.2), (-1.5, 2.5)  # what is shown of the landscape; a path that leaves it leaves the picture
MARKERS = "osD^vPp"


def plot_descent(
    panels: Mapping[str, Mapping[str, Descent]], *, pulled_to: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Draw paths over the contours of their landscape, one panel an entry.

    A ring is the start, a mark an end, the star the minimum. The cross is the origin, where weight decay pulls.

    Args:
        panels: title -> name -> path. All paths of a panel are of one landscape; a name has one colour in all panels.
        pulled_to: title -> a point to mark with a square, e.g. `clipedu.toys.landscapes.coupled_minimum`.
    Raises:
        ClipeduError: a panel without a path, or no panel.
    """
    if not panels or not all(panels.values()):
        raise ClipeduError("there is no path to draw: give at least one for each panel")
    names = list(dict.fromkeys(name for paths in panels.values() for name in paths))
    figure = new_figure(6.6 if len(panels) == 1 else 4.9 * len(panels), 4.6 if len(panels) == 1 else 4.2)
    for ax, (title, paths) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        first = next(iter(paths.values()))
        _draw_landscape(ax, first.landscape)
        ax.plot(*_minimum(), "*", color="black", markersize=18, label="minimum")
        for name, path in paths.items():
            _draw_path(ax, path, name, names.index(name))
        ax.plot(*first.points[0].tolist(), "o", color="black", fillstyle="none", markersize=9, label="start")
        ax.plot(0, 0, "x", color="black", markersize=9, markeredgewidth=2, label="origin: decay pulls here")
        if pulled_to and title in pulled_to:
            ax.plot(
                *pulled_to[title], "s", color="black", fillstyle="none", markersize=11, label="minimum of loss + L2"
            )
        dress(ax, title, "x", "y")
        ax.grid(False)
        ax.set(xlim=WIDTH, ylim=HEIGHT, aspect="equal")
    handles = {label: line for ax in figure.axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = min(len(handles), 3 if len(panels) == 1 else 5)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def plot_steps(steps: Mapping[str, Tensor]) -> Figure:
    """Draw the entries of steps, and below them their singular values.

    Each has a column; both are over their largest.

    Args:
        steps: name -> matrix [m, n], e.g. a gradient, its sign and its polar factor.
    Raises:
        ClipeduError: no steps.
    """
    import torch

    if not steps:
        raise ClipeduError("there is no step to draw: give at least one matrix")
    figure = new_figure(1.0 + 2.6 * len(steps), 5.0)
    axes = figure.subplots(2, len(steps), squeeze=False)
    for place, (name, step) in enumerate(steps.items()):
        step = step.detach().double()
        values = torch.linalg.svdvals(step).numpy()
        above, below = axes[:, place]
        shown = above.imshow((step / step.abs().max()).numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="equal")
        above.set_title(plain(name), fontsize=10)
        above.set(xticks=[], yticks=[])
        below.bar(
            range(1, len(values) + 1), values / values[0], color="#0072B2", width=0.8 if len(values) < 20 else 1.0
        )
        dress(below, "", "number", "singular value / largest" if place == 0 else "")
        below.set_ylim(0, 1.05)
    figure.colorbar(shown, ax=list(axes[0]), shrink=0.8, label="entry / largest", fraction=0.03)
    return figure


def plot_decay_laws(*, lr_max: float, weight_decay: float, total: int = 200, warmup: int = 20) -> Figure:
    """Plot lambda and the shrink under each decay law over a schedule.

    Args:
        lr_max: peak learning rate.
        weight_decay: lambda at the peak.
        total: steps, the last of half a cosine.
        warmup: steps of the linear warm-up.
    """
    from clipedu.optim import DECAY_LAWS, learning_rate
    from clipedu.optim.decay_laws import coefficient

    steps = range(total)
    lrs = [learning_rate(step, peak=lr_max, total=total, warmup=warmup) for step in steps]
    figure = new_figure(11, 3.9)
    rate, coefficients, shrinks = figure.subplots(1, 3)
    rate.plot(steps, lrs, color="black", linewidth=1.8)
    dress(rate, "learning rate", "step", "lr")
    for number, law in enumerate(DECAY_LAWS):
        colour, dashes = line_style(number)
        wide = {"color": colour, "linestyle": dashes, "linewidth": 3.2 if law == "corrected" else 1.8, "label": law}
        lambdas = [coefficient(law, lr, lr_max=lr_max, weight_decay=weight_decay) for lr in lrs]
        coefficients.plot(steps, lambdas, **wide)
        shrinks.plot(steps, [lr * decay for lr, decay in zip(lrs, lambdas, strict=True)], **wide)
    dress(coefficients, "lambda (weight decay)", "step", "lambda")
    coefficients.set_ylim(0, 2.5 * weight_decay)
    dress(shrinks, "shrink: the share of w taken in a step", "step", "lr x lambda")
    shrinks.set_ylim(0)
    for ax in (rate, shrinks):
        ax.ticklabel_format(axis="y", scilimits=(-1, 2))
    figure.legend(*coefficients.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _draw_landscape(ax: Axes, landscape: str) -> None:
    import torch

    from clipedu.toys.landscapes import loss_of

    x, y = np.meshgrid(np.linspace(*WIDTH, 160), np.linspace(*HEIGHT, 120))
    heights = loss_of(landscape)(torch.from_numpy(np.stack([x, y], axis=-1))).numpy()
    levels = [0, 0.03, 0.1, 0.3, 1, 2, 4, 8, 16, 1000]
    shades = [str(shade) for shade in np.linspace(1.0, 0.72, len(levels) - 1)]
    ax.contourf(x, y, heights, levels=levels, colors=shades)
    ax.contour(x, y, heights, levels=levels[1:-1], colors="#888888", linewidths=0.5)


def _draw_path(ax: Axes, path: Descent, name: str, number: int) -> None:
    from matplotlib.patheffects import Normal, Stroke

    colour, dashes = line_style(number)
    points = path.points.numpy()
    points = points[np.isfinite(points).all(axis=1)]
    outline = [Stroke(linewidth=3.2, foreground="white"), Normal()]
    marker = MARKERS[number % len(MARKERS)]
    ax.plot(
        *points.T,
        color=colour,
        linestyle=dashes,
        linewidth=1.6,
        marker=marker,
        markevery=[len(points) - 1],
        markersize=7,
        markeredgecolor="white",
        path_effects=outline,
        label=plain(name),
    )


def _minimum() -> tuple[float, float]:
    from clipedu.toys.landscapes import MINIMUM

    return MINIMUM
