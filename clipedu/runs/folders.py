"""Run folders: make a new one, load one, find all.

The files of a run's folder are listed in `clipedu.runs.run`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from clipedu import __version__
from clipedu.config.experiment import Experiment
from clipedu.runs.run import Run
from clipedu.utils.environment import environment
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json, write_text


def new_run_folder(experiment: Experiment) -> Path:
    """Choose a folder that does not exist yet.

    It is runs/<time>-<data>-<loss>-<optimizer>, with a number at the end where that is taken.
    """
    words = (Path(experiment.data).name, experiment.loss, experiment.optimizer)
    stem = Path("runs") / "-".join([time.strftime("%Y%m%d-%H%M%S"), *(re.sub(r"[^\w.]+", "_", word) for word in words)])
    return next(p for n in range(1000) if not (p := stem if n == 0 else Path(f"{stem}-{n + 1}")).exists())


def new_run(experiment: Experiment, folder: str | Path | None = None) -> Run:
    """Make the folder of a new run and write its settings there.

    Args:
        experiment: the settings.
        folder: new or empty; None takes `new_run_folder`.
    Raises:
        ClipeduError: the folder exists and is not empty, or cannot be made.
    """
    folder = Path(folder or new_run_folder(experiment))
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ClipeduError(
                f"{folder} exists already and is not empty: give another folder, or resume the run in it"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClipeduError(f"{folder} cannot be made: {error.strerror}. Give a folder that can be written") from None
    run = Run(folder, experiment, environment(__version__))
    write_text(folder / "experiment.json", experiment.to_json())
    write_json(folder / "environment.json", run.environment)
    run.save_status("running")
    return run


def load_run(folder: str | Path) -> Run:
    """Load the run in a folder.

    Raises:
        ClipeduError: it is not a run's folder, or it is damaged.
    """
    folder = Path(folder)
    if not (folder / "experiment.json").is_file():
        what = "is not a run's folder: it has no experiment.json" if folder.is_dir() else "does not exist"
        known = sorted({str(path.parent) for path in Path("runs").glob("**/experiment.json")})
        here = f"Runs here: {', '.join(known[-8:])}" if known else "Make one with: clipedu train"
        raise ClipeduError(f"{folder} {what}. {here}")
    try:
        experiment = Experiment.from_json((folder / "experiment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClipeduError(f"{folder / 'experiment.json'} cannot be used: {error}") from None
    status = read_json(folder / "status.json")
    return Run(
        folder,
        experiment,
        read_json(folder / "environment.json"),
        read_json(folder / "metrics.json"),
        **{key: status[key] for key in ("status", "note", "seconds") if key in status},
    )


def find_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Load all runs in the given folders, each once.

    Args:
        folders: runs' own folders, or folders that hold runs at any depth (a grid's).
    Raises:
        ClipeduError: a folder in which there is no run.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        inside = [folder] if (folder / "experiment.json").is_file() else sorted(folder.glob("**/experiment.json"))
        for path in inside or [folder]:
            path = path.parent if path.name == "experiment.json" else path
            found.setdefault(path.resolve(), path)
    return [load_run(path) for path in found.values()]
