"""Do norms settle as theory says? The study of `clipedu compare norms`.

For every layer that is decayed, the whole curve of ||w|| is predicted from its start, from three sets of measurements:

    settings       lr, weight decay and its law, and how many numbers of the layer ever get a gradient: nothing of the training.
                   AdamW's contributions are then taken to be of size 1 for each number
    sizes          and how large the minibatches' contributions were, step by step
    sizes, drift   and what cosine they had with the weight (`clipedu.norms.drift`)

The measured curve is compared with each over the last third of the run, in root mean squares. A layer is called *normalised*
if its gradient is orthogonal to it, measured, as that of every layer is whose length a normalisation takes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.norm_ratios import plot_ratios
from clipedu.plots.style import COLOURS, dress, line_style, log_in_words, new_figure, plain, save_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.studies.norm_ratios import BAND, causes_text, gate_table, gate_text, layer_table, ratio_table
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import frame_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from clipedu.runs.run import Run

WAYS = ("settings", "sizes", "sizes, drift")
LAST, SMOOTH, ORTHOGONAL = 1 / 3, 50, 1e-3


def predictions(rows: pandas.DataFrame) -> dict[str, np.ndarray]:
    """Return ||w|| as measured and as predicted in three ways.

    They are of the recorded steps of one layer.

    Args:
        rows: of `run.layers`, of one layer that AdamW (any decay law) has trained, in order.

    Returns:
        "step", "measured" and each of `WAYS`: [rows]. Between recorded steps lr, shrink, sizes and drifts are taken to
        change along straight lines; sizes and drifts are running means of 50 rows.

    Raises:
        ClipeduError: no row, or none with a measured contribution.
    """
    if not len(rows) or not rows["contribution"].notna().any():
        raise ClipeduError("no contributions were measured in this layer: only AdamW's and SGD's can be")
    from clipedu.norms.drift import predicted_with_drift  # not before it is needed: it loads torch

    at = rows["step"].to_numpy()
    steps = np.arange(at[0] + 1, at[-1] + 1)

    def between(values: ArrayLike) -> np.ndarray:
        return np.interp(steps, at, np.asarray(values, dtype=float))

    def smooth(column: pandas.Series) -> pandas.Series:
        return column.rolling(SMOOTH, center=True, min_periods=1).mean()

    tuc = smooth(rows["contribution"] ** 2)
    drift = smooth(rows["drift"] * rows["contribution"]) / np.sqrt(tuc)
    lr, shrink = between(rows["lr"]), between(rows["shrink"])
    start, alpha = rows["weight"].iloc[0], _alpha(rows)
    known: dict[str, tuple[Any, Any]] = {
        "settings": (rows["active"].iloc[-1], 0.0),
        "sizes": (between(tuc), 0.0),
        "sizes, drift": (between(tuc), between(drift)),
    }
    curves = {
        way: predicted_with_drift(start, lr.tolist(), shrink.tolist(), *what, alpha=alpha)
        for way, what in known.items()
    }
    whole = {way: np.concatenate([[start], curve])[at - at[0]] for way, curve in curves.items()}
    return {"step": at, "measured": rows["weight"].to_numpy(), **whole}


def _alpha(rows: pandas.DataFrame) -> float:
    """Return the weight of the newest gradient from the effective lr.

    It solves effective_lr = lr sqrt((2 - alpha) / alpha).
    """
    moving = rows[rows["lr"] > 0]
    ratio = float((moving["effective_lr"] / moving["lr"]).iloc[0]) ** 2 if len(moving) else 1.0
    return 2 / (ratio + 1)


def steady_table(run: Run) -> pandas.DataFrame:
    """Return a table with one row a decayed layer.

    It has the norm over the last third, and measured / predicted for each of `WAYS`. Columns: layer, part, kind, size,
    normalised, start (||w|| after the first step), measured, then `WAYS`.
    """
    import pandas

    made = []
    for layer, rows in run.layers.groupby("layer", sort=False):
        if rows["shrink"].max() == 0:
            continue
        curves = predictions(rows)
        late = curves["step"] > curves["step"][-1] * (1 - LAST)
        size = {name: float(np.sqrt(np.mean(curves[name][late] ** 2))) for name in ("measured", *WAYS)}
        first = rows.iloc[0]
        made.append(
            {
                "layer": layer,
                **{name: first[name] for name in ("part", "kind", "size")},
                "normalised": bool(rows["radial"].abs().median() < ORTHOGONAL),
                "start": first["weight"],
                "measured": size["measured"],
                **{way: size["measured"] / size[way] for way in WAYS},
            }
        )
    return pandas.DataFrame(made)


def summary_table(tables: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """Return how well the layers are predicted.

    Args:
        tables: by the run's name, "<variant>-seed<seed>": as `steady_table` returns them.
    Returns:
        a row for each variant, group of layers and way, over all seeds: shares in percent, errors as fractions.
    """
    import pandas

    named = [table.assign(variant=name.rpartition("-seed")[0] or name) for name, table in tables.items()]
    made = []
    for variant_name, table in pandas.concat(named).groupby("variant", sort=False):
        groups = {"normalised": table[table["normalised"]], "other": table[~table["normalised"]]}
        for group, rows in groups.items():
            for way in WAYS if len(rows) else ():
                error = (rows[way] - 1).abs()
                made.append(
                    {
                        "variant": variant_name,
                        "layers": group,
                        "known": way,
                        "within 5 % (%)": 100 * (error <= 0.05).mean(),
                        "within 10 % (%)": 100 * (error <= 0.10).mean(),
                        "median error": error.median(),
                        "largest": error.max(),
                    }
                )
    return pandas.DataFrame(made)


def plot_study(runs: Sequence[Run]) -> Figure:
    """Draw measured norms and their predictions.

    The panels are weight and gradient norms of the normalised layers over the steps, and all layers' predictions at the
    end.
    """
    figure = new_figure(10, 8)
    axes = figure.subplots(2, 2)
    for number, run in enumerate(runs):
        _draw_run(axes, run, number)
    ends = [axes[1, 0], axes[1, 1]]
    everything = [steady_table(run) for run in runs]
    for ax, way in zip(ends, ("settings", "sizes, drift"), strict=True):
        _draw_ends(ax, everything, runs, way)
    low, high = ends[0].get_xlim()
    for ax in ends:
        ax.plot([low, high], [low, high], color="#666666", linewidth=1, zorder=0)
        ax.fill_between([low, high], [0.95 * low, 0.95 * high], [1.05 * low, 1.05 * high], color="#dddddd", zorder=0)
        ax.set(xlim=(low, high), ylim=(low, high))
    dress(axes[0, 0], "Weights: measured (lines), predicted from settings (dots)", "step", "||w|| / its balance")
    log_in_words(axes[0, 0].yaxis)
    axes[0, 0].axhline(1, color="#666666", linewidth=0.8)
    dress(axes[0, 1], "Gradients: do they grow as the weights shrink?", "step", "||g|| / ||g|| at 40 % of the run")
    dress(
        ends[0], "Every decayed layer, predicted from settings alone", "predicted ||w||, last third", "measured ||w||"
    )
    dress(ends[1], "The same, with measured contributions and drift", "predicted ||w||, last third", "measured ||w||")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(runs), frameon=False)
    figure.suptitle(
        "Above: layers that a normalisation follows, median and quartiles.\n"
        "Below: circles are these layers, crosses the others; grey: within 5 % of the prediction",
        fontsize=10,
    )
    return figure


def _draw_run(axes: np.ndarray, run: Run, number: int) -> None:
    """Draw medians over the normalised layers of one run.

    They are weight over balance, and gradient over that at 40 % of the run.
    """
    colour, dashes = line_style(number)
    weights, expected, gradients = [], [], []
    for _, rows in run.layers.groupby("layer", sort=False):
        if rows["shrink"].max() == 0 or rows["radial"].abs().median() >= ORTHOGONAL:
            continue
        curves = predictions(rows)
        peak = rows["lr"].idxmax()
        balance = np.sqrt(rows["lr"][peak] * rows["active"].iloc[-1] / (2 * rows["weight_decay"][peak]))
        weights.append(curves["measured"] / balance)
        expected.append(curves["settings"] / balance)
        gradient = rows["gradient"].rolling(SMOOTH, center=True, min_periods=1).median().to_numpy()
        gradients.append(gradient / gradient[int(0.4 * len(gradient))])
    if not weights:
        return
    step = curves["step"]
    for ax, values in ((axes[0, 0], weights), (axes[0, 1], gradients)):
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        ax.fill_between(step, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(step, middle, color=colour, linestyle=dashes, label=plain(variant(run)))
    sparse = slice(None, None, max(1, len(step) // 40))
    axes[0, 0].plot(step[sparse], np.median(expected, axis=0)[sparse], "o", color=colour, markersize=3)
    axes[0, 1].set_ylim(0, 2)


def _draw_ends(ax: Axes, tables: list[pandas.DataFrame], runs: Sequence[Run], way: str) -> None:
    for number, table in enumerate(tables):
        for normalised, mark in ((True, "o"), (False, "x")):
            rows = table[table["normalised"] == normalised]
            colour = COLOURS[number]
            look: dict[str, Any] = {"edgecolors": colour, "facecolors": "none"} if normalised else {"color": colour}
            ax.scatter(rows["measured"] / rows[way], rows["measured"], marker=mark, s=28, linewidths=1.2, **look)
    log_in_words(ax.xaxis)
    log_in_words(ax.yaxis)


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write norms.png, norms-layers.png, norms.md and norms.csv.

    The curves of norms.png are those of the first seed.

    Returns:
        tables and paths.
    """
    import pandas

    folder = Path(folder)
    runs = [run for run in runs if run.status == "finished"]
    if not runs:
        raise ClipeduError(f"no run in {folder} is finished: there are no norms to study")
    tables = {run.name: steady_table(run) for run in runs}
    summary = summary_table(tables)
    every = pandas.concat([table.assign(run=name) for name, table in tables.items()])
    write_text(folder / "norms.csv", every.to_csv(index=False))
    ratios = ratio_table(tables)
    text = "\n\n".join(
        [
            gate_text(gate_table(ratios)),
            f"Layers outside, in the mean over seeds:\n\n{causes_text(layer_table(ratios))}",
            f"What more has to be known:\n\n{frame_table(summary, 3)}",
        ]
    )
    parts = [
        f"# Norms: measured and predicted\n\n{__doc__}",
        text,
        "![curves](norms.png)\n\n![layers](norms-layers.png)",
    ]
    parts += [f"## {variant(run)}, seed {run.experiment.seed}\n\n{frame_table(tables[run.name], 3)}" for run in runs]
    write_text(folder / "norms.md", "\n\n".join(parts) + "\n")
    save_figure(
        plot_study([run for run in runs if run.experiment.seed == runs[0].experiment.seed]), folder / "norms.png"
    )
    save_figure(plot_ratios(ratios, BAND), folder / "norms-layers.png")
    return f"{text}\n\nFigures: norms.png, norms-layers.png. Every layer: norms.md, norms.csv. All in {folder}/"


# A balance takes time: 2 * (sum of lr * weight_decay) is 16, 8 and 6 for the three. A second moment that forgets within 50
# steps, because norms and gradients here change within hundreds.
COMPARISON = Comparison(
    "do weight norms settle where theory says: AdamW at a constant lr and under a cosine, AdamC under a cosine",
    {
        "adamw-constant": {"optimizer": "adamw", "schedule": "constant"},
        "adamw-cosine": {"optimizer": "adamw", "schedule": "cosine"},
        "adamc-cosine": {"optimizer": "adamc", "schedule": "cosine"},
    },
    {
        "batch_size": 32,
        "epochs": 8,
        "lr": 1e-3,
        "weight_decay": 2.0,
        "warmup": 0.05,
        "optimizer_options": {"betas": [0.9, 0.98]},
        "norms_every": 4,
    },
    study=write_study,
)
