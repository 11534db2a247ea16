"""Statistics: rank correlation and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def rank_correlation(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis of x and y [..., N]: [...], from -1 to 1.

    Equal values share the mean of their ranks. Where all of x or all of y are equal there is no order, and it is 0.
    """
    from scipy.stats import rankdata

    x, y = (rankdata(np.asarray(side), axis=-1) for side in (x, y))
    x, y = (side - side.mean(-1, keepdims=True) for side in (x, y))
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return (x * y).sum(-1) / np.where(spread > 0, spread, 1)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's 95 % interval of it (nan for fewer than two values)."""
    from scipy.stats import t

    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, math.nan
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)
