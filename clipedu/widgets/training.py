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
from typing import TYPE_CHECKING

import ipywidgets

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import SCORES
from clipedu.losses import LOSSES
from clipedu.optim import OPTIMIZERS
from clipedu.plots.style import to_png
from clipedu.training.objective import start_temperature
from clipedu.utils.errors import ClipeduError
from clipedu.widgets.controls import _slider
from clipedu.widgets.live_training import LabRun, choose, follow, live_figure, recipe, score_lines, takes_temperature

if TYPE_CHECKING:
    from clipedu.training.datasets import Data

LEARNING_RATES = [factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)] + [1.0]
TEMPERATURES = [0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0]


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
        """The experiment that the controls say. Raises ClipeduError for values that cannot work."""
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
        from clipedu.training.datasets import load_data

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
