"""The rows that a run was trained on, and what data.json says of its sets.

train-rows.npy has two numbers a row, `clipedu.data.overlap.row_hashes`: by them it is counted how much of any set that the
model is scored on was also trained on, long after the training pairs are gone. data.json has the identity of each set; where
a set has changed before the run was scored again, its entry has "was", the identity at the time of the training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.data.identity import changes
from clipedu.data.overlap import Shared, row_hashes, shared
from clipedu.data.pairs import Pairs
from clipedu.runs.schema import IDENTITY
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, parse_json, read_text, write_json

log = logging.getLogger("clipedu")

ROWS, SETS = "train-rows.npy", "data.json"


def keep_trained_rows(folder: Path, train: Pairs) -> None:
    """Write which rows a run is trained on: 16 bytes a row.

    Args:
        folder: of the run.
        train: its training pairs.
    Raises:
        ClipeduError: the file cannot be written.
    """
    _write(folder, row_hashes(train))


def keep_rows_of(folder: Path, runs: Sequence[Path]) -> None:
    """Write which rows some runs were trained on, together.

    Where one of them is of an older version, which does not say so, nothing is written.

    Args:
        folder: of the run that is made of them.
        runs: their folders.
    Raises:
        ClipeduError: a file is damaged, or cannot be written.
    """
    if all((run / ROWS).is_file() for run in runs):
        _write(folder, np.unique(np.concatenate([_named_hashes(run / ROWS) for run in runs]), axis=0))


def _named_hashes(path: Path) -> np.ndarray:
    try:
        return _hashes(path)
    except ClipeduError as error:
        raise ClipeduError(f"{path} cannot be read: {error}. Remove it to do without counting these rows") from None


def _write(folder: Path, hashes: np.ndarray) -> None:
    with atomic_write(folder / ROWS) as partial, partial.open("wb") as file:
        np.save(file, hashes)


def shared_with_training(folder: Path, pairs: Pairs) -> Shared | None:
    """Count the rows of a set that a run was trained on.

    Args:
        folder: of the run.
        pairs: a set to score on.
    Returns:
        the counts. None if it is not known: the run is of an older version, which kept a fingerprint only, and that is
        another one.
    Raises:
        ClipeduError: the file of the rows is damaged.
    """
    path = folder / ROWS
    if not path.is_file():
        train = next((entry for entry in _entries(folder) if entry.get("split") == "train"), {})
        if train.get("fingerprint") == pairs.fingerprint():
            return Shared(len(pairs), len(pairs))
        log.info(
            "%s is of an older version: whether %s/%s was trained on is not known", folder, pairs.name, pairs.split
        )
        return None
    try:
        return shared(pairs, _hashes(path))
    except ClipeduError as error:
        raise ClipeduError(f"{path} cannot be read: {error}. Remove it to score without counting these rows") from None


def note_changes(folder: Path, sets: Sequence[tuple[Pairs, dict[str, Any]]]) -> list[str]:
    """Compare sets with those a run was trained with, and note what differs.

    Args:
        folder: of the run; its data.json is brought up to date.
        sets: what it is scored on now, each with its new entry of data.json.
    Returns:
        a line for each set that has changed.
    """
    entries = _entries(folder)
    for place, entry in enumerate(entries):
        now = next((new for pairs, new in sets if entry.get("split") == pairs.split != "train"), None)
        before = entry.get("was") or entry.get("identity")
        if now is not None and before is not None:
            entries[place] = now | ({"was": before} if changes(before, now["identity"]) else {})
    if entries != _entries(folder):
        write_json(folder / SETS, entries)
    return changed_sets(folder)


def changed_sets(folder: Path) -> list[str]:
    """Return a line for each set that changed after a run was trained.

    Args:
        folder: of the run.
    """
    lines = []
    for entry in _entries(folder):
        if what := changes(entry.get("was") or {}, entry.get("identity") or {}):
            lines.append(
                f"the set {entry.get('name')}/{entry.get('split')} has changed since this run was trained ({'; '.join(what)}), so "
                "these scores cannot be compared with earlier ones"
            )
    return lines


def check_same_sets(folder: Path, now: Mapping[str, dict[str, Any]]) -> None:
    """Check that the sets are those that a run was trained and scored on.

    Args:
        folder: of the run.
        now: split -> identity of each set.
    Raises:
        ClipeduError: one has changed.
    """
    for entry in _entries(folder):
        split = entry.get("split", "")
        if what := changes(entry.get("identity") or {}, now.get(split, {})):
            raise ClipeduError(
                f"{folder} holds a run of other data: {entry.get('name')}/{split} has changed since ({'; '.join(what)}). "
                "Give another --folder, so that no table mixes the two"
            )


def _hashes(path: Path) -> np.ndarray:
    """Read an array; NumPy's own text is not repeated, for it tells how to load a pickle all the same."""
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ClipeduError(error.strerror or "it is damaged") from None
    except Exception:  # noqa: BLE001  a damaged header fails in many ways
        raise ClipeduError("it is damaged, or no array of numbers") from None
    if not isinstance(found, np.ndarray):  # an archive of arrays
        found.close()
        raise ClipeduError("it is an archive, no array of numbers")
    return found


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Read data.json; [] if there is none, or none that can be read, and without identities that are damaged."""
    try:
        found = parse_json(read_text(folder / SETS))
    except (OSError, ValueError):
        return []
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return [
        {k: v for k, v in entry.items() if k not in ("identity", "was") or not IDENTITY.misfit(v, k)}
        for entry in entries
    ]
