"""Run folders: make a new one, load one, find all.

The files of a run's folder are listed in `clipedu.runs.run`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipedu import __version__
from clipedu.config.experiment import Experiment
from clipedu.runs.lock import HOLDER, LOCK, check_unused, was_killed
from clipedu.runs.run import PATHS, Run
from clipedu.runs.schema import EXPERIMENT, read_environment, read_metrics, read_status
from clipedu.utils.environment import environment
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, read_text, remove_partial_files, write_json, write_text


class NotARun(ClipeduError):
    """A folder that does not exist, or holds no run."""


OF_RUN = ("experiment.json", "environment.json")  # the two files that every run has from its beginning
CHECKPOINTS, CONFIGS = "checkpoint", ("config.json", "open_clip_config.json")  # of a run; of a model of another library
SHOWN = 8  # runs at most in a message
SWEEP, TRIALS = "sweep.json", "trials"  # file and folder in that of a sweep
TUNING = "tuning.json"  # in a folder of runs from which settings are chosen


def check_named(name: str) -> None:
    """Check that a name is not a folder above or inside that of a run.

    Args:
        name: a run's folder, or a name, folder or file of another library's model.
    Raises:
        NotARun: it is such a folder; names the run.
    """
    path = Path(name).expanduser()
    if not os.path.exists(path) or os.path.lexists(path / "experiment.json"):
        return
    inside = [above for above in path.parents if (above / "experiment.json").is_file()]
    if inside and path.relative_to(inside[0]).parts[0] == CHECKPOINTS:
        raise NotARun(f"{name} is inside the folder of a run: name that folder, {inside[0]}")
    if not path.is_dir() or any(file.name in CONFIGS for file in path.iterdir()):
        return
    runs = sorted(file.parent for deep in ("*", "*/*") for file in path.glob(f"{deep}/experiment.json"))
    if runs:
        more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
        raise NotARun(f"{name} is no run. Runs in it: {', '.join(map(str, runs[:SHOWN]))}{more}: name one of them")


def run_around(folder: Path) -> Path | None:
    """Return the folder of the run that a folder is in, if any."""
    return next((path for path in folder.resolve().parents if all((path / name).is_file() for name in OF_RUN)), None)


def check_no_run(folder: Path) -> None:
    """Check that a folder to write to is not that of a run.

    Raises:
        ClipeduError: it is, and files of the same names may be its own.
    """
    if run_around(folder / "file") == folder.resolve():
        raise ClipeduError(f"{folder} is the folder of a run, which has files of its own: give another --folder")


def _check_outside(folder: Path, inside: Path) -> None:
    """Check that a place is not among the files of a run."""
    if (run := run_around(inside)) is not None:
        raise ClipeduError(f"{folder} belongs to the run {run}: give another folder, beside it")


def new_run_folder(experiment: Experiment) -> Path:
    """Choose a folder that does not exist yet.

    It is runs/<time>-<data>-<loss>-<optimizer>, with a number at the end where that is taken.
    """
    words = (Path(experiment.data).name, experiment.loss, experiment.optimizer)
    stem = Path("runs") / "-".join([time.strftime("%Y%m%d-%H%M%S"), *(re.sub(r"[^\w.]+", "_", word) for word in words)])
    return next(p for n in range(1000) if not (p := stem if n == 0 else Path(f"{stem}-{n + 1}")).exists())


def check_free(folder: Path) -> None:
    """Check that a run can begin in a folder: it is new or empty.

    What a run that was killed before its experiment.json has left does not count.

    Raises:
        ClipeduError: the folder is in use, is not empty, is inside a run's, or cannot be read.
    """
    _check_outside(folder, folder)
    try:
        if folder.exists() and not folder.is_dir():
            left = [folder.name]
        else:
            names = {path.name for path in folder.iterdir()} if folder.exists() else set()
            left = [name for name in names if not _is_leftover(name, killed=LOCK in names)]
    except OSError as error:
        raise ClipeduError(f"{folder} cannot be made: {error.strerror}. Give a folder that can be written") from None
    if left:
        check_unused(folder)
        raise ClipeduError(f"{folder} exists already and is not empty: give another folder, or resume the run in it")


def make_folder(folder: Path) -> None:
    """Make the folder of a new run or a grid, if there is none.

    Raises:
        ClipeduError: it cannot be made, or is a run's or inside one.
    """
    _check_outside(folder, folder / "cell")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipeduError(f"{folder} cannot be made: {error.strerror}. Give a folder that can be written") from None


def new_run(
    experiment: Experiment, folder: str | Path | None = None, *, given_paths: Mapping[str, str] | None = None
) -> Run:
    """Make the folder of a new run and write its settings there.

    experiment.json comes last but for the status: a folder that has it can be resumed, any other begun again.

    Args:
        experiment: the settings.
        folder: new or empty; None takes `new_run_folder`.
        given_paths: what was given for the paths of the experiment (see `clipedu.runs.paths`).
    Raises:
        ClipeduError: the folder exists and is not empty, or cannot be made.
    """
    folder = Path(folder or new_run_folder(experiment))
    check_free(folder)
    make_folder(folder)
    remove_partial_files(folder)
    run = Run(folder, experiment, environment(__version__))
    if given_paths:
        write_json(folder / PATHS, {"given": dict(given_paths), "folder": os.path.abspath(folder)})
    write_json(folder / "environment.json", run.environment)
    write_text(folder / "experiment.json", experiment.to_json())
    run.save_status("running")
    return run


def _set_aside(name: str) -> bool:
    """Return whether a folder is a damaged cell that a grid has set aside."""
    return name.startswith(".damaged-")


def _is_trial(path: Path, folder: Path) -> bool:
    """Return whether a run inside a folder is a trial of a sweep or a tuning, which have tables of their own."""
    above = (folder / part for part in path.relative_to(folder).parents)
    return any(
        (place / TUNING).exists() or (place.name == TRIALS and (place.parent / SWEEP).exists())
        for place in above
        if place != folder
    )


def _is_leftover(name: str, *, killed: bool) -> bool:
    """Return whether a file is what a run leaves that was killed before its experiment.json."""
    return name in ((LOCK, HOLDER, PATHS, "environment.json") if killed else (LOCK, HOLDER)) or bool(
        re.fullmatch(r"\..*\.partial", name)
    )


def load_run(folder: str | Path, *, scores: bool = True) -> Run:
    """Load the run in a folder.

    Args:
        folder: of the run.
        scores: read its scores; False for a caller that makes them anew, so that damaged ones do not matter.
    Raises:
        ClipeduError: it is not a run's folder, or it is damaged.
    """
    folder = Path(folder)
    path = folder / "experiment.json"
    if not os.path.lexists(path):
        check_named(str(folder))
        what = "is not a run's folder: it has no experiment.json" if folder.is_dir() else "does not exist"
        known = sorted({str(path.parent) for path in Path("runs").glob("**/experiment.json")})
        here = f"Runs here: {', '.join(known[-8:])}" if known else "Make one with: clipedu train"
        raise NotARun(f"{folder} {what}. {here}")
    read_json(path, EXPERIMENT)
    try:
        experiment = Experiment.from_json(read_text(path))
    except ValueError as error:
        raise ClipeduError(f"{path} cannot be used: {error}") from None
    status = read_status(folder)
    run = Run(
        folder,
        experiment,
        read_environment(folder),
        read_metrics(folder) if scores else {},
        **{key: status[key] for key in ("status", "note", "seconds", "scored") if key in status},
    )
    if run.status == "running" and was_killed(folder):
        run.status, run.note = "stopped", "its process was killed"
    return run


def find_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Load all runs in the given folders, each once.

    Args:
        folders: runs' own folders, or folders that hold runs at any depth (a grid's).
    Raises:
        ClipeduError: a folder in which there is no run.
    """
    return [load_run(folder) for folder in _run_folders(folders)]


