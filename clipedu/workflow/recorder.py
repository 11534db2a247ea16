"""`RunRecorder`: collects what a run measures and writes it to its folder."""

from __future__ import annotations

from typing import Any

from clipedu.runs.run import Run
from clipedu.training.trainer import Record, Trainer


class RunRecorder:
    """The records of a run, collected step by step.

    It writes them and the checkpoints into the run's folder. A resumed run begins with the rows of its earlier part, up
    to the step of the checkpoint.
    """

    def __init__(self, run: Run, trainer: Trainer):
        self.run, self.trainer = run, trainer
        before = [frame[frame["step"] < trainer.step] for frame in (run.history, run.norms, run.layers)]
        self._history: list[dict[str, Any]] = before[0].to_dict("records")
        self._norms: list[dict[str, Any]] = before[1].to_dict("records")
        self._layers_before = before[2]  # too many for dicts

    def append(self, record: Record) -> None:
        """Add the rows of one step."""
        self._history.append(
            {
                "step": record.step,
                "epoch": record.epoch,
                "lr": record.lr,
                "loss": record.loss,
                **{f"loss/{name}": value for name, value in record.terms.items()},
                **record.watch,
                "pairs_per_second": record.pairs_per_second,
                "seconds": record.seconds,
            }
        )
        self._norms += [{"step": record.step, "part": part, **norms} for part, norms in record.norms.items()]

    def write_rows(self) -> None:
        """Write history.csv, norms.csv and layers.csv.

        The monitor has rows of a step that failed, too; as there is no record of that step, they are left out.
        """
        import pandas as pd

        layers = self.trainer.monitor.frame()
        layers = layers[layers["step"] <= (self._history[-1]["step"] if self._history else -1)]
        if len(self._layers_before):
            layers = pd.concat([self._layers_before, layers], ignore_index=True)
        self.run.seconds = self.trainer.seconds
        self.run.save_frames(pd.DataFrame(self._history), pd.DataFrame(self._norms), layers)

    def save(self) -> None:
        """Write all rows and a checkpoint.

        Raises:
            NotFinite: a number that a checkpoint would keep is not finite; nothing is written.
        """
        self.trainer.check_finite()
        self.write_rows()
        self.run.save_checkpoint(self.trainer.step, self.trainer.model, self.trainer.state())
