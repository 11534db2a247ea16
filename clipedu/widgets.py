"""Widgets for notebooks: a lab that trains while you watch, and a slider that tells whether widgets work at all.

    lab = TrainingLab(experiment)       # the last line of a cell shows it
    lab.runs                            # what it trained so far, to look into from other cells

A widget here is a thin skin: what it does is done by plain functions (`choose`, `follow`, `live_figure`, `recipe`) that a
script can call too. Training runs in a thread of its own, so that Stop works and the notebook stays usable; pictures are
PNG bytes in an `Image` widget. Nothing is written to disk: `recipe` gives the line that makes a proper run of it.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ipywidgets

from clipedu.drawing import draw_curve, dress, line_style, log_where_it_helps, new_figure, to_png
from clipedu.experiment import Experiment
from clipedu.losses import LOSSES
from clipedu.objective import start_temperature
from clipedu.optim import OPTIMIZERS
from clipedu.registry import ClipeduError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipedu.workflow import Data

LEARNING_RATES = [factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)] + [1.0]
TEMPERATURES = [0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0]
SCORES = {"tr@1": "TR@1", "ir@1": "IR@1", "top1": "top-1", "average": "average"}


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
        ClipeduError: the experiment can't work, or training diverged (`NotFinite`).
    """
    from clipedu.evaluation import average, evaluate
    from clipedu.training import prepare

    trainer = prepare(run.experiment, pairs=data.train, tokenizer=data.tokenizer, progress=False)
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


