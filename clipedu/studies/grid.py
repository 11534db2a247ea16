"""The course's grid: every loss with every optimizer.

One run a cell, all in one folder. A cell that is finished is not run again; one that was stopped resumes from its
checkpoint; one that is damaged is set aside and done again; one whose training diverged is listed as failed and left as it is.
So neither Ctrl-C nor a kill loses anything, and the same command resumes the grid. One process at a time has a grid.

All cells share the data, the seed and every setting of the experiment, except what a preset changes for an optimizer: SGD
needs another learning rate than Adam (`PRESETS[...].per_optimizer`).
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipedu.config.course import LOSSES, OPTIMIZERS
from clipedu.config.experiment import Experiment
from clipedu.runs.checkpoint import DamagedCheckpoint
from clipedu.runs.folders import load_run, make_folder
from clipedu.runs.lock import locked
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.schema import read_baseline
from clipedu.runs.trained_rows import check_same_sets
from clipedu.studies.baseline import ridge_baseline
from clipedu.training.datasets import Data, load_data
from clipedu.training.objective import check_names
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json, read_text, remove_partial_files, reported, write_json
from clipedu.utils.finite import NotFinite
from clipedu.utils.processes import check_one_process
from clipedu.workflow.pipeline import fit, resume

_ENDED = ("finished", "failed")  # of cells that are not run again
COURSE_LOSSES, COURSE_OPTIMIZERS = tuple(LOSSES), tuple(OPTIMIZERS)

log = logging.getLogger("clipedu")


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
        ClipeduError: the folder holds a cell of the same name with other settings, or one that was trained on other data, or
            is in use by another process.
    """
    folder = Path(folder)
    data = data or shared_data(next(iter(experiments.values())))
    check_one_process()
    make_folder(folder)
    with locked(folder):
        remove_partial_files(folder)
        _check_same_data([_earlier(folder / name, experiment) for name, experiment in experiments.items()], data)
        for name, experiment in experiments.items():
            run = _earlier(folder / name, experiment)
            if run is None or run.status not in _ENDED:
                try:
                    run = _do(experiment, folder / name, run, data, progress=progress)
                except NotFinite:
                    run = load_run(folder / name)
            yield run


def _check_same_data(earlier: list[Run | None], data: Callable[[], Data]) -> None:
    """Check that the cells that are there were trained on the data of those that are missing.

    Where none is missing, no data are needed.
    """
    there = [run for run in earlier if run is not None]
    if there and (len(there) < len(earlier) or any(run.status not in _ENDED for run in there)):
        now = {pairs.split: pairs.identity() for pairs in (data().train, *data().scored)}
        for run in there:
            check_same_sets(run.folder, now)


def _do(experiment: Experiment, folder: Path, run: Run | None, data: Callable[[], Data], *, progress: bool) -> Run:
    """Run a cell, or what is missing of it; one that is damaged is set aside and done again."""
    if run is not None:
        try:
            return resume(folder, data=data(), progress=progress, report=False)
        except DamagedCheckpoint as error:
            _set_aside(folder, error)
    elif (folder / "experiment.json").exists():
        _set_aside(folder, f"{folder / 'experiment.json'} or a file beside it cannot be read")
    return fit(experiment, folder, data=data(), progress=progress, report=False)


def grid_baseline(
    experiment: Experiment, folder: str | Path, data: Callable[[], Data] | None = None
) -> dict[str, Any] | None:
    """Return the scores of `ridge_baseline`, which a grid has to beat.

    Args:
        experiment: of any cell.
        folder: of the grid, where the scores are kept; they are computed once for the data of its cells.
        data: `shared_data(experiment)`, where a caller has it already.

    Returns:
        None for an experiment whose image encoder is trained: there are no fixed features to regress from.

    Raises:
        ClipeduError: the scores that were kept are damaged.
    """
    if not experiment.image_frozen:
        return None
    path = Path(folder) / "baseline.json"
    if not path.is_file() or not _is_of_cells(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, ridge_baseline(experiment, (data or shared_data(experiment))()))
    return read_baseline(path.parent)


def _is_of_cells(path: Path) -> bool:
    """Check that a baseline is of the data that the cells were trained on, as far as both say what they were."""
    kept = (read_baseline(path.parent) or {}).get("sets") or {}
    try:
        for cell in path.parent.glob("*/data.json"):
            check_same_sets(cell.parent, kept)
    except ClipeduError:
        return False
    return True


def _earlier(folder: Path, experiment: Experiment) -> Run | None:
    """Return the run that is in a cell's folder already, None if there is none or it cannot be read.

    Raises:
        ClipeduError: it has other settings, or settings that this version does not know.
    """
    try:
        settings = parse_json(read_text(folder / "experiment.json"))
    except (OSError, ValueError):
        return None
    if not isinstance(settings, dict):
        return None
    try:
        run = load_run(folder)
    except ClipeduError:
        Experiment.from_json(json.dumps(settings))  # raises, if it is the settings that cannot be used
        return None
    before, now = (asdict(with_absolute_paths(one)[0]) for one in (run.experiment, experiment))
    differing = [f"{key} was {before[key]!r} and is now {now[key]!r}" for key in now if before[key] != now[key]]
    if differing:
        raise ClipeduError(
            f"{folder} holds this cell with other settings: {'; '.join(differing)}. Give another --folder"
        )
    return run


def _set_aside(folder: Path, why: object) -> None:
    """Rename a cell's folder, so that the cell can be done again and nothing is lost."""
    names = (f".damaged-{folder.name}", *(f".damaged-{folder.name}-{n}" for n in range(2, 1000)))
    aside = next(path for name in names if not (path := folder.with_name(name)).exists())
    log.warning("%s: set aside as %s, and done again", why, aside)
    with reported(folder):
        folder.rename(aside)