def readable_runs(folders: Sequence[str | Path]) -> tuple[list[Run], list[str]]:
    """Load all runs in the given folders that can be read, each once.

    Args:
        folders: as those of `find_runs`.
    Returns:
        the runs, and for each that is damaged a line that names it and says why.
    Raises:
        ClipeduError: a folder in which there is no run, or all runs are damaged.
    """
    runs, left_out = [], []
    for folder in _run_folders(folders):
        try:
            run = load_run(folder)
            len(run.history)  # it is read when it is first used
            runs.append(run)
        except NotARun:
            raise
        except ClipeduError as error:
            left_out.append(f"{folder.name}: {error}")
    if not runs:
        more = f" The {len(left_out)} runs are all damaged" if len(left_out) > 1 else ""
        raise ClipeduError(left_out[0].partition(": ")[2] + (f".{more}" if more else ""))
    return runs, left_out


def _run_folders(folders: Sequence[str | Path]) -> list[Path]:
    """Return the folders of all runs in the given folders, each once.

    Trials of sweeps and tunings are no runs of a folder above them.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        inside = [folder] if os.path.lexists(folder / "experiment.json") else sorted(folder.glob("**/experiment.json"))
        inside = [path for path in inside if not any(map(_set_aside, path.relative_to(folder).parts))]
        inside = [path for path in inside if not _is_trial(path, folder)]
        for path in inside or [folder]:
            path = path.parent if path.name == "experiment.json" else path
            found.setdefault(path.resolve(), path)
    return list(found.values())
