"""Intervals of a run, as one word: "200" steps, "1min", "0.5epoch".

>>> parse_interval("30s", ("time",)), parse_interval(200, ("time",))
(Interval(number=0.5, unit='min'), Interval(number=200, unit='step'))
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MINUTES = {"s": 1 / 60, "min": 1.0, "h": 60.0}
WORDS = {"time": "minutes (1min, also 30s or 2h)", "epoch": "epochs (1epoch, 0.5epoch)"}


@dataclass(frozen=True)
class Interval:
    """How often something is done.

    Attributes:
        number: above 0.
        unit: "step", "epoch" or "min".
    """

    number: float
    unit: str

    def steps(self, steps_per_epoch: int) -> int | None:
        """Return the interval in steps, at least 1; None for a time."""
        if self.unit == "min":
            return None
        return max(1, round(self.number * (steps_per_epoch if self.unit == "epoch" else 1)))


def parse_interval(value: int | str, kinds: tuple[str, ...]) -> Interval:
    """Read an interval.

    Args:
        value: a number of steps, or a number with its unit: step, epoch, s, min or h.
        kinds: which are allowed beside steps: "time", "epoch".
    Raises:
        ValueError: it is none of these, or not above 0; the message says what is allowed.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(steps?|epochs?|s|min|h)?", str(value).strip().lower())
    allowed = " or ".join(["a number of steps (200)", *(WORDS[kind] for kind in kinds)])
    number, unit = (float(found[1]), (found[2] or "step")) if found else (0.0, "")
    unit = unit.rstrip("s") or "s"
    whole = unit != "step" or number.is_integer()
    kind = "time" if unit in MINUTES else unit
    if not 0 < number < 1e12 or not whole or kind not in ("step", *kinds):
        raise ValueError(f"must be {allowed}, above 0")
    if kind == "time":
        return Interval(number * MINUTES[unit], "min")
    return Interval(int(number) if unit == "step" else number, unit)


def interval_word(value: int | str) -> int | str:
    """Return an interval as it is kept.

    Steps are a number, others a word without spaces.
    """
    word = re.sub(r"\s+", "", str(value)).lower()
    steps = re.fullmatch(r"([0-9]+)(steps?)?", word)
    return int(steps[1]) if steps else word
