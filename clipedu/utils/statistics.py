"""Statistics: rank correlation, share of wins, confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas
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


def share_of_wins(one: np.ndarray, other: np.ndarray) -> float:
    """Compute how often a value of one kind is larger than one of the other.

    It is the area under the ROC curve, and the U of Mann and Whitney (1947) over all pairs: 0 to 1, a tie counting half.

    Args:
        one: values [N].
        other: values [M].
    """
    ordered = np.sort(other)
    beaten, tied = np.searchsorted(ordered, one, "left"), np.searchsorted(ordered, one, "right")
    return float((beaten + tied).mean() / (2 * len(ordered)))


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


def student_ends(values: pandas.Series) -> tuple[float, float]:
    """Return the ends of Student's 95 % interval of the mean.

    They are those of the mean itself for one value: what seaborn takes as `errorbar`.
    """
    mean, half = interval(values.tolist())
    return (mean, mean) if math.isnan(half) else (mean - half, mean + half)


def geometric_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Compute the geometric mean and the ends of its interval.

    It is Student's 95 % interval of the mean of the logarithms; nan for fewer than two values.

    Args:
        values: above 0.
    """
    middle, half = interval(np.log(np.asarray(values, dtype=float)).tolist())
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)
