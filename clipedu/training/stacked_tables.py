"""Tables of the runs of a stack: those of history.csv and norms.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipedu.norms import QUANTITIES
from clipedu.training.stacked import StackedRecord

if TYPE_CHECKING:
    import pandas


class StackedTables:
    """The records of a stack, collected step by step.

    Args:
        runs: how many there are, R.
        batch_size: pairs in a step of one run.
        parts: of the model, as the records have their norms.
    """

    def __init__(self, runs: int, batch_size: int, parts: list[str]):
        self._runs, self._batch, self._parts = runs, batch_size, parts
        self._records: list[StackedRecord] = []

    def append(self, record: StackedRecord) -> None:
        """Add a step."""
        self._records.append(record)

    def history(self, run: int, before: int) -> pandas.DataFrame:
        """Return the rows of history.csv of one run.

        Seconds are its share of the stack's, an R-th.

        Args:
            run: its number in the stack.
            before: rows from this step on are left out.
        """
        import pandas as pd

        records = self._records[:before]
        terms, watch = (list(getattr(records[0], name)) if records else [] for name in ("terms", "watch"))
        return pd.DataFrame(
            {
                "step": [record.step for record in records],
                "epoch": [record.epoch for record in records],
                "lr": [float(record.lr[run]) for record in records],
                "loss": [float(record.loss[run]) for record in records],
                **{f"loss/{name}": [float(record.terms[name][run]) for record in records] for name in terms},
                **{name: [float(record.watch[name][run]) for record in records] for name in watch},
                "pairs_per_second": [self._batch * self._runs / record.elapsed for record in records],
                "seconds": [record.seconds / self._runs for record in records],
            }
        )

    def norms(self, run: int, before: int) -> pandas.DataFrame:
        """Return the rows of norms.csv of one run.

        Args:
            run, before: as those of `history`.
        """
        import pandas as pd

        records, parts = self._records[:before], self._parts
        values = np.array([record.norms[run] for record in records]).reshape(len(records), len(QUANTITIES), len(parts))
        columns = {name: values[:, k].reshape(-1) for k, name in enumerate(QUANTITIES)}
        steps = np.repeat([record.step for record in records], len(parts))
        return pd.DataFrame({"step": steps, "part": parts * len(records), **columns})
