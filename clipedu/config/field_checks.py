"""Check the value of a field of `Experiment` against its type and bounds."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from clipedu.config.intervals import interval_word, parse_interval
from clipedu.utils.errors import ClipeduError, quoted, unknown_name

LARGEST_WHOLE = 2**40  # of a size or count; products of two such can still be counted
_TYPES: dict[str, Any] = {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict}


def checked_field(spec: dataclasses.Field, value: Any) -> Any:
    """Return the value of a field as an experiment keeps it.

    Equal experiments thus compare equal before and after JSON.

    Args:
        spec: of the field: its type, and in its metadata what is allowed.
        value: what the user gave.
    Raises:
        ClipeduError: a value that is not allowed.
    """
    given = f"{spec.name}={quoted(value)}"
    base, optional, _ = str(spec.type).partition(" | None")
    if value is None and optional:
        return None
    kind = base.split("[")[0].partition(" | ")[0]
    also = spec.metadata.get("also", ())
    if isinstance(value, str) and value in also:
        return value
    if "interval" in spec.metadata and not isinstance(value, bool) and isinstance(value, (int, str)):
        value = _checked_interval(spec, value)
        if isinstance(value, str):
            return value
    if kind == "list":
        return _checked_names(spec, value)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        article = "an" if kind == "int" else "a"
        words = "".join(f" or {word!r}" for word in also)
        if "interval" in spec.metadata:
            words = f" of steps or a word such as {'1min' if 'time' in spec.metadata['interval'] else '1epoch'}"
        raise ClipeduError(f"{given} must be {'none or ' if optional else ''}{article} {kind}{words}")
    if kind == "float":
        try:
            value = float(value)  # so that 1 and 1.0 are the same experiment
        except OverflowError:  # an int of hundreds of digits
            value = math.inf
        if not math.isfinite(value):
            raise ClipeduError(f"{given} must be a finite number")
    if kind == "dict":
        value = _checked_options(spec, value)
    if value == "":
        raise ClipeduError(f"{given} must not be empty")
    if kind == "str" and "\0" in value:
        raise ClipeduError(f"{given} must not have a NUL in it")
    rules = {"at_most": LARGEST_WHOLE, **spec.metadata} if kind == "int" else spec.metadata
    if "choices" in rules and value not in rules["choices"]:
        raise unknown_name(spec.name, value, rules["choices"])
    bounds = {
        "at_least": lambda v, b: v >= b,
        "at_most": lambda v, b: v <= b,
        "above": lambda v, b: v > b,
        "below": lambda v, b: v < b,
    }
    for word, holds in bounds.items():
        if word in rules and not holds(value, rules[word]):
            raise ClipeduError(f"{given} must be {word.replace('_', ' ')} {rules[word]}")
    return value


def _checked_names(spec: dataclasses.Field, value: Any) -> list[str]:
    """Return a field of names as it is kept. Raises ClipeduError for an unknown one, or one given twice."""
    choices = spec.metadata.get("choices")  # None: any
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else None
    if names is None:
        allowed = "" if choices is None else f" out of {', '.join(choices)}"
        raise ClipeduError(f"{spec.name}={quoted(value)} must be a list of names{allowed}")
    for name in names:
        if choices is not None and name not in choices:
            raise unknown_name(spec.name, name, choices)
        if not isinstance(name, str) or not name.strip():
            raise ClipeduError(f"{spec.name}={quoted(value)}: {quoted(name)} is no name")
        if names.count(name) > 1:
            raise ClipeduError(f"{spec.name}={quoted(value)}: {name!r} is given twice")
    return names


def _checked_interval(spec: dataclasses.Field, value: int | str) -> int | str:
    """Return an interval as it is kept. Raises ClipeduError for a word that is none."""
    word = interval_word(value)
    if isinstance(word, str):
        try:
            parse_interval(word, spec.metadata["interval"])
        except ValueError as error:
            raise ClipeduError(f"{spec.name}={quoted(value)} {error}") from None
    return word


def _checked_options(spec: dataclasses.Field, options: dict) -> dict[str, Any]:
    """Return a copy that JSON can hold: tuples become lists."""
    for name in options:
        if not isinstance(name, str):
            raise ClipeduError(f"{spec.name}={quoted(options)}: the name {name!r} must be a str")
        if name in spec.metadata["taken"]:
            raise ClipeduError(
                f"{spec.name}={quoted(options)}: {name!r} cannot be among them, the experiment sets it itself"
            )
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ClipeduError(f"{spec.name}={quoted(options)} cannot be kept in JSON: {error}") from None