class TrainingLab(ipywidgets.VBox):
    """Choose loss, optimizer, learning rate and temperature; train; compare with the earlier runs of this session.

    Args:
        base: all other settings, the data included; None is the preset "tiny".

    Attributes:
        runs: what was trained so far, `LabRun`s.
        error: the exception that ended the last run, or None; `raise lab.error` shows where it came from.
    """

    def __init__(self, base: Experiment | None = None):
        self.base = base or Experiment.preset("tiny")
        self.runs: list[LabRun] = []
        self.error: Exception | None = None
        self._data: Data | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        look = {"style": {"description_width": "90px"}, "layout": ipywidgets.Layout(width="380px")}
        self.loss = ipywidgets.Dropdown(options=list(LOSSES), value=self.base.loss, description="loss", **look)
        self.optimizer = ipywidgets.Dropdown(
            options=list(OPTIMIZERS), value=self.base.optimizer, description="optimizer", **look
        )
        self.lr = _slider("learning rate", LEARNING_RATES, self.base.lr, look)
        self.temperature = _slider("temperature", TEMPERATURES, start_temperature(self.base), look)
        self.about = ipywidgets.HTMLMath(layout=ipywidgets.Layout(max_width="1050px", overflow="auto hidden"))
        self.train_button = ipywidgets.Button(description="Train", button_style="primary", icon="play")
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", disabled=True)
        self.progress = ipywidgets.IntProgress(min=0, max=1, layout=ipywidgets.Layout(width="300px"))
        self.status = ipywidgets.HTML("Choose, then press Train.")
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="1050px", width="100%"))
        self.scores = ipywidgets.HTML()
        self.line = ipywidgets.HTML()
        self.train_button.on_click(lambda _: self.train())
        self.stop_button.on_click(lambda _: self.stop())
        for control in (self.loss, self.optimizer, self.lr, self.temperature):
            control.observe(lambda _: self._describe(), "value")
        self._describe()
        self._draw()
        columns = ([self.loss, self.optimizer], [self.lr, self.temperature])
        controls = ipywidgets.HBox([ipywidgets.VBox(column) for column in columns])
        buttons = ipywidgets.HBox([self.train_button, self.stop_button, self.progress])
        super().__init__([controls, self.about, buttons, self.status, self.picture, self.scores, self.line])

    @property
    def experiment(self) -> Experiment:
        """The experiment that the controls say. Raises ClipeduError for values that can't work."""
        return choose(
            self.base,
            loss=self.loss.value,
            optimizer=self.optimizer.value,
            lr=self.lr.value,
            temperature=self.temperature.value,
        )

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def train(self) -> None:
        """Start a run of what the controls say, unless one is running; returns at once. The Train button calls this."""
        if self.running:
            return
        self._stop.clear()
        self.error = None
        self.train_button.disabled, self.stop_button.disabled = True, False
        self._thread = threading.Thread(target=self._work, args=(self.experiment,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run after the step it is in. The Stop button calls this."""
        self._stop.set()
        self._say("Stopping after this step ...")

    def wait(self, timeout: float | None = None) -> None:
        """Return when the run has ended. Raises TimeoutError if it has not after `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"the run has not ended within {timeout:g} s")

    def _work(self, experiment: Experiment) -> None:
        from clipedu.workflow import load_data

        run = LabRun(len(self.runs) + 1, experiment)
        self.runs.append(run)
        try:
            self._say("Loading the pairs and building the model ...")
            self._data = self._data or load_data(self.base)
            drawn, cost = 0.0, 0.0
            for _ in follow(run, self._data, self._stop):
                self.progress.max, self.progress.value = run.steps, len(run.rows)
                if time.perf_counter() - drawn > max(1.0, 4 * cost) or run.status == "scoring":
                    began = time.perf_counter()
                    self._draw()
                    self._say(
                        "Scoring ..." if run.status == "scoring" else f"Training: loss {run.rows[-1]['loss']:.3f}"
                    )
                    drawn = time.perf_counter()
                    cost = drawn - began
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost; the status line shows it instead
            self.error, run.status = error, "failed"
        self._draw()
        self._say(self._outcome(run))
        self.train_button.disabled, self.stop_button.disabled = False, True

    def _outcome(self, run: LabRun) -> str:
        if self.error is not None:
            first = (str(self.error).strip() or "no message").splitlines()[0]
            kind = "" if isinstance(self.error, ClipeduError) else f"{type(self.error).__name__}: "
            return f"Run {run.number} failed: {kind}{first}"
        if run.status == "stopped":
            return f"Run {run.number} stopped after step {len(run.rows)} of {run.steps}; it is not scored."
        scores = ", ".join(f"{name} {run.metrics[key]:.1f} %" for key, name in SCORES.items() if key in run.metrics)
        return f"Run {run.number} finished: {scores}"

    def _say(self, text: str) -> None:
        self.status.value = f"<b>{html.escape(text)}</b>"

    def _draw(self) -> None:
        self.picture.value = to_png(live_figure(self.runs))
        self.scores.value = score_lines(self.runs)

    def _describe(self) -> None:
        loss, optimizer = LOSSES[self.loss.value], OPTIMIZERS[self.optimizer.value]
        self.temperature.disabled = not takes_temperature(loss.name)
        self.about.value = (
            f"<b>{loss.name}</b>: {html.escape(loss.description)}<br>$${html.escape(loss.formula)}$$"
            f"<b>{optimizer.name}</b>: {html.escape(optimizer.description)}"
        )
        self.line.value = (
            f"The same as a run with a folder and a report: <code>{html.escape(recipe(self.experiment))}</code>"
        )


def _slider(name: str, values: list[float], chosen: float, look: dict[str, Any]) -> ipywidgets.SelectionSlider:
    """A slider over these values and the chosen one, which it keeps to the last digit."""
    options = [(f"{value:g}", value) for value in sorted({float(f"{value:.3g}") for value in values} | {chosen})]
    return ipywidgets.SelectionSlider(options=options, value=chosen, description=name, continuous_update=False, **look)


def slider_check() -> ipywidgets.VBox:
    """A slider and what Python heard of it: if the number follows the slider, widgets work in both directions."""
    slider = ipywidgets.IntSlider(value=3, min=0, max=10, description="move me")
    heard = ipywidgets.Label(f"Python heard: {slider.value}")
    slider.observe(lambda change: setattr(heard, "value", f"Python heard: {change['new']}"), "value")
    return ipywidgets.VBox([slider, heard])
