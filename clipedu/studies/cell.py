"""One cell of a grid: a run that is done, goes on or begins.

What is finished, or has failed, is not run again; what was stopped goes on from its checkpoint; what cannot be used at all is set aside
and done again. A cell of which a file is damaged, or which cannot go on, is left as it is.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clipedu.config.experiment import HOW, Experiment
from clipedu.runs.checkpoint import DamagedCheckpoint
from clipedu.runs.folders import load_run
from clipedu.runs.intact import check_files, check_tables
from clipedu.runs.lock import check_unused, locked
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.settings import differing_results, listed
from clipedu.training.datasets import Data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json, read_text, reported
from clipedu.utils.finite import NotFinite
from clipedu.utils.memory import OutOfMemory
from clipedu.workflow.loop import Progress
from clipedu.workflow.pipeline import fit, resume

ENDED = ("finished", "failed")  # of cells that are not run again
PATIENCE = 30.0  # seconds in which a process that ends can write the checkpoint of its cell

log = logging.getLogger("clipedu")


class Unusable(ClipeduError):
    """A cell that is left as it is."""


def run_cell(experiment: Experiment, folder: Path, data: Callable[[], Data], *, progress: Progress = False) -> Run:
    """Return the run of a cell, run or resumed where it is not finished.

    Args:
        experiment: its settings.
        folder: of the cell.
        data: is called if it is not finished.
        progress: of `clipedu.fit`.

    Raises:
        Unusable: a file of it is damaged, it cannot go on, or the memory is not enough for it.
        ClipeduError: it has other settings, or cannot be run.
    """
    run = earlier_run(folder, experiment)
    if run is None or run.status not in ENDED:
        try:
            run = _do(experiment, folder, run, data, progress=progress)
        except NotFinite:
            run = load_run(folder)
        except OutOfMemory as error:
            raise Unusable(error) from error
    return checked(run)


def checked(run: Run) -> Run:
    """Return the run of a cell that has ended.

    Raises:
        Unusable: a file of it is damaged.
    """
    with _named(run.folder):
        check_files(run)
    return run


def work(data: Data, experiment: Experiment, folder: Path, *, on_steps: Callable[[int, int], None]) -> None:
    """Run a cell in a worker process; arguments and errors as `run_cell`."""
    run_cell(experiment, folder, lambda: data, progress=on_steps)


def earlier_run(folder: Path, experiment: Experiment) -> Run | None:
    """Return the run that is in a cell's folder already.

    It is None if there is none or it cannot be read.

    Raises:
        ClipeduError: it has other settings.
        Unusable: it has settings that this version does not know.
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
            raise Unusable(error) from None
        return None
    before, now = (with_absolute_paths(one)[0] for one in (run.experiment, experiment))
    if differing := differing_results(before, now):
        raise ClipeduError(f"{folder} holds this cell with other settings: {listed(differing)}. Give another --folder")
    return run


def _do(experiment: Experiment, folder: Path, run: Run | None, data: Callable[[], Data], *, progress: Progress) -> Run:
    """Run a cell, or what is missing of it; one without a sound checkpoint is set aside and done again.

    Raises:
        Unusable: it cannot go on.
    """
    _await_free(folder)
    if run is not None:
        with _named(folder):
            check_tables(run)
        try:
            how = {name: getattr(experiment, name) for name in HOW}
            return resume(folder, data=data(), progress=progress, report=False, **how)
        except DamagedCheckpoint as error:
            _set_aside(folder, error)
        except (NotFinite, OutOfMemory):
            raise
        except ClipeduError as error:
            raise Unusable(error) from None
    elif (folder / "experiment.json").exists():
        _set_aside(folder, _fault(folder))
    return fit(experiment, folder, data=data(), progress=progress, report=False)


def _await_free(folder: Path) -> None:
    """Wait a while for a process that has the cell in use: a worker of a grid that was killed ends soon."""
    end, said = time.monotonic() + PATIENCE, False
    while folder.is_dir() and time.monotonic() < end:
        try:
            return check_unused(folder)
        except ClipeduError as error:
            with suppress(ClipeduError), locked(folder):  # what is written of who has it may be old
                return
            if not said:
                log.info("waiting at most %.0f seconds: %s", PATIENCE, error)
                said = True
        time.sleep(0.1)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Say what to do about a cell with a damaged file."""
    try:
        yield
    except ClipeduError as error:
        raise Unusable(
            f"{error}. Put the file back, or remove {folder} (or move it out of the grid's folder) to have the cell done again, "
            "and give the same command"
        ) from None


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
