"""Makers of the fields of `Experiment`: a description, what is allowed."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, text: str, **check: Any) -> Any:
    """Make a field with a one-line description and a condition.

    `--help` and the report show the description; the value must fulfil the condition
    (`clipedu.config.field_checks.checked_field`). Two marks say what may be changed when a run goes on: `how=True`, it changes
    no result (`HOW`); `rounds=True`, results differ by rounding alone, as they do from machine to machine (`ROUNDS`).

    Args:
        default: of the field.
        text: the description.
        check: the condition and the marks.
    """
    return field(default=default, metadata={"text": text, **check})


def options(text: str, taken: tuple[str, ...]) -> Any:
    """Make a field of further arguments of a builder.

    The names in `taken` are not allowed in it, because the experiment's own fields give them.
    """
    return field(default_factory=dict, metadata={"text": text, "taken": taken})


def names(text: str, choices: tuple[str, ...] | None = None, *, default: tuple[str, ...] = (), **marks: Any) -> Any:
    """Make a field of any number of names.

    Args:
        text: the description.
        choices: what is allowed; None allows any. One name alone may be given as a str.
        default: what it holds where nothing is given.
        marks: as those of `setting`.
    """
    allowed = {} if choices is None else {"choices": choices}
    return field(default_factory=lambda: list(default), metadata={"text": text, **allowed, **marks})
