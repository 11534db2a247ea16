"""What tests do with small runs: stop them, and compare them bit for bit."""

import csv
import signal
from pathlib import Path

import torch

from clipedu import load_run
from clipedu.training.trainer import Trainer

QUIET = {"progress": False, "report": False}


def stop_at(patch, step: int) -> None:
    original = Trainer._train_on

    def interrupt(self, *arguments):
        if self.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    patch.setattr(Trainer, "_train_on", interrupt)


TIMES = {"seconds", "pairs_per_second"}


def rows_without_times(path: Path) -> list[list[str]]:
    """The cells of a table as they are written, all but times; [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    return [[cell for name, cell in zip(head, row, strict=True) if name not in TIMES] for row in (head, *rows)]


def assert_same_tables(folder: Path, whole: Path, names=("history", "norms", "layers", "validation")) -> None:
    for name in names:
        assert rows_without_times(folder / f"{name}.csv") == rows_without_times(whole / f"{name}.csv"), name


def assert_same(run, whole, tables=("history", "norms", "layers", "validation")) -> None:
    """Bit for bit: the weights and so the scores, and every measurement but times."""
    again = load_run(run.folder)
    for ours, theirs in ((again.weights(), whole.weights()), (again.averaged() or {}, whole.averaged() or {})):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert run.status == "finished" and run.metrics == whole.metrics
    assert_same_tables(run.folder, whole.folder, tables)
