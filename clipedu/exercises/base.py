"""What every exercise's check is made of: the verdict it returns, and how an answer is compared with the right one."""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What a check found: `passed`, and a `message` that teaches. A notebook shows it as a box."""

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
    """Decorator: a check that returns a message, or raises `NotYet` with one, becomes a function that returns a `Verdict`.

    A stub (NotImplementedError) and an answer that stops with an error of its own are told apart from a wrong answer.
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
        except Exception as error:  # noqa: BLE001  whatever the learner's code does is told, not raised
            first = (str(error).strip() or "no message").splitlines()[0]
            return Verdict(False, f"{name} stopped with {type(error).__name__}: {first}")

    return wrapped


def compare(answer: Any, right: float, wrong: Mapping[float, str], case: str) -> None:
    """Raise NotYet unless `answer` is `right`; if it is a known `wrong` value (and that differs from `right`), say why."""
    value = number(answer)
    if close(value, right):
        return
    for known, why in wrong.items():
        if close(value, known):
            raise NotYet(f"for {case} you got {value:.4g}, and it should be {right:.4g}: {why}.")
    raise NotYet(f"for {case} you got {value:.4g}, and it should be {right:.4g}.")


def number(value: Any) -> float:
    """An answer as a float. Raises NotYet if it is not one number."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"return one number, not a {type(value).__name__}") from None


def numbers(answer: Any, what: str, names: str) -> list[float]:
    """The answer as floats, as many as there are names. Raises NotYet otherwise."""
    count = len(names.split(", "))
    if not isinstance(answer, (tuple, list)) or len(answer) != count:
        raise NotYet(f"return {what}: `return {names}`")
    return [number(value) for value in answer]


def close(value: float, other: float) -> bool:
    """Equal but for rounding."""
    return math.isclose(value, other, rel_tol=1e-5, abs_tol=1e-9)
