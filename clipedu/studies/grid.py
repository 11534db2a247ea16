"""The course's grid: every loss with every optimizer.

One run a cell, all in one folder. A cell that is finished is not run again; one that was stopped resumes from its
checkpoint; one whose training diverged is listed as failed and left as it is. So Ctrl-C loses nothing, and the same
command resumes the grid.

All cells share the data, the seed and every setting of the experiment, except what a preset changes for an optimizer: SGD
needs another learning rate than Adam (`PRESETS[...].per_optimizer`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipedu.config.course import LOSSES, OPTIMIZERS
from clipedu.config.experiment import Experiment
from clipedu.runs.folders import load_run
from clipedu.runs.run import Run
from clipedu.runs.schema import read_baseline
from clipedu.studies.baseline import ridge_baseline
from clipedu.training.datasets import Data, load_data
from clipedu.training.objective import check_names
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_json
from clipedu.utils.finite import NotFinite
from clipedu.workflow.pipeline import fit, resume

COURSE_LOSSES, COURSE_OPTIMIZERS = tuple(LOSSES), tuple(OPTIMIZERS)


def cells(
    base: Experiment,
    losses: Sequence[str] = COURSE_LOSSES,
    optimizers: Sequence[str] = COURSE_OPTIMIZERS,
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Experiment]:
    """Return the experiments of a grid by their folder's name.

    The name is "<optimizer>-<loss>"; the order is optimizer by optimizer.

    Args:
        base: what all cells share.
        losses: names of `LOSSES`.
        optimizers: names of `OPTIMIZERS`.
        per_optimizer: changes for the cells of one optimizer, e.g. {"sgd": {"lr": 0.5}}.

    Raises:
        ClipeduError: an unknown loss or optimizer.
    """
    experiments = {}
    for optimizer in optimizers:
        for loss in losses:
            changes = (per_optimizer or {}).get(optimizer, {})
            experiments[f"{optimizer}-{loss}"] = base.replace(loss=loss, optimizer=optimizer, **changes)
            check_names(experiments[f"{optimizer}-{loss}"])
    return experiments


def shared_data(experiment: Experiment) -> Callable[[], Data]:
    """Return a function that opens an experiment's data when first called."""
    return functools.cache(functools.partial(load_data, experiment))


def run_grid(
    experiments: dict[str, Experiment],
    folder: str | Path,
    *,
    data: Callable[[], Data] | None = None,
    progress: bool = True,
) -> Iterator[Run]:
    """Run the cells that are not finished; yield every run, in order.

    Args:
        experiments: as `cells` returns them; they share their data.
        folder: of the grid; each cell has a folder in it.
        data: `shared_data` of any cell, where a caller needs it too; it is called only if a cell is missing.
        progress: show bars.

    Raises:
        ClipeduError: the folder holds a cell of the same name with other settings.
    """
    folder = Path(folder)
    done = {name: _earlier(folder / name, experiment) for name, experiment in experiments.items()}
    data = data or shared_data(next(iter(experiments.values())))
    for name, experiment in experiments.items():
        run = done[name]
        if run is None or run.status not in ("finished", "failed"):
            try:
                run = (
                    resume(folder / name, data=data(), progress=progress, report=False)
                    if run
                    else fit(experiment, folder / name, data=data(), progress=progress, report=False)
                )
            except NotFinite:
                run = load_run(folder / name)
        yield run


def grid_baseline(
    experiment: Experiment, folder: str | Path, data: Callable[[], Data] | None = None
) -> dict[str, Any] | None:
    """Return the scores of `ridge_baseline`, which a grid has to beat.

    Args:
        experiment: of any cell.
        folder: of the grid, where the scores are kept; they are computed once.
        data: `shared_data(experiment)`, where a caller has it already.

    Returns:
        None for an experiment whose image encoder is trained: there are no fixed features to regress from.

    Raises:
        ClipeduError: the scores that were kept are damaged.
    """
    if not experiment.image_frozen:
        return None
    path = Path(folder) / "baseline.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, ridge_baseline(experiment, (data or shared_data(experiment))()))
    return read_baseline(path.parent)


def _earlier(folder: Path, experiment: Experiment) -> Run | None:
    """Return the run that is in a cell's folder already, if any."""
    if not (folder / "experiment.json").is_file():
        return None
    run = load_run(folder)
    before, now = asdict(run.experiment), asdict(experiment)
    differing = [f"{key} was {before[key]!r} and is now {now[key]!r}" for key in now if before[key] != now[key]]
    if differing:
        raise ClipeduError(
            f"{folder} holds this cell with other settings: {'; '.join(differing)}. Give another --folder"
        )
    return run
