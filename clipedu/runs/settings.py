"""One run, one set of settings: experiment.json and checkpoint agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.utils.errors import ClipeduError

MEASURED_ONLY = ("norms_every",)  # says what is written down, not what is trained
PATH_FIELDS = ("data", "eval_data", "zeroshot_data")  # pairs are compared by their fingerprint, wherever they are
MACHINE = ("device",)  # another device rounds in another way, as any two do; a run may have to move


def differing(experiment: Experiment, facts: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which an experiment is not that of a checkpoint.

    Args:
        experiment: as it is in the run's folder.
        facts: of the checkpoint (`clipedu.runs.checkpoint.read_facts`); those of older versions know no experiment.

    Returns:
        field -> (value in the checkpoint, value now). A field that the checkpoint does not have was added by a newer version, and
        had its default.
    """
    if "experiment" not in facts:
        return {}
    before, now = facts["experiment"], dataclasses.asdict(experiment)
    for spec in dataclasses.fields(Experiment):
        if spec.name not in before:
            made = spec.default_factory
            before = {**before, spec.name: spec.default if made is dataclasses.MISSING else made()}
    return {name: (before[name], now[name]) for name in now if before[name] != now[name]}


def check_settings(
    folder: Path, experiment: Experiment, facts: dict[str, Any], allowed: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Refuse an experiment.json that is not what the run was trained with.

    `norms_every` and `device` may differ.

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
    wrong = {name: pair for name, pair in changed.items() if name not in (*MEASURED_ONLY, *MACHINE, *allowed)}
    if wrong:
        raise ClipeduError(
            f"{folder / 'experiment.json'} is not what the run was trained with: {listed(wrong)}. Put the old values back, "
            "or train a new run; --resume RUN --epochs N is the one change that can be made"
        )
    return {name: pair for name, pair in changed.items() if name not in wrong}


def listed(changed: dict[str, tuple[Any, Any]]) -> str:
    """Write what `differing` returns as words."""
    return "; ".join(f"{name} was {before!r} and is now {now!r}" for name, (before, now) in changed.items())
