"""Settings by one name each, items of option fields too.

That is "lr", and "optimizer_options.eps".

>>> with_settings(Experiment(), {"lr": 0.01, "loss_options.gamma": 0.5}).loss_options
{'gamma': 0.5}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.utils.errors import ClipeduError, quoted, unknown_name

_FIELDS = {spec.name: str(spec.type) for spec in dataclasses.fields(Experiment)}
OPTION_FIELDS = tuple(name for name, kind in _FIELDS.items() if kind.startswith("dict"))


def split_name(name: str) -> tuple[str, str]:
    """Return the field and the item of a setting.

    The item is "" for a field without items.

    Raises:
        ClipeduError: an unknown field, an item of a field that has none, or an option field without an item.
    """
    field, dot, item = name.partition(".")
    if field not in _FIELDS:
        raise unknown_name("setting", field, sorted(_FIELDS))
    if dot and field not in OPTION_FIELDS:
        raise ClipeduError(f"{quoted(name)}: {field} has no items. Those that have are: {', '.join(OPTION_FIELDS)}")
    if field in OPTION_FIELDS and not item:
        raise ClipeduError(f"{quoted(name)} holds several options: name one of them, as in {field}.NAME")
    return field, item


def number_kind(name: str) -> str | None:
    """Return which kind of number a setting is.

    That is "int" or "float", "any" for an item of options, or None for what is no number.

    Raises:
        ClipeduError: as `split_name`.
    """
    field, item = split_name(name)
    if item:
        return "any"
    kind = _FIELDS[field].partition(" | ")[0]
    interval = "interval" in Experiment.__dataclass_fields__[field].metadata
    return kind if kind in ("int", "float") and not interval else None


def with_settings(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """Return an experiment with some settings changed.

    Other items of its options stay.

    Args:
        experiment: what is changed.
        settings: values by name.
    Raises:
        ClipeduError: an unknown name, or a value that is not allowed.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        field, item = split_name(name)
        changes[field] = {**changes.get(field, getattr(experiment, field)), item: value} if item else value
    return experiment.replace(**changes)
