r"""The *total update contribution* (TUC) of a minibatch to a weight.

A gradient g_t moves the weight not once but at every step while the optimizer remembers it. All optimizers here feed their
step with a weighted sum of past gradients, and three numbers say which:

    x_t = newest g_t + older (g_{t-1} + fade g_{t-2} + fade^2 g_{t-3} + ...)

    average        alpha, (1-alpha) alpha, 1-alpha              Adam, Scion; alpha is the weight of the newest, 1 - beta
    nesterov       (1-b)(1+b), (1-b) b^2, b                     NAdam, Muon: one step of the average ahead
    heavy_ball     1, mu, mu                                    SGD with momentum mu
    lion           1-b1, b1 (1-b2), b2                          Lion steps with b1 and remembers with b2

If gradients are noise (mean 0, independent from step to step, all of one size), the updates u_t made of x_t still resemble
their neighbours: corr(u_t, u_{t+k}) = rho_k > 0. A sum of updates then grows like one of *independent* updates with a
squared size K times larger,

$$ \mathrm{TUC} = K \, E\|u\|^2, \qquad K = 1 + 2 \sum_{k \ge 1} \rho_k. $$

For a plain average rho_k = (1-alpha)^k and K = (2-alpha)/alpha. How the optimizer normalises x_t decides the rest:

    none, adam    u ~ x               K as it is. Adam's ||u||^2 is d alpha/(2-alpha) for d numbers, so TUC = d for any beta
    vector        u = x / ||x||       the same K in many dimensions, but ||u|| stays: TUC grows with K
    sign          u = sign(x)         the arcsine law, rho_k -> (2/pi) arcsin(rho_k): signs are less correlated
    polar         u = U V^T           between the two: a square matrix is nearly as bad as signs, a narrow one a vector

Of any u(x) of Gaussian noise the correlation is a power series in that of x with weights that are not negative and sum to 1
(Hermite's expansion). For polar factors `_POLAR` holds four of them by the ratio of the sides, fitted by us to Monte-Carlo
of matrices with 64 columns; K is right to 0.5 % from about 32 rows on, and for 8 x 8 some 3 % too large. Polar factors by
five Newton-Schulz steps are taken as exact ones.

Sources: Kosson et al. 2023 (arXiv:2305.17212) for TUC; Chou 2025 (arXiv:2512.08217) for normalised updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipedu.utils.errors import ClipeduError, unknown_name

NORMALISERS = ("none", "adam", "vector", "sign", "polar")

_POLAR_POWERS = (1, 3, 9, 81)
_POLAR = {  # short side / long side -> weights of these powers
    0.0: (1.0, 0.0, 0.0, 0.0),
    0.125: (0.9655, 0.033, 0.0015, 0.0),
    0.25: (0.935, 0.060, 0.005, 0.0),
    0.5: (0.866, 0.109, 0.025, 0.0),
    0.75: (0.797, 0.133, 0.070, 0.0),
    1.0: (0.717, 0.129, 0.119, 0.035),
}


@dataclass(frozen=True)
class Memory:
    """Weights of past gradients in a step's input.

    They are `newest`, then `older` times 1, `fade`, `fade`^2, ... (0 <= fade < 1).
    """

    newest: float
    older: float = 0.0
    fade: float = 0.0

    @property
    def total(self) -> float:
        """What a gradient adds in the end, if nothing is normalised."""
        return self.newest + self.older / (1 - self.fade)

    @property
    def squared_size(self) -> float:
        """E||x||^2 / E||g||^2 for independent gradients."""
        return self.newest**2 + self.older**2 / (1 - self.fade**2)

    @property
    def neighbour(self) -> float:
        """Correlation of x with the x of the next step.

        At a distance of k steps it is this times fade^(k-1).
        """
        return self.older * (self.newest + self.older * self.fade / (1 - self.fade**2)) / self.squared_size


def average(alpha: float) -> Memory:
    """Return an exponential average; alpha in (0, 1] weighs the newest.

    Raises:
        ClipeduError: alpha out of range.
    """
    if not 0 < alpha <= 1:
        raise ClipeduError(f"alpha={alpha!r} must be above 0 and at most 1 (0.1 is momentum 0.9)")
    return Memory(alpha, (1 - alpha) * alpha, 1 - alpha)


def nesterov(beta: float) -> Memory:
    """Return beta * average + (1 - beta) * newest.

    Muon uses it, and NAdam in the long run.
    """
    return Memory((1 - beta) * (1 + beta), (1 - beta) * beta**2, beta)


def heavy_ball(momentum: float, dampening: float = 0.0, nesterov: bool = False) -> Memory:
    """Return the memory of torch's SGD: b <- momentum b + (1 - dampening) g.

    The step is along b, or along g + momentum b (Nesterov).

    Args:
        momentum: in [0, 1).
        dampening: what is taken off the newest gradient; 0 with Nesterov.
        nesterov: whether the step is along g + momentum b.
    """
    if nesterov:
        return Memory(1 + momentum, momentum**2, momentum)
    return Memory(1 - dampening, (1 - dampening) * momentum, momentum)


def lion(beta1: float, beta2: float) -> Memory:
    """Return the memory of Lion.

    It steps along the sign of beta1 m + (1 - beta1) g. Then m <- beta2 m + (1 - beta2) g.
    """
    return Memory(1 - beta1, beta1 * (1 - beta2), beta2)


def contribution_factor(
    memory: Memory, normaliser: str = "vector", shape: tuple[int, int] | None = None, keep: float = 1.0
) -> float:
    """Return K = 1 + 2 sum_k keep^k rho_k, for updates made of noise.

    Args:
        memory: weights of past gradients.
        normaliser: one of `NORMALISERS`.
        shape: rows and columns of the matrix, for "polar".
        keep: 1 - shrink, what a step leaves of the weight. 1 gives TUC / E||u||^2. Smaller values give the exact balance:
            ||w||^2 = lr^2 E||u||^2 K / (1 - keep^2), where a minibatch is half forgotten before it has arrived.
    Raises:
        ClipeduError: an unknown normaliser, "polar" without a shape.
    """
    if normaliser not in NORMALISERS:
        raise unknown_name("normaliser", normaliser, NORMALISERS)
    if memory.older == 0:
        return 1.0
    if normaliser == "sign":
        lags = np.arange(1 if memory.fade == 0 else _lags(memory.fade * keep))
        rho = 2 / math.pi * np.arcsin(memory.neighbour * memory.fade**lags)
        return 1 + 2 * float((keep ** (lags + 1) * rho).sum())
    powers = {1: 1.0}
    if normaliser == "polar":
        if shape is None:
            raise ClipeduError("normaliser 'polar' needs shape=(rows, columns) of the matrix")
        powers = dict(zip(_POLAR_POWERS, _polar_weights(min(shape) / max(shape)), strict=True))
    sums = (w * memory.neighbour**p / (1 - keep * memory.fade**p) for p, w in powers.items())
    return 1 + 2 * keep * sum(sums)


def fade_of(factor: float, keep: float = 1.0) -> float:
    """Return the fade of the average that has this `contribution_factor`.

    It inverts (1 + keep fade) / (1 - keep fade).
    """
    return (factor - 1) / (keep * (factor + 1))


def _lags(fade: float) -> int:
    """Return how many steps it takes until fade^k is below 1e-17."""
    return max(1, math.ceil(math.log(1e-17) / math.log(fade))) if fade > 0 else 1


def _polar_weights(ratio: float) -> list[float]:
    """Return the row of `_POLAR` for a ratio of sides in (0, 1].

    Between its rows the values are interpolated linearly.
    """
    return [float(np.interp(ratio, list(_POLAR), column)) for column in zip(*_POLAR.values(), strict=True)]
