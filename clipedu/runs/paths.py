"""Paths in an experiment: absolute, and found again after a move.

A run keeps absolute paths in its experiment.json. In paths.json it keeps what was given instead, for the command that
repeats the run, and where the run's folder was, so that data that were moved together with it are found.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.data.load import find_folder
from clipedu.interop.sources import PREFIXES
from clipedu.models import ENCODERS
from clipedu.runs.run import PATHS, Run
from clipedu.runs.schema import PATHS as PATHS_SPEC
from clipedu.runs.settings import PATH_FIELDS
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json

WEIGHTS = ("image_weights", "text_weights")

log = logging.getLogger("clipedu")


def with_absolute_paths(experiment: Experiment) -> tuple[Experiment, dict[str, str]]:
    """Make the paths of an experiment absolute; names stay names.

    Returns:
        the experiment, and what was given for each field that is another now.
    """
    given: dict[str, str] = {}
    absolute: dict[str, Any] = {}
    for field, value in _paths(experiment):
        path = Path(value).expanduser()
        if field in PATH_FIELDS and not _is_folder(value, path):
            continue
        if not path.is_absolute() or str(path) != value:
            given[field], absolute[field] = value, str(_absolute(path))
    return (experiment.replace(**absolute) if absolute else experiment), given


def located(run: Run) -> Experiment:
    """Return the experiment of a run, with its paths where they are now.

    A path that is gone is looked for beside the run's folder, where it was before both were moved. A relative one, of an
    older version, is looked for in the working directory, then in the folders above the run's. A log line says what was found. A
    path that is not found stays as it is.

    Raises:
        ClipeduError: the run's paths.json is damaged.
    """
    kept, found = read_json(run.folder / PATHS, PATHS_SPEC), {}
    here = _absolute(run.folder)
    for field, value in _paths(run.experiment):
        path = Path(value).expanduser()
        if path.exists() or (field in PATH_FIELDS and _opens(value)):
            continue
        places: list[Path] = []
        if path.is_absolute() and "folder" in kept:
            places = [_absolute(here / os.path.relpath(path, str(kept["folder"])))]
            given = Path(str(kept.get("given", {}).get(field, path))).expanduser()
            places += [] if given.is_absolute() else [_absolute(given)]
        elif not path.is_absolute():
            places = [above / path for above in here.parents]
        if place := next(filter(Path.exists, places), None):
            log.warning("%s=%r of %s is not there: taking %s", field, value, run.folder, place)
            found[field] = str(place)
    return run.experiment.replace(**found) if found else run.experiment


def _paths(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the fields that hold, or may hold, a path."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    for field in PATH_FIELDS:
        if (value := getattr(experiment, field)) not in (None, "scenes"):
            yield field, value
    for field in WEIGHTS:
        if (value := getattr(experiment, field)) not in ("random", "pretrained"):
            yield field, value
    for field in ("start", "start_weights"):
        value = getattr(experiment, field)
        if value is not None and not value.startswith(PREFIXES) and Path(value).expanduser().exists():
            yield field, value
    name = experiment.text_encoder
    if name not in ENCODERS and name not in CONFIG_MAPPING_NAMES and (Path(name).is_dir() or Path(name).is_absolute()):
        yield "text_encoder", name


def _is_folder(value: str, path: Path) -> bool:
    """Return whether data are a folder given as such, not one of that name under CLIPEDU_DATA."""
    try:
        return find_folder(value) == path
    except ClipeduError:
        return False


def _opens(value: str) -> bool:
    try:
        return find_folder(value).exists()
    except ClipeduError:
        return False


def _absolute(path: Path) -> Path:
    """Return an absolute path without "..", where that names the same."""
    plain = Path(os.path.abspath(path))
    return plain if not path.exists() or (plain.exists() and plain.samefile(path)) else path.absolute()
