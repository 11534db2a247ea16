"""More epochs for a run: `clipedu train --resume RUN --epochs N`.

From the step at which the run goes on, every step has the learning rate that a run of N epochs has at that step: the same
formula (`clipedu.optim.learning_rate`) with the new number of steps, for its warm-up too. What changes over a run in other ways, such as the
radius of entailment cones, does the same. Weights, optimizer, and the order of batches go on as they are. So a run of a constant
learning rate without warm-up, continued from 2 epochs to 4, is the run of 4 epochs; a cosine that was at its end goes up again to where
that of 4 epochs is.

earlier.json keeps what was before: [{"epochs": 2, "step": 8, "metrics": {...}}, ...].
"""

from __future__ import annotations

from typing import Any

from clipedu.runs.run import Run
from clipedu.runs.schema import EARLIER as SPEC
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json, write_text

EARLIER = "earlier.json"


def earlier(run: Run) -> list[dict[str, Any]]:
    """Return what a run was before it was continued for more epochs, in order.

    Raises:
        ClipeduError: earlier.json is damaged.
    """
    remedy = "Remove it: the run then no longer says which epochs it had before"
    return read_json(run.folder / EARLIER, SPEC, remedy) or []


def was_extended(run: Run, before: int) -> bool:
    """Return whether a run that had `before` epochs was given others."""
    return any(row["epochs"] == before for row in earlier(run))


def extend(run: Run, epochs: int, step: int, steps_per_epoch: int) -> None:
    """Change how many epochs a run has, in its folder.

    The status is written first and experiment.json last: a run that is killed in between is as it was, to be scored again.

    Args:
        run: its experiment is changed.
        epochs: the new number.
        step: how many steps are done.
        steps_per_epoch: of this run.
    Raises:
        ClipeduError: more is done already than these epochs, or a file cannot be written.
    """
    before = run.experiment.epochs
    if epochs == before:
        return
    experiment = run.experiment.replace(epochs=epochs)
    if epochs * steps_per_epoch < step:
        raise ClipeduError(
            f"--epochs {epochs} is less than what is done: {run.folder} is at step {step}, "
            f"after {step / steps_per_epoch:.4g} epochs of {steps_per_epoch} steps. Give a larger number"
        )
    rows = [row for row in earlier(run) if row["step"] <= step]
    run.scored = None
    run.save_status("stopped", f"after step {step}, to go on from {before} epochs to {epochs}")
    write_json(run.folder / EARLIER, [*rows, {"epochs": before, "step": step, "metrics": run.metrics}])
    run.experiment = experiment
    write_text(run.folder / "experiment.json", experiment.to_json())
    (run.folder / "metrics.json").unlink(missing_ok=True)  # they are in earlier.json
    run.metrics = {}


def history_note(run: Run) -> str:
    """Return a line on the epochs that a run had before, or ""."""
    parts = [f"{_counted(row['epochs'])} until step {row['step']}" for row in earlier(run)]
    return f"{', '.join(parts)}, then {run.experiment.epochs}" if parts else ""


def _counted(epochs: int) -> str:
    return "1 epoch" if epochs == 1 else f"{epochs} epochs"
