"""The training lab: choose an experiment, train it, watch its loss.

    lab = TrainingLab(experiment)       # the last line of a cell shows it
    lab.runs                            # what it trained so far, for other cells to inspect

Training runs in a thread, so that Stop works and the notebook stays usable. Nothing is written to disk: `lab.script` is the
line that makes a run with a folder. What the lab does is in functions (`clipedu.widgets.live_training`).
"""

from __future__ import annotations

import html
import threading
import time

import ipywidgets

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import SCORES
from clipedu.losses import LOSSES
from clipedu.optim import OPTIMIZERS
from clipedu.plots.style import to_png
from clipedu.training.datasets import Data, load_data
from clipedu.training.objective import start_temperature
from clipedu.utils.errors import ClipeduError
from clipedu.widgets.controls import Lab, control_style, slider
from clipedu.widgets.live_training import LabRun, choose, follow, live_figure, recipe, score_lines, takes_temperature

LEARNING_RATES = [factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)] + [1.0]
TEMPERATURES = [0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1.0]


class TrainingLab(Lab):
    """Choose loss, optimizer, lr and temperature; train; compare the runs.

    Args:
        base: all other settings, the data included; None is the preset "tiny".

    Attributes:
        runs: what was trained so far, `LabRun`s.
        error: the exception that ended the last run, or None; `raise lab.error` shows its traceback.
    """

    script_label = "The same as a run with a folder and a report:"

    def __init__(self, base: Experiment | None = None):
        super().__init__("1050px")
        self.base = base or Experiment.preset("tiny")
        self.runs: list[LabRun] = []
        self.error: Exception | None = None
        self._data: Data | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        style = control_style("380px")
        self.loss = ipywidgets.Dropdown(options=list(LOSSES), value=self.base.loss, description="loss", **style)
        self.optimizer = ipywidgets.Dropdown(
            options=list(OPTIMIZERS), value=self.base.optimizer, description="optimizer", **style
        )
        self.lr = slider("learning rate", LEARNING_RATES, self.base.lr, style)
        self.temperature = slider("temperature", TEMPERATURES, start_temperature(self.base), style)
        self.about = ipywidgets.HTMLMath(layout=ipywidgets.Layout(max_width="1050px", overflow="auto hidden"))
        self.train_button = ipywidgets.Button(description="Train", button_style="primary", icon="play")
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", disabled=True)
        self.progress = ipywidgets.IntProgress(min=0, max=1, layout=ipywidgets.Layout(width="300px"))
        self.status.value = "Choose, then press Train."
        self.scores = ipywidgets.HTML()
        self.train_button.on_click(lambda _: self.train())
        self.stop_button.on_click(lambda _: self.stop())
        columns = ([self.loss, self.optimizer], [self.lr, self.temperature])
        buttons = ipywidgets.HBox([self.train_button, self.stop_button, self.progress])
        self._arrange(columns, [self.about, buttons, self.status, self.picture, self.scores, self.line])
        self._draw_runs()

    @property
    def experiment(self) -> Experiment:
        """What the controls describe.

        Raises:
            ClipeduError: it cannot work.
        """
        return choose(
            self.base,
            loss=self.loss.value,
            optimizer=self.optimizer.value,
            lr=self.lr.value,
            temperature=self.temperature.value,
        )

    @property
    def running(self) -> bool:
        """Whether a run is being trained or scored."""
        return self._thread is not None and self._thread.is_alive()

    def train(self) -> None:
        """Start a run of `experiment` in a thread, unless one is running."""
        if self.running:
            return
        self._stop.clear()
        self.error = None
        self.train_button.disabled, self.stop_button.disabled = True, False
        self._thread = threading.Thread(target=self._work, args=(self.experiment,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run after its current step."""
        self._stop.set()
        self._say("Stopping after this step ...")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended.

        Raises:
            TimeoutError: it has not, after `timeout` s.
        """
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(f"the run has not ended within {timeout:g} s")

    def _work(self, experiment: Experiment) -> None:
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
                    self._draw_runs()
                    self._say(
                        "Scoring ..." if run.status == "scoring" else f"Training: loss {run.rows[-1]['loss']:.3f}"
                    )
                    drawn = time.perf_counter()
                    cost = drawn - began
        except Exception as error:  # noqa: BLE001  a thread's traceback would be lost; the status shows it
            self.error, run.status = error, "failed"
        self._draw_runs()
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

    def _draw_runs(self) -> None:
        self.picture.value = to_png(live_figure(self.runs))
        self.scores.value = score_lines(self.runs)

    def _draw(self) -> None:
        loss, optimizer = LOSSES[self.loss.value], OPTIMIZERS[self.optimizer.value]
        self.temperature.disabled = not takes_temperature(loss.name)
        self.about.value = (
            f"<b>{loss.name}</b>: {html.escape(loss.description)}<br>$${html.escape(loss.formula)}$$"
            f"<b>{optimizer.name}</b>: {html.escape(optimizer.description)}"
        )

    def _script(self) -> str:
        return recipe(self.experiment)
