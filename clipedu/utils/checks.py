"""Checks of numbers and names that a user gave.

The errors repeat what was given and what is allowed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

from clipedu.utils.errors import ClipeduError, quoted, unknown_name


def is_finite_number(value: object) -> bool:
    """Return whether `value` is a finite int or float, and no bool.

    >>> is_finite_number(2), is_finite_number(float("nan")), is_finite_number(True)
    (True, False, False)
    """
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def checked_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a float if it is a finite number within the limits.

    >>> checked_number("gamma", 1, above=0, at_most=1)
    1.0

    Args:
        name: of the option, for the message.
        value: what the user gave.
        above, at_least, at_most, below: limits, as far as given.

    Raises:
        ClipeduError: such as "gamma must be a number > 0 and <= 1, got 2".
    """
    candidates = (
        (">", above, operator.gt),
        (">=", at_least, operator.ge),
        ("<=", at_most, operator.le),
        ("<", below, operator.lt),
    )
    limits = [(sign, limit, holds) for sign, limit, holds in candidates if limit is not None]
    if not is_finite_number(value) or not all(holds(value, limit) for _, limit, holds in limits):
        allowed = " and".join(f" {sign} {limit:g}" for sign, limit, _ in limits)
        raise ClipeduError(f"{name} must be a number{allowed}, got {quoted(value)}")
    return float(value)


def checked_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Args:
        name: of the option, for the message.
        value: what the user gave.
        allowed: all values that can be used.

    Raises:
        ClipeduError: any other value; the message lists what is allowed.
    """
    if value not in allowed:
        raise unknown_name(name, value, allowed)
    return value


def check_distinct(name: str, values: Iterable[object]) -> None:
    """Check that a list names nothing twice.

    Values count as the same where Python calls them equal: 0 and 0.0, too.

    >>> check_distinct("seeds", [0, 1, 2])

    Args:
        name: of the list, for the message.
        values: what the user gave.

    Raises:
        ClipeduError: such as "seeds: 0 is given twice, give each value once".
    """
    seen: list[object] = []  # values need not have a hash
    for value in values:
        if value in seen:
            raise ClipeduError(f"{name}: {quoted(value)} is given twice, give each value once")
        seen.append(value)
