"""Figures of runs: training curves, norms, and the grid of scores.

Every function takes runs (or a table) and returns a matplotlib `Figure`; nothing is drawn on a screen and no pyplot state is
touched, so that the same call works in a notebook, in a widget, on a server and in a report. Leave the figure as the last
line of a notebook cell to see it, or call `.savefig("loss.png")`.

The title says what to look for. A pale line is the value of each step, the strong line its running median over a fortieth of
the steps. Of a run is read: `name`, `experiment`, `history` and `norms`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.config.course import display_name, in_course_order
from clipedu.plots.embeddings import plot_embedding_map, plot_similarity
from clipedu.plots.style import (
    BOTH,
    COLOURS,
    IMAGE,
    TEXT,
    draw_curve,
    dress,
    line_style,
    log_where_it_helps,
    new_figure,
    panels,
    plain,
    shorten,
)
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = [
    "plot_curves",
    "plot_embedding_map",
    "plot_grid",
    "plot_loss",
    "plot_norms",
    "plot_similarity",
    "plot_watched",
]


def plot_loss(runs: Any) -> Figure:
    """Plot the training loss per step.

    One run: total, its terms, and the learning rate. A list: `plot_curves` of the loss. Raises ClipeduError: no run, or one
    without a history.
    """
    runs = _as_list(runs)
    if len(runs) > 1:
        return plot_curves(runs, "loss")
    run = runs[0]
    history = _rows(run, "history", "training stopped before its first step")
    terms = [name for name in history if name.startswith("loss/") and history[name].notna().any()]
    names = ["loss", *(["terms"] if len(terms) > 1 else []), "lr"]
    figure = new_figure(9, 2.2 + 1.6 * (len(names) - 1))
    rows = panels(figure, len(names), 1, sharex=True, height_ratios=[1.8] + [1.2] * (len(names) - 1))
    axes = dict(zip(names, rows, strict=True))

    draw_curve(axes["loss"], history["step"], history["loss"], *line_style(0), "total loss")
    if run.experiment.loss in ("clip", "cyclip"):
        blind = math.log(run.experiment.batch_size)
        label = f"log(batch size) = {blind:.2f}: all similarities equal"
        axes["loss"].axhline(blind, color="#666666", linestyle=":", label=label)
        axes["loss"].legend(fontsize=9)
    dress(axes["loss"], "Loss: should fall fast, then ever more slowly", "", "loss")
    if "terms" in axes:
        for number, name in enumerate(terms):
            draw_curve(axes["terms"], history["step"], history[name], *line_style(number), name.removeprefix("loss/"))
        axes["terms"].legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        dress(axes["terms"], "Its terms: which one still moves?", "", "term of the loss")
    axes["lr"].plot(history["step"], history["lr"], color=COLOURS[2])
    axes["lr"].set_ylim(bottom=0)
    dress(axes["lr"], "Learning rate: the schedule", "step (optimizer updates)", "learning rate")
    return figure


def plot_curves(runs: Any, column: str = "loss", panel: str | None = None) -> Figure:
    """Plot a column of the history over steps, for many runs, in panels.

    Panels of losses have each their own vertical axis, others share one. Runs without values are named in the title.

    Args:
        runs: one run or several.
        column: a column of `run.history`, e.g. "loss", "loss/cyclic", "pairs_per_second".
        panel: the field of the experiment that makes the panels, e.g. "geometry". By default "loss" for losses, because
            values of different losses have no common unit, and "optimizer" for anything else.
    Raises:
        ClipeduError: no run has values in that column, or `panel` is no field of the experiment.
    """
    runs = _as_list(runs)
    histories = [(run, run.history) for run in runs]
    histories = [
        (run, rows) for run, rows in histories if column in rows and np.isfinite(rows[column].astype(float)).any()
    ]
    if not histories:
        raise ClipeduError(f"none of the {len(runs)} runs has values of {column!r} in its history")
    is_loss = column.split("/")[0] == "loss"
    panel = panel or ("loss" if is_loss else "optimizer")
    fields = [field.name for field in dataclasses.fields(runs[0].experiment)]
    if panel not in fields:
        raise unknown_name("panel", panel, fields)
    drawn = [run for run, _ in histories]
    places = [str(getattr(run.experiment, panel)) for run in drawn]
    labels = _curve_labels(drawn, places, "optimizer" if panel == "loss" else "loss")
    names, legend = in_course_order(places), in_course_order(labels)

    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = new_figure(9 if across > 1 else 7.5, 0.9 + 2.5 * down if across > 1 else 4)
    axes = panels(figure, len(names), across, sharex=True, sharey=not is_loss)
    handles = {}
    for label in legend:
        for (_, rows), place, own in zip(histories, places, labels, strict=True):
            if own == label:
                ax = axes[names.index(place)]
                handles[label] = draw_curve(ax, rows["step"], rows[column], *line_style(legend.index(label)), label)
    for number, (name, ax) in enumerate(zip(names, axes, strict=True)):
        lowest = number + across >= len(names)
        xlabel = "step (optimizer updates)" if lowest else ""
        dress(ax, display_name(name), xlabel, _unit(column) if number % across == 0 else "")
        ax.tick_params(labelbottom=lowest)
    words = [plain(display_name(label)) for label in legend]
    style: dict[str, Any] = {
        "loc": "outside lower center",
        "ncols": min(5, len(words)),
        "frameon": False,
        "fontsize": 9,
    }
    figure.legend([handles[label] for label in legend], words, **style)

    title = f"{_unit(column)} per step"
    if is_loss and len(names) > 1:
        title = f"{title}: compare the lines inside a panel; losses differ in unit"
    without = [run.name for run in runs if not any(run is other for other in drawn)]
    if without:
        title = f"{title}\n(no values: {shorten(', '.join(without), 80)})"
    figure.suptitle(plain(title[0].upper() + title[1:]), fontsize=11)
    return figure


def _curve_labels(runs: list, places: list[str], field: str) -> list[str]:
    """Label each curve: a field of its experiment, or the run's name.

    The field is enough where curves of a panel that share it differ in nothing but the seed.
    """
    labels = [str(getattr(run.experiment, field)) for run in runs]
    seedless = [str({**dataclasses.asdict(run.experiment), "seed": None}) for run in runs]
    if len(set(zip(places, labels, strict=True))) == len(set(seedless)):
        return labels
    return [run.name for run in runs]


def plot_norms(run: Any) -> Figure:
    """Plot norms over steps, of all parameters and of each encoder's side.

    Update / weight is how far a step moves the parameters, as a share of their length: an effective learning rate. Raises
    ClipeduError: a run without norms.
    """
    norms = _rows(run, "norms", "train with the norm monitor on").copy()
    norms["relative"] = norms["update"] / norms["weight"].where(norms["weight"] > 0)
    columns = {
        "weight": ("Weight norm: steady, or does decay shrink it?", "norm of the weights"),
        "gradient": ("Gradient norm: no explosion, no collapse to 0", "norm of the gradient"),
        "update": ("Update norm: follows the learning rate", "norm of one step's change"),
        "relative": ("Update / weight: the effective learning rate", "share of the weight norm"),
    }
    figure = new_figure(9, 5.4)
    axes = figure.subplots(2, 2, sharex=True).ravel()
    look = {"all": (BOTH, "-"), "image": (IMAGE, "--"), "text": (TEXT, "-.")}
    for place, (column, (title, label)) in enumerate(columns.items()):
        for part, rows in norms.groupby("part", sort=False):
            colour, dashes = look.get(part, (COLOURS[3], ":"))
            draw_curve(axes[place], rows["step"], rows[column], colour, dashes, str(part))
        log_where_it_helps(axes[place], norms[column])
        dress(axes[place], title, "step (optimizer updates)" if place > 1 else "", label)
    handles, labels = axes[0].get_legend_handles_labels()
    words = {"all": "all parameters", "image": "image side", "text": "text side"}
    figure.legend(
        handles, [words.get(part, part) for part in labels], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


WATCHED = (
    (("image_norm", "text_norm"), "Length of the embeddings: does one side grow?", "median norm in a batch"),
    (("temperature",), "Learned temperature: lower = a steeper softmax", "temperature"),
    (("curvature",), "Learned curvature: 0 would be flat space", "curvature c"),
    (("alpha_image", "alpha_text"), "Learned scale of the embeddings", "alpha"),
    (("foil_accuracy",), "Captions closer to their image than their foil: 1/2 is chance", "share of a batch"),
    (("entailment_angle",), "How far images are outside their captions' cones", "radians, mean over a batch"),
    (("entailed", "saturated"), "Images inside; cones as wide as half the space", "share of a batch"),
)


def plot_watched(run: Any) -> Figure:
    """Plot what a run recorded beside its loss and its norms.

    These are norms of the embeddings, temperature, curvature and entailment. Raises ClipeduError: a run that recorded none.
    """
    history = _rows(run, "history", "training stopped before its first step")
    shown = [
        (present, title, label)
        for names, title, label in WATCHED
        if (present := [name for name in names if name in history and history[name].notna().any()])
    ]
    if not shown:
        raise ClipeduError(f"run {run.name!r} watched nothing beside its loss and its norms")
    figure = new_figure(9, 2.7 * -(-len(shown) // 2))
    axes = panels(figure, len(shown), 2)
    colours = {"image_norm": IMAGE, "alpha_image": IMAGE, "text_norm": TEXT, "alpha_text": TEXT}
    for ax, (names, title, label) in zip(axes, shown, strict=True):
        for number, name in enumerate(names):
            colour, dashes = colours.get(name, COLOURS[2 + number]), line_style(number)[1]
            draw_curve(ax, history["step"], history[name], colour, dashes, name.replace("_", " "))
        if len(names) > 1:
            ax.legend(fontsize=9)
        dress(ax, title, "step (optimizer updates)", label)
    return figure


def plot_grid(table: pandas.DataFrame, title: str = "Average of TR@1, IR@1 and top-1: brighter is better") -> Figure:
    """Draw a heat map of the average, losses down, optimizers across.

    Several runs of a cell are averaged, with Student's 95 % interval of the mean; the best is framed.

    Args:
        table: one row a run with the columns loss, optimizer and average (percent; nan where there is none), as made by
            `clipedu.report.score_table.score_table` and `clipedu.config.course.course_table`.
        title: of the figure.
    Raises:
        ClipeduError: a table without rows.
    """
    from matplotlib.patches import Rectangle

    if not len(table):
        raise ClipeduError("the table has no rows: give at least one run")
    cells = table.pivot_table(index="loss", columns="optimizer", values="average", aggfunc="mean", dropna=False)
    spread = {cell: interval(runs["average"].dropna())[1] for cell, runs in table.groupby(["loss", "optimizer"])}
    cells = cells.reindex(index=in_course_order(table["loss"]), columns=in_course_order(table["optimizer"]))
    values = cells.to_numpy(dtype=float)
    figure = new_figure(2.6 + 1.0 * values.shape[1], 1.6 + 0.55 * values.shape[0])
    ax = figure.subplots()
    colours = ax.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto", vmin=0)
    ax.set_facecolor("#eeeeee")
    for (row, column), value in np.ndenumerate(values):
        dark = np.isfinite(value) and value < 0.55 * np.nanmax(values)
        word = f"{value:.2f}" if np.isfinite(value) else "–"
        half = spread.get((cells.index[row], cells.columns[column]), np.nan)
        word += f"\n± {half:.2f}" if np.isfinite(half) else ""
        ax.text(column, row, word, ha="center", va="center", color="white" if dark else "black")
    if np.isfinite(values).any():
        row, column = np.unravel_index(np.nanargmax(values), values.shape)
        ax.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor="#D55E00", linewidth=2.5))
        figure.colorbar(colours, ax=ax, label="average (%)")
    ax.set_xticks(range(values.shape[1]), [plain(display_name(name)) for name in cells.columns])
    ax.set_yticks(range(values.shape[0]), [plain(display_name(name)) for name in cells.index])
    ax.set_xlabel("optimizer")
    ax.set_ylabel("loss")
    ax.set_title(plain(title), fontsize=10)
    return figure


def _as_list(runs: Any) -> list:
    """Return one run or several as a list."""
    runs = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    if not runs:
        raise ClipeduError("there are no runs to plot: give at least one")
    return runs


def _rows(run: Any, name: str, hint: str) -> pandas.DataFrame:
    frame = getattr(run, name)
    if frame is None or not len(frame):
        raise ClipeduError(f"run {run.name!r} has no {name}: {hint}")
    return frame


def _unit(column: str) -> str:
    """Return the axis label of a column of the history."""
    names = {"loss": "loss", "lr": "learning rate", "pairs_per_second": "pairs per second", "seconds": "seconds"}
    return names.get(
        column, column.removeprefix("loss/") + (" (term of the loss)" if column.startswith("loss/") else "")
    )
