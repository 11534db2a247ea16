"""What a grid of settings says: its good part, its tilt, its peak.

share_near_best   how much of the grid is good: the share of settings within 90 % of the best
tilt              the correlation of the two settings over the grid, each point weighted with score^4. Where each setting has a
                  best value of its own, score = f(x) g(y), it is 0, whatever f and g; where lr x decay alone counts it tends to -1
                  (as far as the grid's ends let it). For exp of a quadratic form on a wide grid it is the form's correlation
peak              the best value on a logarithmic scale, between the points: the top of a parabola through the best point
                  and its neighbours
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WITHIN = 0.9  # of the best score: a good setting
POWER = 4  # a score of half the best weighs a sixteenth


def share_near_best(scores: np.ndarray, best: float | None = None) -> float:
    """Return the share of scores of at least 90 % of the best.

    Args:
        scores: any shape, at least 0; nan of a run that failed counts as 0.
        best: what is compared with; None is the best of these.
    """
    values = np.nan_to_num(np.asarray(scores, dtype=float))
    top = values.max() if best is None else best
    return float((values >= WITHIN * top).mean()) if top > 0 else math.nan


def tilt(scores: np.ndarray, x: Sequence[float], y: Sequence[float]) -> float:
    """Return the correlation of log x and log y, weighted by score^4.

    Args:
        scores: [len(y), len(x)], at least 0; nan of a run that failed counts as 0.
        x, y: values of the two settings, above 0.
    Returns:
        -1 to 1; nan where the weight is all in one row or one column.
    """
    weight = np.nan_to_num(np.asarray(scores, dtype=float)) ** POWER
    if not weight.sum() > 0:
        return math.nan
    weight /= weight.sum()
    at_y, at_x = np.meshgrid(np.log(y), np.log(x), indexing="ij")
    at_x, at_y = (at - (weight * at).sum() for at in (at_x, at_y))
    spread = (weight * at_x**2).sum() * (weight * at_y**2).sum()
    return float((weight * at_x * at_y).sum() / math.sqrt(spread)) if spread > 1e-24 else math.nan


@dataclass(frozen=True)
class Peak:
    """The best value of a setting.

    Attributes:
        at: the value; nan where no run has a score.
        inside: whether it is between the ends of those tried; if not, the best may be beyond.
    """

    at: float
    inside: bool


def peak(x: Sequence[float], scores: Sequence[float]) -> Peak:
    """Return where a curve over a logarithmic scale is highest.

    Args:
        x: values tried, above 0, rising.
        scores: of each; nan of a run that failed counts as 0.
    Returns:
        the top of the parabola through the best point and its two neighbours, which is between the middles of the two gaps
        where these are equal; the best point itself where it is at an end.
    """
    values = np.nan_to_num(np.asarray(scores, dtype=float))
    best = int(values.argmax())
    if not values[best] > 0:
        return Peak(math.nan, inside=False)
    if best in (0, len(values) - 1):
        return Peak(float(x[best]), inside=False)
    at = np.log(np.asarray(x, dtype=float)[best - 1 : best + 2])
    gap, drop = at - at[1], values[best - 1 : best + 2] - values[best]
    # drop = a gap^2 + b gap, through the two neighbours
    (a, b) = np.linalg.solve([[gap[0] ** 2, gap[0]], [gap[2] ** 2, gap[2]]], [drop[0], drop[2]])
    top = -b / (2 * a) if a < 0 else 0.0
    return Peak(float(math.exp(at[1] + min(max(top, gap[0]), gap[2]))), inside=True)
