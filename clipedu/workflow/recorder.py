"""`RunRecorder`: collects what a run measures and writes it to its folder."""

from __future__ import annotations

import time
from itertools import takewhile
from typing import Any

from clipedu.config.intervals import parse_interval
from clipedu.runs.run import Run
from clipedu.training.records import Record
from clipedu.training.trainer import Trainer
from clipedu.training.trainer_state import trainer_state

LARGEST_SHARE = 0.03  # of the time, for checkpoints that are written by the minute


class RunRecorder:
    """The records of a run, collected step by step.

    It appends them to the tables in the run's folder with each checkpoint. A resumed run keeps the rows of its earlier part,
    up to the step of the checkpoint from which it goes on; what came after that is done again, so its rows are dropped.
    """

    def __init__(self, run: Run, trainer: Trainer):
        self.run, self.trainer = run, trainer
        self._every = parse_interval(run.experiment.checkpoint_every, ("time",))
        self._records: list[Record] = []  # whose rows are not written
        self._recorded = trainer.step  # steps with a record
        self._saved_at, self._took = time.monotonic(), 0.0
        run.cut_rows(trainer.step)

    def append(self, record: Record) -> None:
        """Add one step; its numbers are not looked at yet."""
        self._records.append(record)

    @property
    def due(self) -> bool:
        """Whether a checkpoint is to be written after the step just done.

        It is after each epoch, and as `checkpoint_every` says. Those by the minute come less often where writing one takes more
        than a small share of the time.
        """
        steps, per_epoch = self.trainer.step, self.trainer.steps_per_epoch
        if steps % per_epoch == 0:
            return True
        if (every := self._every.steps(per_epoch)) is not None:
            return steps % every == 0
        return time.monotonic() - self._saved_at >= max(60 * self._every.number, self._took / LARGEST_SHARE)

    def write_rows(self) -> None:
        """Append the new rows to history.csv, norms.csv and layers.csv.

        Those of a step that failed are left out.
        """
        import pandas as pd

        records = list(takewhile(lambda record: record.is_finite, self._records))
        if records:
            self._recorded = records[-1].step + 1
        layers = self.trainer.monitor.take()
        norms = [
            {"step": record.step, "part": part, **norms} for record in records for part, norms in record.norms.items()
        ]
        self.run.seconds = self.trainer.seconds
        self.run.append_rows("history", pd.DataFrame(map(_history_row, records)))
        self.run.append_rows("norms", pd.DataFrame(norms))
        self.run.append_rows("layers", layers[layers["step"] < self._recorded])
        self._records = []

    def save(self) -> None:
        """Append the new rows and write a checkpoint.

        Raises:
            NotFinite: a number that a checkpoint would keep is not finite; nothing is written.
        """
        began = time.monotonic()
        self.trainer.check_finite()
        self.write_rows()
        averaged = None if self.trainer.average is None else self.trainer.average.tensors()
        self.run.save_checkpoint(self.trainer.step, self.trainer.model, trainer_state(self.trainer), averaged)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - began


def _history_row(record: Record) -> dict[str, Any]:
    return {
        "step": record.step,
        "epoch": record.epoch,
        "lr": record.lr,
        "loss": record.loss,
        **{f"loss/{name}": value for name, value in record.terms.items()},
        **record.watch,
        "pairs_per_second": record.pairs_per_second,
        "seconds": record.seconds,
    }
