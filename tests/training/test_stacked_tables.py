"""Tables of a run in a stack have the rows and columns of a single run's."""

import numpy as np
import pytest

from clipedu.training.stacked import StackedRecord
from clipedu.training.stacked_tables import StackedTables


def record(step: int) -> StackedRecord:
    each = np.array([1.0, 2.0]) * (step + 1)
    return StackedRecord(
        *(step, step // 2, each / 10, each, {"a": each / 2}, {"image_norm": each * 3}),
        *(np.arange(12.0).reshape(2, 3, 2) + step, 4.0 * (step + 1), 4.0),
    )


def test_rows_of_a_run():
    tables = StackedTables(2, 16, ["all", "image"])
    for step in range(3):
        tables.append(record(step))
    history = tables.history(1, 2)
    assert history.columns.tolist() == [
        "step",
        "epoch",
        "lr",
        "loss",
        "loss/a",
        "image_norm",
        "pairs_per_second",
        "seconds",
    ]
    assert history["loss"].tolist() == [2, 4] and history["lr"].tolist() == pytest.approx([0.2, 0.4])
    assert history["seconds"].tolist() == [2, 4]  # its share, a half
    assert history["pairs_per_second"].tolist() == [8, 8]
    norms = tables.norms(1, 3)
    assert norms.columns.tolist() == ["step", "part", "weight", "gradient", "update"]
    assert norms["part"].tolist() == ["all", "image"] * 3 and norms["step"].tolist() == [0, 0, 1, 1, 2, 2]
    assert norms["weight"].tolist() == [6, 7, 7, 8, 8, 9]


def test_no_rows():
    tables = StackedTables(2, 16, ["all", "image"])
    assert len(tables.history(0, 0)) == len(tables.norms(0, 0)) == 0
    tables.append(record(0))
    assert len(tables.history(0, 0)) == len(tables.norms(0, 0)) == 0
