"""A small schema for values read from files: what a field must be.

    SCORES = Object({"count": Number(whole=True, at_least=1)}, optional={"note": Text()})
    misfit(SCORES, {"count": "3"})      # "field 'count' is '3', expected a whole number >= 1"

A spec is one of the classes below, or anything else with their two members. `misfit` names the first field that does not
fit, with what was found and what is expected; fields inside others are written with dots, `sets.0.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

_SHOWN = 60  # characters of a value in a message
_DEEPEST = 20  # objects inside objects, of `Anything`


class Spec(Protocol):
    """What a value must be."""

    @property
    def expected(self) -> str:
        """What is expected, in words."""

    def misfit(self, value: Any, name: str) -> str | None:
        """Return what is wrong with the value of a field, None if it fits."""


def misfit(spec: Spec, value: Any) -> str | None:
    """Return what is wrong with a value, in words, or None if it fits.

    >>> misfit(Object({"rows": Number(whole=True, at_least=1)}), {"rows": 0})
    "field 'rows' is 0, expected a whole number >= 1"

    Args:
        spec: what it must be.
        value: as it was read; it may be anything.
    """
    return spec.misfit(value, "")


def shown(value: Any) -> str:
    """Describe a value in a few words, in the terms of JSON.

    >>> shown(None), shown([1, 2]), shown("x"), shown(float("nan"))
    ('null', 'a list of 2', "'x'", 'NaN')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (int, float, str)):
        text = ascii(value)
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class Number:
    """A finite number within limits; with `optional` also null."""

    at_least: float = -math.inf
    at_most: float = math.inf
    whole: bool = False
    optional: bool = False

    @property
    def expected(self) -> str:
        limits = [
            f"{sign} {limit:g}" for sign, limit in ((">=", self.at_least), ("<=", self.at_most)) if math.isfinite(limit)
        ]
        kind = "a whole number" if self.whole else "a number"
        return " ".join([kind, " and ".join(limits)]).rstrip() + " or null" * self.optional

    def misfit(self, value: Any, name: str) -> str | None:
        if value is None and self.optional:
            return None
        fits = isinstance(value, int if self.whole else (int, float)) and not isinstance(value, bool)
        if fits and _finite(value) and self.at_least <= value <= self.at_most:
            return None
        return _wrong(self, value, name)


@dataclass(frozen=True)
class Text:
    """A text, one of `choices` where there are any; with `optional` also null."""

    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def expected(self) -> str:
        return (f"one of {', '.join(self.choices)}" if self.choices else "a text") + " or null" * self.optional

    def misfit(self, value: Any, name: str) -> str | None:
        if value is None and self.optional:
            return None
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            return _wrong(self, value, name)
        return None if _is_text(value) else f"{_place(name)} is {shown(value)}, which is not Unicode text"


@dataclass(frozen=True)
class Choice:
    """One of a few values, which may be true, false, numbers or texts."""

    choices: tuple[Any, ...]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(map(shown, self.choices))

    def misfit(self, value: Any, name: str) -> str | None:
        fits = any(type(value) is type(choice) and value == choice for choice in self.choices)
        return None if fits else _wrong(self, value, name)


@dataclass(frozen=True)
class Items:
    """A list whose items are all alike, of a given length if there is one."""

    item: Spec
    length: int | None = None

    @property
    def expected(self) -> str:
        return "a list" if self.length is None else f"a list of {self.length}"

    def misfit(self, value: Any, name: str) -> str | None:
        if not isinstance(value, (list, tuple)) or self.length not in (None, len(value)):
            return _wrong(self, value, name)
        faults = (self.item.misfit(item, _inside(name, place)) for place, item in enumerate(value))
        return next(filter(None, faults), None)


@dataclass(frozen=True)
class Object:
    """An object: fields it must have, fields it may have, and all others.

    `others` is the spec of the other fields; None lets them be anything.
    """

    required: Mapping[str, Spec] = field(default_factory=dict)
    optional: Mapping[str, Spec] = field(default_factory=dict)
    others: Spec | None = None

    expected = "an object"

    def misfit(self, value: Any, name: str) -> str | None:
        if not isinstance(value, Mapping):
            return _wrong(self, value, name)
        for key in self.required:
            if key not in value:
                return f"the field {_inside(name, key)!r} is missing"
        known = {**self.required, **self.optional}
        for key, item in value.items():
            spec = known.get(key, self.others)
            if spec is not None and (fault := spec.misfit(item, _inside(name, key))):
                return fault
        return None


@dataclass(frozen=True)
class Anything:
    """Any value that can be shown.

    Its numbers are finite, its texts Unicode, and it is not nested deeply.
    """

    expected: str = "a value of JSON"

    def misfit(self, value: Any, name: str, depth: int = 0) -> str | None:
        if depth > _DEEPEST:
            return f"{_place(name)} is nested more than {_DEEPEST} deep"
        if value is None or isinstance(value, bool):
            return None
        if isinstance(value, str):
            return Text().misfit(value, name)
        if isinstance(value, (int, float)):
            return Number().misfit(value, name)
        if isinstance(value, Mapping):
            inside = {str(key): item for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            inside = {str(place): item for place, item in enumerate(value)}
        else:
            return _wrong(self, value, name)
        for key, item in inside.items():
            if not _is_text(key):
                return f"{_place(name)} has the name {shown(key)}, which is not Unicode text"
            if fault := self.misfit(item, _inside(name, key), depth + 1):
                return fault
        return None


def _wrong(spec: Spec, value: Any, name: str) -> str:
    return f"{_place(name)} is {shown(value)}, expected {spec.expected}"


def _place(name: str) -> str:
    return f"field {name!r}" if name else "the whole"


def _inside(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8: it has no half of a pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: float) -> bool:
    """Return whether a number is finite as a float (an int can be too large)."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
