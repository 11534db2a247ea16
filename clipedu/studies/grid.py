"""The course's grid: every loss with every optimizer.

One run a cell, all in one folder. A cell that is finished is not run again; one that was stopped resumes from its
checkpoint; one that cannot be used at all is set aside and done again; one whose training diverged is listed as failed and left as
it is. A cell of which a file is damaged, or which cannot go on, is left as it is too: it is named, and all others are done.
So neither Ctrl-C nor a kill loses anything, and the same command resumes the grid. One process at a time has a grid.

All cells share the data, the seed and every setting of the experiment, except what a preset changes for an optimizer: SGD
needs another learning rate than Adam (`PRESETS[...].per_optimizer`).
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from clipedu.config.course import LOSSES, OPTIMIZERS
from clipedu.config.experiment import HOW, Experiment
from clipedu.runs.checkpoint import DamagedCheckpoint
from clipedu.runs.folders import load_run, make_folder
from clipedu.runs.intact import check_files, check_tables
from clipedu.runs.lock import locked
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.schema import read_baseline
from clipedu.runs.settings import differing_results, listed
from clipedu.runs.trained_rows import check_same_sets
from clipedu.studies.baseline import NoWords, ridge_baseline
from clipedu.training.datasets import Data, load_data
from clipedu.training.objective import check_names
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json, read_text, remove_partial_files, reported, write_json
from clipedu.utils.finite import NotFinite
from clipedu.utils.ranks import check_one_process
from clipedu.workflow.pipeline import fit, resume

_ENDED = ("finished", "failed")  # of cells that are not run again
COURSE_LOSSES, COURSE_OPTIMIZERS = tuple(LOSSES), tuple(OPTIMIZERS)

log = logging.getLogger("clipedu")


class LeftOut(ClipeduError):
    """Cells of a grid were left out; all others are done.

    Attributes:
        lines: for each of them its name, the file and what is wrong, and what to do.
        total: how many cells there are.
    """

    def __init__(self, lines: Sequence[str], total: int):
        self.lines, self.total = list(lines), total
        verb = "is" if len(lines) == 1 else "are"
        super().__init__(f"{len(lines)} of {total} cells {verb} left out, all others are done. {'. '.join(lines)}")


class _Unusable(ClipeduError):
    """A cell that is left as it is."""


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
        ClipeduError: an unknown loss or optimizer, or one that is named twice.
    """
    check_distinct("losses", losses)
    check_distinct("optimizers", optimizers)
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
        LeftOut: after all others, for cells of which a file is damaged, or which cannot go on. Each is named in a log line
            when its turn comes, and left as it is.
        ClipeduError: the folder holds a cell of the same name with other settings, or one that was trained on other data, or
            is in use by another process.
    """
    folder, left_out = Path(folder), list[str]()
    data = data or shared_data(next(iter(experiments.values())))
    check_one_process("a grid")
    make_folder(folder)
    with locked(folder):
        remove_partial_files(folder)
        _check_same_data(_all_earlier(folder, experiments), data)
        for name, experiment in experiments.items():
            try:
                run = _cell(experiment, folder / name, data, progress=progress)
            except _Unusable as error:
                left_out.append(f"{name}: {error}")
                log.warning("left out: %s", left_out[-1])
            else:
                yield run
    if left_out:
        raise LeftOut(left_out, len(experiments))


def _cell(experiment: Experiment, folder: Path, data: Callable[[], Data], *, progress: bool) -> Run:
    """Return the run of a cell, run or resumed where it is not finished.

    Raises:
        _Unusable: a file of it is damaged, or it cannot go on.
    """
    run = _earlier(folder, experiment)
    if run is None or run.status not in _ENDED:
        try:
            run = _do(experiment, folder, run, data, progress=progress)
        except NotFinite:
            run = load_run(folder)
    with _named(folder):
        check_files(run)
    return run


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Say what to do about a cell with a damaged file."""
    try:
        yield
    except ClipeduError as error:
        raise _Unusable(
            f"{error}. Put the file back, or remove {folder} (or move it out of the grid's folder) to have the cell done again, "
            "and give the same command"
        ) from None


