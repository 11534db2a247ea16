"""`HeadRun`: a run of `fit_heads`, in memory, and perhaps in a folder."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.config.experiment import Experiment
from clipedu.models import DualEncoder
from clipedu.runs.folders import load_run
from clipedu.training.datasets import Data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.workflow.pipeline import fit

if TYPE_CHECKING:
    import pandas


@dataclass
class HeadRun:
    """One of the runs of `fit_heads`.

    Attributes:
        name: of the run, and of its folder.
        experiment: its settings.
        status: "finished", or "failed" where it diverged.
        note: why it failed.
        metrics: scores, as those of `clipedu.Run`; empty where it failed.
        history, norms, layers: tables of its steps, as those of `clipedu.Run`.
        seconds: its share of the training.
        model: trained, in evaluation mode; frozen encoders are shared with other runs. None of a failed run that was alone.
        why_alone: why it could not be in a stack and was run by itself; "" for all others.
        folder: where it is written, if it is.
    """

    name: str
    experiment: Experiment
    status: str
    note: str
    metrics: dict[str, float]
    history: pandas.DataFrame
    norms: pandas.DataFrame
    layers: pandas.DataFrame
    seconds: float
    model: DualEncoder | None
    why_alone: str = ""
    folder: Path | None = None


def run_alone(
    name: str, experiment: Experiment, folder: Path | None, data: Data, why: str, *, progress: bool = True
) -> HeadRun:
    """Run an experiment by `fit`.

    Args:
        name: of the run.
        experiment: its settings.
        folder: of the run; None keeps nothing of it.
        data: `load_data(experiment)`.
        why: it cannot be in a stack.
        progress: show a progress bar.
    Raises:
        ClipeduError, OutOfMemory, KeyboardInterrupt: as `fit`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        where = folder or Path(scratch) / name
        model = None
        try:
            run = fit(experiment, where, data=data, progress=progress, report=False)
            model = run.model()
        except NotFinite:
            run = load_run(where)
        frames = (run.history, run.norms, run.layers)
        return HeadRun(name, experiment, run.status, run.note, run.metrics, *frames, run.seconds, model, why, folder)


def numbered(count: int) -> list[str]:
    """Return names for so many runs: "0", "1", ..., all of one length."""
    return [f"{number:0{len(str(count - 1))}d}" for number in range(count)]


def check_run_names(names: list[str]) -> None:
    """Check that names of runs can be names of folders.

    They must differ where case does not count, too.

    Raises:
        ClipeduError: one cannot.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in '/\\\0:*?"<>|'):
            raise ClipeduError(f"a run cannot be called {name!r}: its name is that of a folder")
        if seen.setdefault(name.lower(), name) != name:
            raise ClipeduError(
                f"two runs are called {seen[name.lower()]!r} and {name!r}, which some disks cannot tell apart"
            )
