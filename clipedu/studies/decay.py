"""The course's table explained: the study of `clipedu compare decay`.

In the course's grid some losses fail under Adam and under SGD that do well under AdamW. Two numbers show why:

    pressure   ||lambda w|| / ||g|| of a layer: decay against the loss. Under Adam both pass through the division
               by sqrt(v). Where the pressure is above 1 the step is about -lr sign(w), however small lambda: the layer is
               erased, at a speed of lr a step for every number, until the weights are so small that the pressure is 1.
               AdamW shrinks by lr lambda a step instead, whatever the gradient
    what is left   ||w|| at the end over ||w|| at the start, layer by layer (||W|| of all together is that of a few large ones)

A loss with a small gradient has a high pressure. SogCLR's gradient is about 2 tau times CLIP's, OnlineCLR's is as small: the
variants "-scaled" multiply them up to CLIP's size. SGD steps by lr times the gradient, so there a small loss means small steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.config.course import display_name
from clipedu.evaluation.metrics import SCORES
from clipedu.plots.style import COLOURS, dress, log_in_words, new_figure, plain, save_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import frame_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from clipedu.runs.run import Run


def pressure(run: Run) -> pandas.DataFrame:
    """Return ||lambda w|| / ||g|| of every layer with two or more axes.

    A row is a recorded step, a column a layer. It is 0 in a run without decay, and inf where a layer has no gradient.
    """
    rows = _weights(run)
    ratio = run.experiment.weight_decay * rows["weight"] / rows["gradient"]
    return rows.assign(pressure=ratio).pivot(index="step", columns="layer", values="pressure")


def what_is_left(run: Run) -> pandas.DataFrame:
    """Return ||w|| over its value after the first recorded step.

    Layers, rows and columns are as in `pressure`.
    """
    norms = _weights(run).pivot(index="step", columns="layer", values="weight")
    return norms / norms.iloc[0]


def decay_table(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return a table with one row a run.

    Columns: scores, what is left of the weights, and the pressure early and late. "left of ||W||" is of all weights
    together, most of which a few large layers have; "left, image" and "left, text" are the median layers of the towers.
    Early and late: medians over the first and last tenth of the recorded steps. "layers above 1": share of layers whose
    pressure was above 1 in the last tenth.
    """
    import pandas

    made = []
    for run in runs:
        if not len(run.layers):
            made.append({"variant": variant(run), "average": math.nan})
            continue
        rows, pressures = _weights(run), pressure(run)
        tenth = max(1, len(pressures) // 10)
        late = pressures.tail(tenth).median()
        left = what_is_left(run).iloc[-1].groupby(rows.groupby("layer")["part"].first()).median()
        squares = (rows["weight"] ** 2).groupby(rows["step"]).sum()
        made.append(
            {
                "variant": variant(run),
                **{SCORES[key]: run.metrics.get(key, math.nan) for key in ("tr@1", "ir@1", "average")},
                "left of ||W||": (squares.iloc[-1] / squares.iloc[0]) ** 0.5,
                **{f"left, {part}": value for part, value in left.items()},
                "pressure early": pressures.head(tenth).median().median(),
                "pressure late": late.median(),
                "layers above 1": (late > 1).mean(),
            }
        )
    return pandas.DataFrame(made)


def plot_decay(runs: Sequence[Run]) -> Figure:
    """Draw what is left of the weights, and the pressure of decay.

    Each optimizer has a column, each loss a colour.
    """
    runs = [run for run in runs if len(run.layers)]
    if not runs:
        raise ClipeduError("no run has norms of its layers: nothing to draw")
    optimizers = list(dict.fromkeys(run.experiment.optimizer for run in runs))
    losses = list(dict.fromkeys(run.experiment.loss for run in runs))
    figure = new_figure(3.6 * max(2, len(optimizers)), 6.4)
    axes = figure.subplots(2, len(optimizers), sharex=True, sharey="row", squeeze=False)
    handles: dict[str, Line2D] = {}
    for run in runs:
        column = optimizers.index(run.experiment.optimizer)
        label = variant(run).rpartition("+")[0] + ("-no-decay" if variant(run).endswith("-no-decay") else "")
        scaled, none = "-scaled" in label, "no-decay" in label
        look = {
            "color": COLOURS[losses.index(run.experiment.loss) % len(COLOURS)],
            "linestyle": "--" if scaled else ":" if none else "-",
            "linewidth": 1.8,
        }
        left = what_is_left(run).median(axis=1)
        (line,) = axes[0, column].plot(left.index, left, **look)
        if not none:
            middle = pressure(run).median(axis=1).rolling(5, center=True, min_periods=1).median()
            axes[1, column].plot(middle.index, middle, **look)
        handles.setdefault(label, line)
    for ax, name in zip(axes[0], optimizers, strict=True):
        label = "||w|| / ||w|| at the start" if ax is axes[0, 0] else ""
        dress(ax, f"{display_name(name)}: what is left, median layer", "", label)
        ax.axhline(1, color="#666666", linewidth=0.8)
        log_in_words(ax.yaxis)
    for ax in axes[1]:
        dress(ax, "How hard decay pulls, median layer", "step", "||λ w|| / ||g||" if ax is axes[1, 0] else "")
        ax.axhline(1, color="#666666", linewidth=0.8)
        log_in_words(ax.yaxis)
    figure.legend(
        list(handles.values()), [plain(name) for name in handles], loc="outside lower center", ncols=4, frameon=False
    )
    figure.suptitle(
        "Above the lower grey line decay pulls harder than the loss: under Adam that erases weights", fontsize=11
    )
    return figure


def coincide(runs: Sequence[Run]) -> str:
    """Return a sentence on whether Adam and AdamW coincide without decay.

    It is "" without the two runs that show it.
    """
    ends = {variant(run): run for run in runs if variant(run).endswith("-no-decay") and run.status == "finished"}
    pairs = [(run, ends.get(name.replace("+adam-", "+adamw-"))) for name, run in ends.items() if "+adam-" in name]
    sentences = []
    for adam, adamw in pairs:
        if adamw is not None:
            difference = float((adam.history["loss"] - adamw.history["loss"]).abs().max())
            sentences.append(
                f"Without decay Adam and AdamW coincide: their losses differ by at most {difference:.2g} in any step."
            )
    return " ".join(sentences[:1])


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write decay.png, decay.md and decay.csv; return table and paths."""
    folder = Path(folder)
    table = decay_table(runs)
    text = f"{frame_table(table, 2)}\n\n{coincide(runs)}".rstrip()
    write_text(folder / "decay.csv", table.to_csv(index=False))
    write_text(
        folder / "decay.md", f"# Decay and loss\n\n{__doc__}\n{text}\n\n![what is left and pressure](decay.png)\n"
    )
    save_figure(plot_decay(runs), folder / "decay.png")
    return f"{text}\n\nFigure: {folder}/decay.png. Table: {folder}/decay.md, {folder}/decay.csv"


def _weights(run: Run) -> pandas.DataFrame:
    """Return the rows of `run.layers` of tensors with two or more axes."""
    if not len(run.layers):
        raise ClipeduError(f"run {run.name!r} has no norms of its layers: it was stopped before its first step")
    return run.layers[run.layers["kind"] != "1-D"]


COMPARISON = Comparison(
    "the course's table explained: what weight decay does under SGD, Adam (coupled L2) and AdamW, loss by loss",
    {
        f"{loss}+{optimizer}": {"loss": loss, "optimizer": optimizer, "loss_options": {}}
        for loss in ("clip", "cyclip", "vicreg", "sogclr", "onlineclr")
        for optimizer in ("sgd", "adam", "adamw")
    }
    | {
        f"{loss}-scaled+{optimizer}": {"loss": loss, "optimizer": optimizer, "loss_options": {"scale": "clip"}}
        for loss in ("sogclr", "onlineclr")
        for optimizer in ("sgd", "adam")
    }
    | {
        f"sogclr+{optimizer}-no-decay": {
            "loss": "sogclr",
            "optimizer": optimizer,
            "loss_options": {},
            "weight_decay": 0.0,
        }
        for optimizer in ("adam", "adamw")
    },
    {"norms_every": 5},
    seeds=(0,),
    study=write_study,
)
