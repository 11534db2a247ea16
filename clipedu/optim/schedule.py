"""The learning rate over a run: a linear warm-up, then a half cosine to 0, or constant."""

from __future__ import annotations

import math


def learning_rate(step: int, *, peak: float, total: int, warmup: int, schedule: str = "cosine") -> float:
    """Learning rate of step `step` (counted from 0) of `total`.

    lr rises linearly over the first `warmup` steps, reaches `peak` at step `warmup - 1`, and then, for "cosine", follows
    peak/2 * (1 + cos(pi * t)) where t goes from 0 to 1 over the steps that remain; for "constant" it stays.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    progress = (step - warmup + 1) / max(1, total - warmup + 1)
    return peak / 2 * (1 + math.cos(math.pi * progress))
