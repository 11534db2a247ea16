"""Options of optimizers: their ranges and kinds.

Optimizers check them late or not at all: torch's Adam indexes `betas[1]`, and ignores a third; SGD takes a momentum of 2 and
diverges. What only a step shows, `trial.py` finds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from clipedu.utils.checks import checked_number, is_finite_number
from clipedu.utils.errors import ClipeduError, quoted

_SHARE: dict[str, Any] = {"at_least": 0, "below": 1}
_POSITIVE: dict[str, Any] = {"at_least": 0}
RANGES: dict[str, dict[str, Any]] = {
    "betas": _SHARE,
    "beta": _SHARE,
    "beta1": _SHARE,
    "beta2": _SHARE,
    "momentum": _SHARE,
    "alpha": {"at_least": 0, "at_most": 1},  # Scion's is the weight of the newest gradient, RMSprop's that of the past
    "dampening": {"at_least": 0, "at_most": 1},
    "eps": _POSITIVE,
    "momentum_decay": _POSITIVE,
    "lr_decay": _POSITIVE,
    "initial_accumulator_value": _POSITIVE,
    "ns_steps": {"at_least": 1, "at_most": 100},  # published: 5
}
"""Range of options that mean the same in all optimizers."""
FLAGS = ("foreach", "fused")  # none is their default: torch chooses


def check_ranges(options: Mapping[str, Any]) -> None:
    """Check the numbers among options of an optimizer.

    Raises:
        ClipeduError: a number that is not finite, or not in its range (`RANGES`).
    """
    for name, value in options.items():
        if name in RANGES and value is not None:
            given = value if isinstance(value, (list, tuple)) else [value]
            for number in given:
                checked_number(name if number is value else f"each of {name}", number, **RANGES[name])
        elif isinstance(value, float) and not is_finite_number(value):
            raise ClipeduError(f"{name} must be a finite number, got {value!r}")


def check_heads(heads: Any) -> None:
    """Check that heads are a list of names.

    Raises:
        ClipeduError: they are not.
    """
    if heads is not None and not (
        isinstance(heads, (list, tuple, set, frozenset)) and all(isinstance(head, str) for head in heads)
    ):
        raise ClipeduError(f"heads={quoted(heads)} must be a list of names of modules, as ['image_projection']")


def check_kinds(name: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Check that options are of the kind of their defaults.

    A number stands where one is expected, and a list has as many numbers: torch takes three betas and ignores the third.

    Args:
        name: of the optimizer.
        options: what a user gave.
        defaults: of the optimizer, by name, as it keeps them in its groups.
    Raises:
        ClipeduError: one that is of another kind.
    """
    for key, value in options.items():
        default = defaults.get(key) if value is not None else None  # none switches some of them off
        if isinstance(default, bool):
            right, kind = isinstance(value, bool), "true or false"
        elif key in FLAGS:
            right, kind = value is None or isinstance(value, bool), "true, false or none"
        elif isinstance(default, (int, float)):
            right, kind = is_finite_number(value), "a number"
        elif isinstance(default, (list, tuple)):
            right = (
                isinstance(value, (list, tuple)) and len(value) == len(default) and all(map(is_finite_number, value))
            )
            kind = f"a list of {len(default)} numbers"
        else:
            continue
        if not right:
            usual = "none" if default is None else json.dumps(default)
            raise ClipeduError(f"optimizer {name!r}: {key}={quoted(value)} must be {kind}, as {usual}, its default")


def refused(name: str, settings: Mapping[str, Any], error: BaseException) -> ClipeduError:
    """Make the error for settings that an optimizer does not take."""
    nothing = [key for key, value in settings.items() if value is None]
    if nothing and isinstance(error, (TypeError, AttributeError)):  # Python's words for what cannot be done with None
        return ClipeduError(
            f"optimizer {name!r} does not take {' or '.join(nothing)}=none: give a value, or leave it out"
        )
    given = ", ".join(f"{key}={quoted(value)}" for key, value in settings.items())
    lines: Sequence[str] = str(error).splitlines() or [type(error).__name__]
    return ClipeduError(f"optimizer {name!r} does not take {given}: {lines[0][:300]}")
