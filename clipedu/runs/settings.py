"""One run, one set of settings: experiment.json and checkpoint agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from clipedu.config.experiment import HOW, ROUNDS, Experiment, as_before
from clipedu.utils.errors import ClipeduError, quoted

PATH_FIELDS = ("data", "eval_data", "zeroshot_data")  # pairs are compared by their fingerprint, wherever they are
GOING_ON = (*HOW, *ROUNDS)  # what may be changed when a run goes on; it may have to move to another device


def differing(experiment: Experiment, facts: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which an experiment is not that of a checkpoint.

    Args:
        experiment: as it is in the run's folder.
        facts: of the checkpoint (`clipedu.runs.checkpoint.read_facts`); those of older versions know no experiment.

    Returns:
        field -> (value in the checkpoint, value now). A field that the checkpoint does not have was added by a newer version, and
        was as `as_before` says, or its default.
    """
    if "experiment" not in facts:
        return {}
    before, now = as_before(facts["experiment"]), dataclasses.asdict(experiment)
    for spec in dataclasses.fields(Experiment):
        if spec.name not in before:
            made = spec.default_factory
            default = spec.default if made is dataclasses.MISSING else made()
            before = {**before, spec.name: default}
    return {name: (before[name], now[name]) for name in now if before[name] != now[name]}


def check_settings(
    folder: Path, experiment: Experiment, facts: dict[str, Any], allowed: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Refuse an experiment.json that is not what the run was trained with.

    Those of `GOING_ON` may differ.

    Args:
        folder: of the run.
        experiment, facts: as those of `differing`.
        allowed: fields that may differ too.
    Returns:
        those that differ and may, as `differing` returns them.
    Raises:
        ClipeduError: other fields differ; names each.
    """
    changed = differing(experiment, facts)
    wrong = {name: pair for name, pair in changed.items() if name not in (*GOING_ON, *allowed)}
    if wrong:
        raise ClipeduError(
            f"{folder / 'experiment.json'} is not what the run was trained with: {listed(wrong)}. Put the old values back, "
            f"or train a new run. With --resume RUN these can be changed: epochs, {', '.join(GOING_ON)}"
        )
    return {name: pair for name, pair in changed.items() if name not in wrong}


def listed(changed: dict[str, tuple[Any, Any]]) -> str:
    """Write what `differing` returns as words."""
    return "; ".join(f"{name} was {before!r} and is now {now!r}" for name, (before, now) in changed.items())


def differing_results(experiment: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two experiments differ that change results.

    Args:
        experiment, other: with absolute paths (`clipedu.runs.paths.with_absolute_paths`).
    Returns:
        field -> (value of the first, value of the second), without those of `HOW`.
    """
    before, now = dataclasses.asdict(experiment), dataclasses.asdict(other)
    return {name: (before[name], now[name]) for name in now if before[name] != now[name] and name not in HOW}


def check_going_on(changes: Mapping[str, Any]) -> None:
    """Check that settings may be changed when a run goes on.

    Args:
        changes: new values by field name.
    Raises:
        ClipeduError: one may not.
    """
    if wrong := [name for name in changes if name not in GOING_ON]:
        raise ClipeduError(
            f"{wrong[0]}={quoted(changes[wrong[0]])} cannot be changed when a run goes on: it has its own settings. These can be: "
            f"epochs, {', '.join(GOING_ON)}"
        )
