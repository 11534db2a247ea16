"""What the checks share: the verdict, and the comparison of an answer."""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What a check found, which a notebook shows as a box.

    Attributes:
        passed: whether the answer is right.
        message: what is wrong and why; of a right answer, what it is good for.
    """

    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{'Right' if self.passed else 'Not yet'}: {self.message}"

    def _repr_html_(self) -> str:
        colour, word = ("#009E73", "Right") if self.passed else ("#D55E00", "Not yet")
        style = f"border-left:6px solid {colour};padding:4px 12px"
        return f'<div style="{style}"><b style="color:{colour}">{word}.</b> {html.escape(self.message)}</div>'


class NotYet(Exception):
    """Raised inside a check: the answer is wrong, and the message says why."""


def exercise(check: Callable[[Any], str]) -> Callable[[Any], Verdict]:
    """Decorate a check, so that it returns a `Verdict`.

    The check returns a message, or raises `NotYet` with one.
    An exercise that is still to be done (NotImplementedError) and a function that raises get messages of their own.
    """

    @functools.wraps(check)
    def wrapped(answer: Any) -> Verdict:
        if not callable(answer):
            return Verdict(False, f"the check takes your function, not a {type(answer).__name__}: give its name alone.")
        name = getattr(answer, "__name__", "your function")
        try:
            return Verdict(True, check(answer))
        except NotYet as why:
            return Verdict(False, str(why))
        except NotImplementedError as hint:
            return Verdict(False, f"{name} is still the stub. {hint}")
        except Exception as error:  # noqa: BLE001  whatever the learner's code raises is shown
            first = (str(error).strip() or "no message").splitlines()[0]
            return Verdict(False, f"{name} stopped with {type(error).__name__}: {first}")

    return wrapped


def compare(answer: Any, right: float, wrong: Mapping[float, str] | Mapping[int, str], case: str) -> None:
    """Compare a number with the right one, and explain known wrong ones.

    Args:
        answer: what the learner's function returned.
        right: the right number.
        wrong: what common errors give, with the explanation of each; one that equals `right` is ignored.
        case: the inputs, for the message.
    Raises:
        NotYet: the answer is not `right`.
    """
    value = as_float(answer)
    if close(value, right):
        return
    for known, why in wrong.items():
        if close(value, known):
            raise NotYet(f"for {case} you got {value:.4g}, and it should be {right:.4g}: {why}.")
    raise NotYet(f"for {case} you got {value:.4g}, and it should be {right:.4g}.")


def as_float(value: Any) -> float:
    """Convert an answer to a float.

    Raises:
        NotYet: it is not one number.
    """
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return one number, not a {type(value).__name__}") from None


def as_floats(answer: Any, what: str, names: str) -> list[float]:
    """Convert an answer to a list of floats.

    Args:
        answer: what the learner's function returned.
        what: what it should return, in words.
        names: names of the numbers, joined by ", ".
    Raises:
        NotYet: it is no tuple or list of that many numbers.
    """
    count = len(names.split(", "))
    if not isinstance(answer, (tuple, list)) or len(answer) != count:
        raise NotYet(f"return {what}: `return {names}`")
    return [as_float(value) for value in answer]


def close(value: float, other: float) -> bool:
    """Return whether two numbers are equal but for rounding."""
    return math.isclose(value, other, rel_tol=1e-5, abs_tol=1e-9)
