"""Statistics: rank correlation and confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def rank_correlation(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> np.ndarray:
    """Compute Spearman's rank correlation along the last axis.

    x and y are [..., N], the result is [...], from -1 to 1.

    Equal values share the mean of their ranks. It is 0 where all of x or all of y are equal, so that there is no order
    (`scipy.stats.spearmanr` gives nan there, and correlates the columns of a table with one another, not two tables row by
    row).
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(values), axis=-1) for values in (x, y)]
    a, b = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    spread = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return (a * b).sum(-1) / np.where(spread > 0, spread, 1)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Compute the mean and half of Student's 95 % interval of it.

    The interval is nan for fewer than two values.
    """
    from scipy.stats import t

    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return float(data.mean()) if len(data) else math.nan, math.nan
    half = t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data))
    return float(data.mean()), float(half)
