"""Further scores of a run: its temperature, and tables in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.plots.reliability import plot_reliability
from clipedu.plots.style import save_figure
from clipedu.runs.checkpoint import STATE
from clipedu.runs.lock import locked
from clipedu.runs.run import Run
from clipedu.training.objective import scale_range, start_temperature
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.tensor_files import read_torch

if TYPE_CHECKING:
    import pandas

    from clipedu.evaluation.calibration import Calibration


def temperature_of(run: Run, which: str = "last") -> float:
    """Return the temperature of a run's model.

    Similarities are divided by it. Where the loss learned it, that is its value at the checkpoint; of temperatures of each row (isogclr) their mean. A loss without one
    (vicreg) has the initial temperature of its geometry.

    Args:
        run: with a checkpoint.
        which: "last" or "best".
    Raises:
        ClipeduError: the run has no such checkpoint, or its training state cannot be read.
    """
    path = run.checkpoint(which) / STATE
    state = read_torch(path, "cpu")
    found: Any = state.get("loss") if isinstance(state, dict) else None
    learned = {name.rpartition(".")[2]: value for name, value in found.items()} if isinstance(found, dict) else {}
    try:
        if "logit_scale" in learned:
            low, high = scale_range(run.experiment)
            return math.exp(-min(max(float(learned["logit_scale"]), low), high))
        if "tau" in learned:
            return float(learned["tau"].mean())
    except (TypeError, ValueError, AttributeError, RuntimeError):
        raise ClipeduError(f"{path} cannot be used: the temperature of its loss is no number") from None
    return start_temperature(run.experiment)


def keep_table(folder: Path, name: str, table: pandas.DataFrame) -> Path:
    """Write a table into a run's folder, as NAME.csv.

    Raises:
        ClipeduError: it cannot be written, or another process has the run in use.
    """
    path = folder / f"{name}.csv"
    with locked(folder):
        write_text(path, table.to_csv(index=False))
    return path


def keep_reliability(folder: Path, found: Calibration) -> Path:
    """Draw the reliability diagram into a run's folder.

    Raises:
        ClipeduError: it cannot be written, or another process has the run in use.
    """
    path = folder / "plots" / "reliability.png"
    with locked(folder):
        path.parent.mkdir(exist_ok=True)
        save_figure(plot_reliability(found), path)
    return path
