"""The learning rate over a run: warm-up, then cosine or constant."""

from __future__ import annotations

import math

from clipedu.utils.errors import unknown_name

SCHEDULES = ("cosine", "constant")


def learning_rate(step: int, *, peak: float, total: int, warmup: int, schedule: str = "cosine") -> float:
    """Return the learning rate of a step.

    lr rises linearly over the first `warmup` steps: peak/warmup, 2 peak/warmup, ... and is `peak` at step warmup - 1. Then
    "constant" stays there, and "cosine" follows peak/2 * (1 + cos(pi * t)) with t = 0 at step warmup - 1 and t = 1 at step
    `total`, which is not taken: so every step moves (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        step: 0 <= step < total.
        peak: largest learning rate.
        total: steps of the run.
        warmup: steps in which lr rises.
        schedule: one of `SCHEDULES`.
    Raises:
        ClipeduError: an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    return peak / 2 * (1 + math.cos(math.pi * (step - warmup + 1) / (total - warmup + 1)))
