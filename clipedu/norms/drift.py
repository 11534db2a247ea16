r"""*Drift*: the balance of a weight whose contributions depend on it.

The balance of `equilibrium.py` rests on contributions that are noise. On a trained model two things can be measured, at any
step and from one gradient: the length of a contribution q, and its cosine with the weight,

    tuc    E||q||^2          the step will add -lr q in the end, all of it, little by little
    drift  cos(w, q)         > 0: this minibatch makes w shorter, < 0: longer, 0: neither

(`minibatch.py` measures both.) Where drift is not 0, each step also takes lr ||w|| ||q|| drift away, and decay balances both.
With x = ||w||, T = tuc and c = drift

$$ s (2 - s)\, x^2 + 2\, \mathrm{lr}\, (1 - s)\, c \sqrt{T}\, x = \mathrm{lr}^2\, T $$

whose positive root is `norm_with_drift`; c = 0 gives the balance without. Momentum needs no term of its own: each
minibatch is counted once. Correlations between gradients of neighbouring steps are not counted.

Which layers drift? A layer that a normalisation follows cannot change the output by its length, so <w, g> = 0 (Euler), and
nearly so for q. Others have a preferred length: the feed-forward layers of a transformer shrink under noise, queries and keys
grow. There decay and noise do not set the norm alone.

Derived here; checked against random walks in the tests.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from clipedu.norms.contribution import average, contribution_factor
from clipedu.utils.errors import ClipeduError


def norm_with_drift(lr: float, shrink: float, tuc: float, drift: float = 0.0) -> float:
    """Return ||w|| at which decay, injection and drift balance.

    It is inf where nothing bounds it.

    Args:
        lr: learning rate, >= 0.
        shrink: lr * weight_decay, in [0, 1).
        tuc: E||q||^2, squared length of a minibatch's total contribution, before lr.
        drift: mean cosine of w and q, in [-1, 1].
    Raises:
        ClipeduError: a shrink or drift out of range.
    """
    if not 0 <= shrink < 1 or not -1 <= drift <= 1:
        raise ClipeduError(f"shrink {shrink:g} must be in [0, 1) and drift {drift:g} in [-1, 1]")
    share, pull = shrink * (2 - shrink), (1 - shrink) * drift
    root = math.sqrt(pull**2 + share)
    if pull + root == 0 or (share == 0 and pull <= 0):
        return math.inf
    return lr * math.sqrt(tuc) / (pull + root)  # the positive root without cancellation


def predicted_with_drift(
    start: float,
    lr: ArrayLike,
    shrink: ArrayLike,
    tuc: ArrayLike,
    drift: ArrayLike = 0.0,
    alpha: float = 1.0,
) -> np.ndarray:
    """Return ||w|| after each step, [steps], where contributions drift.

    Sizes and drifts may change; transients are included.

    Args:
        start: ||w|| before the first step.
        lr, shrink, tuc, drift: of each step, as in `norm_with_drift`; a single number applies to all steps, but one must be a sequence.
        alpha: weight of the newest gradient, 1 - beta: what arrives late has been shrunk less often, which takes a share of
            about shrink / alpha off tuc.
    Raises:
        ClipeduError: an alpha out of range.
    """
    columns = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (lr, shrink, tuc, drift)))
    memory, squares, n = average(alpha), np.empty(len(columns[0])), start**2
    for t, (step, s, size, c) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        size *= contribution_factor(memory, keep=1 - s) / contribution_factor(memory)
        n = (1 - s) ** 2 * n + step**2 * size - 2 * step * (1 - s) * c * math.sqrt(n * size)
        n = squares[t] = max(n, 0.0)
    return np.sqrt(squares)
