"""What the training lab shows while a model trains."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import SCORES
from clipedu.losses import LOSSES
from clipedu.plots.style import draw_curve, dress, line_style, log_where_it_helps, new_figure
from clipedu.training.objective import start_temperature

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipedu.training.datasets import Data


@dataclass
class LabRun:
    """One training of a lab. `status`: "preparing", "training", "scoring", "finished", "stopped" or "failed"."""

    number: int
    experiment: Experiment
    status: str = "preparing"
    steps: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)  # step, loss, gradient, relative
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tells it from the other runs of a lab, e.g. "2: cyclip, adamw, lr 0.002, temperature 0.05"."""
        ex = self.experiment
        temperature = f", temperature {start_temperature(ex):g}" if takes_temperature(ex.loss) else ""
        return f"{self.number}: {ex.loss}, {ex.optimizer}, lr {ex.lr:g}{temperature}"


def choose(base: Experiment, *, loss: str, optimizer: str, lr: float, temperature: float) -> Experiment:
    """`base` with these four changed. Options of another loss or optimizer than base's are dropped, as they are not its own."""
    changes: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "lr": lr, "temperature": temperature}
    if loss != base.loss:
        changes["loss_options"] = {}
    if optimizer != base.optimizer:
        changes["optimizer_options"] = {}
    return base.replace(**changes)


def recipe(experiment: Experiment) -> str:
    """The line of Python that makes a run of this experiment, with a folder, scores and a report."""
    settings = ", ".join(f"{key}={value!r}" for key, value in experiment.changed("laptop").items())
    return f"run = clipedu.fit(clipedu.Experiment({settings}))"


def takes_temperature(loss: str) -> bool:
    """Whether the formula of this loss has a temperature (VICReg's has none)."""
    return "temperature" in LOSSES[loss].defaults


def follow(run: LabRun, data: Data, stop: threading.Event) -> Iterator[LabRun]:
    """Train and score one run, yielding it after each step and at each change of its status. Once `stop` is set it ends
    after the step it is in, unscored.

    Raises:
        ClipeduError: the experiment cannot work, or training diverged (`NotFinite`).
    """
    from clipedu.evaluation.scoring import average, evaluate
    from clipedu.training.setup import prepare

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
    """Loss, gradient norm and update / weight over the steps of all runs so far; the last one is drawn on top."""
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
    """The runs of a lab as an HTML table: what was chosen, how far it came, what it scored (percent)."""
    head = "".join(f'<th style="padding:1px 10px">{name}</th>' for name in ("run", "steps", *SCORES.values(), "status"))
    lines = []
    for run in runs:
        scores = [f"{run.metrics[key]:.1f}" if key in run.metrics else "–" for key in SCORES]
        cells = [html.escape(run.name), f"{len(run.rows)}/{run.steps}", *scores, run.status]
        lines.append("<tr>" + "".join(f'<td style="padding:1px 10px">{cell}</td>' for cell in cells) + "</tr>")
    return f'<table style="text-align:left"><tr>{head}</tr>{"".join(lines)}</table>' if runs else ""
