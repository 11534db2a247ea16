"""What a sweep varies: each setting over values or over a range.

    lr=1e-4..1e-2:log           a range, even on a logarithmic scale
    lr=1e-4..1e-2:log:5         five points of it, for a grid
    weight_decay=0,0.05,0.1     values
    optimizer_options.betas=[0.9,0.95],[0.9,0.99]

In Python: `axis("lr", "1e-4..1e-2:log")`, `axis("weight_decay", [0, 0.05, 0.1])`, or `Range("lr", 1e-4, 1e-2, log=True)`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clipedu.config.command_line import read_setting
from clipedu.config.experiment import HOW, checked_setting
from clipedu.config.named_settings import number_kind, split_name
from clipedu.utils.checks import check_distinct, is_finite_number
from clipedu.utils.errors import ClipeduError, quoted

HELP = "give values (lr=1e-3,3e-3) or a range (lr=1e-4..1e-2:log)"
MOST_POINTS = 1000  # of a range


@dataclass(frozen=True)
class Values:
    """A setting that takes one of some values, each of which JSON can hold."""

    name: str
    values: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}={','.join(shown(value) for value in self.values)}"


@dataclass(frozen=True)
class Range:
    """A setting that takes any number from `low` to `high`.

    Attributes:
        name: of the setting.
        low, high: the ends, low < high; both can be taken.
        log: draw evenly on a logarithmic scale; then low > 0.
        whole: whole numbers only.
        points: take so many points, evenly spaced, instead of all between; None does not.
    Raises:
        ClipeduError: ends that are no finite numbers in this order, a log scale from 0 or below, or a wrong number of points.
    """

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    points: int | None = None

    def __post_init__(self) -> None:
        given = f"{self.name}={quoted(self.low)}..{quoted(self.high)}"
        if not (is_finite_number(self.low) and is_finite_number(self.high)) or self.low >= self.high:
            raise ClipeduError(f"{given}: a range goes from a lower to a higher number")
        if self.log and self.low <= 0:
            raise ClipeduError(f"{given}:log: a logarithmic scale begins above 0")
        if self.points is not None and not 2 <= self.points <= MOST_POINTS:
            raise ClipeduError(f"{given}:{self.points}: the number of points is from 2 to {MOST_POINTS}")

    def __str__(self) -> str:
        marks = ":log" * self.log + (f":{self.points}" if self.points else "")
        return f"{self.name}={self.low:g}..{self.high:g}{marks}"

    def at_points(self) -> Values:
        """Return the points as values: rounded to six digits, or to whole numbers."""
        ends = [math.log(end) if self.log else float(end) for end in (self.low, self.high)]
        count = self.points or 2
        raw = [ends[0] + (ends[1] - ends[0]) * k / (count - 1) for k in range(count)]
        found = [math.exp(value) if self.log else value for value in raw]
        found[0], found[-1] = self.low, self.high
        rounded = [round(value) if self.whole else float(f"{value:.6g}") for value in found]
        return Values(self.name, tuple(dict.fromkeys(rounded)))


Axis = Values | Range


def axis(name: str, given: Any) -> Axis:
    """Return what a setting is varied over.

    Args:
        name: "lr", or "optimizer_options.eps" for an item of options; dashes count as underscores, as in options.
        given: a sequence of values, one text of values or a range as on the command line, or an `Axis` itself.
    Raises:
        ClipeduError: an unknown setting, one that a sweep cannot vary, or a value or range that it does not take.
    """
    field, dot, item = name.strip().partition(".")
    name = f"{field.replace('-', '_')}{dot}{item}"
    field, _ = split_name(name)
    if field == "seed":
        raise ClipeduError(f"{name} is not varied as a setting: give the seeds of each trial with --seeds 0 1 2")
    if field in (*HOW, "holdout"):
        raise ClipeduError(f"{name} cannot be varied: it changes how a run is done and watched, not what it learns")
    if isinstance(given, str):
        found = _from_text(name, given)
    elif isinstance(given, (Values, Range)):
        found = replace(given, name=name)
    elif isinstance(given, Sequence) and len(given):
        found = Values(name, tuple(given))
    else:
        raise ClipeduError(f"{name}={quoted(given)} is nothing to vary over: {HELP}")
    if isinstance(found, Range):
        found = _checked_range(found)
        return found.at_points() if found.points else found
    kept = found.values if name.partition(".")[1] else tuple(checked_setting(name, value) for value in found.values)
    for value in kept:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ClipeduError(f"{name}: {quoted(value)} cannot be kept in JSON") from None
    check_distinct(name, kept)
    return Values(name, kept)


def axes(given: Mapping[str, Any] | Sequence[str]) -> dict[str, Axis]:
    """Return what is varied, by name, of "NAME=VALUES" words or of a mapping.

    Raises:
        ClipeduError: as `axis`; a word without "=", or a setting that is named twice.
    """
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        for word in given:
            if "=" not in word:
                raise ClipeduError(f"{quoted(word)} is not NAME=VALUES: {HELP}")
        pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in given]
    found = [axis(name, what) for name, what in pairs]
    check_distinct("varied settings", [one.name for one in found])
    return {one.name: one for one in found}


def _from_text(name: str, text: str) -> Axis:
    kind = number_kind(name)
    if kind is not None and (found := _range(name, text, kind)) is not None:
        return found
    words = _split(text)
    if not all(words):
        raise ClipeduError(f"{name}={text}: there is an empty value. {HELP[:1].upper()}{HELP[1:]}")
    return Values(name, tuple(read_setting(name, word) for word in words))


def _range(name: str, text: str, kind: str) -> Range | None:
    """Read LOW..HIGH[:log][:POINTS]; None if the text is no range."""
    low, dots, rest = text.strip().partition("..")
    if not dots:
        return None
    high, *marks = rest.split(":")
    ends = [_number(word) for word in (low, high)]
    if kind == "any" and None in ends:  # a text of an option with two dots in it
        return None
    unknown = [mark for mark in marks if mark != "log" and not mark.isdecimal()]
    counts = [int(mark) for mark in marks if mark.isdecimal()]
    if None in ends or unknown or len(counts) > 1 or len(marks) != len(set(marks)):
        raise ClipeduError(
            f"{name}={text} is no range: write LOW..HIGH, LOW..HIGH:log or LOW..HIGH:log:POINTS, with numbers"
        )
    bottom, top = ends[0] or 0, ends[1] or 0
    whole = kind == "int" or (kind == "any" and isinstance(bottom, int) and isinstance(top, int))
    return Range(name, bottom, top, "log" in marks, whole, counts[0] if counts else None)


def _checked_range(given: Range) -> Range:
    """Check both ends against the setting."""
    kind = number_kind(given.name)
    if kind is None:
        raise ClipeduError(f"{given}: {given.name} is not a number, so it has no range: give values")
    if kind != "any":
        whole = kind == "int"
        if whole and not (float(given.low).is_integer() and float(given.high).is_integer()):
            raise ClipeduError(f"{given}: {given.name} is a whole number, so the ends of its range are too")
        ends = [checked_setting(given.name, int(end) if whole else end) for end in (given.low, given.high)]
        return Range(given.name, ends[0], ends[1], given.log, whole, given.points)
    return given


def _number(word: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return None


def _split(text: str) -> list[str]:
    """Split at commas that are in no brackets or quotes."""
    words, depth, quote = [""], 0, False
    for letter in text:
        if letter == '"':
            quote = not quote
        depth += 0 if quote else (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quote:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words]


def shown(value: Any) -> str:
    """Return the value of a setting as a word.

    >>> [shown(value) for value in (None, 0.00316227766, "clip", [0.9, 0.99], True)]
    ['none', '0.003162', 'clip', '[0.9, 0.99]', 'true']
    """
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
