"""The barrier between two models: how deep a straight line dips.

Between A and B lie the models (1 - t) A + t B. Where their scores stay on the straight line between the scores of the ends,
or above it, the two are in one basin: a fine-tuned model and its start mostly are. Where the score falls far below it, they are
not, as with two runs that began at different random weights (Frankle et al. 2019, arXiv:1912.05671).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class Barrier:
    """The point between two ends that lies lowest under their line.

    Attributes:
        height: the straight line there minus the score; below 0 where even the lowest point is above the line.
        t: the point.
        score: its score.
        line: the straight line between the scores of the ends, at t.
    """

    height: float
    t: float
    score: float
    line: float


def barrier(t: Sequence[float], scores: Sequence[float]) -> Barrier:
    """Return the point that lies lowest under the line of the ends.

    Args:
        t: increasing, from the first end to the last.
        scores: one a point, higher is better.
    Raises:
        ClipeduError: no point between the ends.
    """
    if len(t) < 3:
        raise ClipeduError(f"{len(t)} points have none between the ends: a barrier needs at least 3")
    places, values = np.asarray(t, dtype=float), np.asarray(scores, dtype=float)
    line = np.interp(places, [places[0], places[-1]], [values[0], values[-1]])
    lowest = 1 + int(np.argmax((line - values)[1:-1]))
    return Barrier(*(float(x[lowest]) for x in (line - values, places, values, line)))


def barrier_text(found: Barrier, error: float, unit: str = "points") -> str:
    """Say in words what a barrier means.

    Args:
        found: of a score.
        error: one standard error of the score; within 1.96 of it nothing is called a barrier.
        unit: of the score.
    """
    where = f"The lowest point under the straight line between the ends is t = {found.t:g}"
    if found.height <= 0:
        return f"{where}, and even that lies {abs(found.height):.2f} {unit} above the line: there is no barrier."
    size = (
        f"{where}: {found.score:.2f}, where the line is at {found.line:.2f}. The barrier is {found.height:.2f} {unit}"
    )
    if found.height <= 1.96 * error:
        return f"{size}, less than 1.96 standard errors of the score ({error:.2f}): none is to be seen."
    return f"{size}: the models between the ends are worse than a mean of the ends would be."
