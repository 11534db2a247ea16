"""Train a run of the training lab step by step, draw it, list its scores."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import SCORES
from clipedu.evaluation.scoring import average, evaluate
from clipedu.losses import LOSSES
from clipedu.plots.style import draw_curve, dress, line_style, log_where_it_helps, new_figure
from clipedu.training.datasets import Data
from clipedu.training.objective import start_temperature
from clipedu.training.setup import prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class LabRun:
    """One run of the training lab.

    Attributes:
        number: 1 for the lab's first run.
        experiment: what was chosen.
        status: "preparing", "training", "scoring", "finished", "stopped" or "failed".
        steps: how many the whole run takes; 0 until it is prepared.
        rows: one for each step so far: step, loss, gradient norm, and update norm over weight norm ("relative").
        metrics: scores in percent, once it has finished.
    """

    number: int
    experiment: Experiment
    status: str = "preparing"
    steps: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its label, e.g. "2: cyclip, adamw, lr 0.002, temperature 0.05"."""
        ex = self.experiment
        temperature = f", temperature {start_temperature(ex):g}" if takes_temperature(ex.loss) else ""
        return f"{self.number}: {ex.loss}, {ex.optimizer}, lr {ex.lr:g}{temperature}"


def choose(base: Experiment, *, loss: str, optimizer: str, lr: float, temperature: float) -> Experiment:
    """Copy an experiment with four settings changed.

    Args:
        base: all other settings. Its loss_options and optimizer_options are dropped where the loss or optimizer is another.
        loss: a name of `LOSSES`.
        optimizer: a name of `OPTIMIZERS`.
        lr: peak learning rate.
        temperature: at the start.
    Raises:
        ClipeduError: a value that cannot work.
    """
    changes: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "lr": lr, "temperature": temperature}
    if loss != base.loss:
        changes["loss_options"] = {}
    if optimizer != base.optimizer:
        changes["optimizer_options"] = {}
    return base.replace(**changes)


def recipe(experiment: Experiment) -> str:
    """Write the line of Python that makes a run of this experiment."""
    settings = ", ".join(f"{key}={value!r}" for key, value in experiment.changed("laptop").items())
    return f"run = clipedu.fit(clipedu.Experiment({settings}))"


def takes_temperature(loss: str) -> bool:
    """Return whether the loss's formula has a temperature (VICReg's has not)."""
    return "temperature" in LOSSES[loss].defaults


def follow(run: LabRun, data: Data, stop: threading.Event) -> Iterator[LabRun]:
    """Train and score one run, yielding it after each step and before scoring.

    Args:
        run: what to train; its status, rows and metrics are filled in.
        data: the pairs to train on and to score on, and the tokenizer.
        stop: once it is set, the run ends after its current step and is not scored.
    Raises:
        ClipeduError: the experiment cannot work, or training diverged (`NotFinite`).
    """
    trainer = prepare(run.experiment, data, progress=False)
    run.steps, run.status = trainer.steps, "training"
    for record in trainer.run():
        norms = record.norms["all"]
        run.rows.append({"step": record.step, "loss": record.loss, "gradient": norms["gradient"],
                         "relative": norms["update"] / norms["weight"]})  # fmt: skip
        yield run
        if stop.is_set():
            run.status = "stopped"
            return
    run.status = "scoring"
    yield run
    for pairs in data.scored:
        run.metrics |= evaluate(trainer.model, pairs)
    run.metrics["average"] = average(run.metrics)
    run.status = "finished"


def live_figure(runs: list[LabRun]) -> Figure:
    """Draw loss, gradient norm and update / weight of all runs over the steps."""
    import pandas as pd

    figure = new_figure(10.5, 3.6)
    panels = {
        "loss": "Loss (compare the same loss only)",
        "gradient": "Gradient norm",
        "relative": "Update / weight: the effective learning rate",
    }
    axes = dict(zip(panels, figure.subplots(1, 3), strict=True))
    frames = [(run, pd.DataFrame(run.rows)) for run in runs if run.rows]
    for column, title in panels.items():
        for run, rows in frames:
            draw_curve(axes[column], rows["step"], rows[column], *line_style(run.number - 1), run.name)
        if frames and column == "relative":
            log_where_it_helps(axes[column], pd.concat([rows[column] for _, rows in frames]))
        dress(axes[column], title, "step", "")
    handles, names = axes["loss"].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def score_lines(runs: list[LabRun]) -> str:
    """List settings, steps, scores in percent and status of the runs in HTML."""
    head = "".join(f'<th style="padding:1px 10px">{name}</th>' for name in ("run", "steps", *SCORES.values(), "status"))
    lines = []
    for run in runs:
        scores = [f"{run.metrics[key]:.1f}" if key in run.metrics else "–" for key in SCORES]
        cells = [html.escape(run.name), f"{len(run.rows)}/{run.steps}", *scores, run.status]
        lines.append("<tr>" + "".join(f'<td style="padding:1px 10px">{cell}</td>' for cell in cells) + "</tr>")
    return f'<table style="text-align:left"><tr>{head}</tr>{"".join(lines)}</table>' if runs else ""