def _all_earlier(folder: Path, experiments: Mapping[str, Experiment]) -> list[Run | None]:
    """Return the runs of all cells that are there already, without those that cannot be used."""
    earlier = []
    for name, experiment in experiments.items():
        with suppress(_Unusable):
            earlier.append(_earlier(folder / name, experiment))
    return earlier


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
    """Run a cell, or what is missing of it; one without a sound checkpoint is set aside and done again.

    Raises:
        _Unusable: it cannot go on.
    """
    if run is not None:
        with _named(folder):
            check_tables(run)
        try:
            how = {name: getattr(experiment, name) for name in HOW}
            return resume(folder, data=data(), progress=progress, report=False, **how)
        except DamagedCheckpoint as error:
            _set_aside(folder, error)
        except NotFinite:
            raise
        except ClipeduError as error:
            raise _Unusable(error) from None
    elif (folder / "experiment.json").exists():
        _set_aside(folder, _fault(folder))
    return fit(experiment, folder, data=data(), progress=progress, report=False)


def grid_baseline(
    experiment: Experiment, folder: str | Path, data: Callable[[], Data] | None = None
) -> dict[str, Any] | None:
    """Return the scores of `ridge_baseline`, which a grid has to beat.

    Args:
        experiment: of any cell.
        folder: of the grid, where the scores are kept; they are computed once for the data of its cells, and again if damaged.
        data: `shared_data(experiment)`, where a caller has it already.

    Returns:
        None for an experiment whose image encoder is trained: there are no fixed features to regress from; and, with a log
        line, where the captions hold no word.
    """
    if not experiment.image_frozen:
        return None
    path = Path(folder) / "baseline.json"
    if not path.is_file() or not _is_of_cells(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = (data or shared_data(experiment))()
        try:
            write_json(path, ridge_baseline(experiment, opened))
        except NoWords as error:
            log.warning("no baseline: %s", error)
            return None
    return read_baseline(path.parent)


def _is_of_cells(path: Path) -> bool:
    """Check that a baseline is of the data that the cells were trained on, as far as both say what they were.

    One that is damaged is named in a log line.
    """
    try:
        kept = (read_baseline(path.parent) or {}).get("sets") or {}
    except ClipeduError as error:
        log.warning("%s", error)
        return False
    try:
        for cell in path.parent.glob("*/data.json"):
            check_same_sets(cell.parent, kept)
    except ClipeduError:
        return False
    return True


def _earlier(folder: Path, experiment: Experiment) -> Run | None:
    """Return the run that is in a cell's folder already, None if there is none or it cannot be read.

    Raises:
        ClipeduError: it has other settings.
        _Unusable: it has settings that this version does not know.
    """
    try:
        settings = parse_json(read_text(folder / "experiment.json"))
    except (OSError, ValueError):
        return None
    if not isinstance(settings, dict):
        return None
    try:
        run = load_run(folder)
    except ClipeduError as error:
        try:
            Experiment.from_json(json.dumps(settings))
        except ValueError:
            raise _Unusable(error) from None
        return None
    before, now = (with_absolute_paths(one)[0] for one in (run.experiment, experiment))
    if differing := differing_results(before, now):
        raise ClipeduError(f"{folder} holds this cell with other settings: {listed(differing)}. Give another --folder")
    return run


def _fault(folder: Path) -> str:
    """Return why a cell cannot be loaded."""
    try:
        load_run(folder)
    except ClipeduError as error:
        return str(error)
    return f"{folder / 'experiment.json'} cannot be read"


def _set_aside(folder: Path, why: object) -> None:
    """Rename a cell's folder, so that the cell can be done again and nothing is lost."""
    names = (f".damaged-{folder.name}", *(f".damaged-{folder.name}-{n}" for n in range(2, 1000)))
    aside = next(path for name in names if not (path := folder.with_name(name)).exists())
    log.warning("%s: set aside as %s, and done again", why, aside)
    with reported(folder):
        folder.rename(aside)
