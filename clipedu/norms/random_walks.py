r"""A random walk that obeys an optimizer: thousands of weights that only noise moves, and the theory beside them.

Everything in `equilibrium.py` is about gradients that are noise. Here they are, by construction: each of many chains holds a
weight w, gets a fresh Gaussian gradient at each step, and takes the optimizer's step with momentum, decay law and schedule:

    x <- (1 - alpha) x + alpha g,    u = normalise(x),    w <- (1 - lr lambda) w - lr u

The scale is chosen so that C = E||u||^2 = 1 whatever the normaliser; what a walk tells is ||w||^2 / C, averaged over chains
with its standard error. What differs from a training run is that nothing is learned: where a layer of a real model leaves
the curve of its walk, its gradients were no noise.

    none    u ~ x: SGD with momentum            sign    every entry of one size: Lion and signSGD
    adam    u = x / sqrt(v): AdamW              polar   all singular values of one size: Muon, Scion's spectral norm
    vector  u = x / ||x||: Scion's bias-rms

The buffer begins as full as it will stay, so that there is no transient of its own.

Source: the experiment is that of Chou 2025 (arXiv:2512.08217) and of Kosson et al. 2023 (arXiv:2305.17212).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipedu.norms.contribution import NORMALISERS, average, contribution_factor, fade_of
from clipedu.norms.equilibrium import _recursion, balance
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.lmo import polar
from clipedu.optim.schedule import learning_rate
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    import pandas

BETA2 = 0.999  # of the normaliser "adam"
_NUMBERS = 32_768  # in all chains together, where their number isn't given: a standard error near 1 %


@dataclass(frozen=True)
class Walk:
    """What the chains did at some of the steps, and what was to be expected. Arrays are [records], float64.

    Attributes:
        settings: the arguments of `sandbox` that made it, `chains` filled in.
        start: ||w||^2 / C before the first step.
        step: number of steps taken, from 1.
        lr, shrink: of that step.
        measured, error: mean over chains of ||w||^2 / C after the step, and its standard error.
        spread: standard deviation over chains.
        cosine: mean over chains of cos(w, u), w before the step.
        predicted, predicted_cosine: the same two means by the recursion of `equilibrium.py`.
        balance: where ||w||^2 / C would settle if lr and lambda stayed as they are at that step; inf without decay.
        Lambda: 2 * (sum of shrinks) over all steps.
    """

    settings: dict[str, Any] = field(repr=False)
    start: float
    step: np.ndarray
    lr: np.ndarray
    shrink: np.ndarray
    measured: np.ndarray
    error: np.ndarray
    spread: np.ndarray
    cosine: np.ndarray
    predicted: np.ndarray
    predicted_cosine: np.ndarray
    balance: np.ndarray
    Lambda: float

    @property
    def gradient(self) -> np.ndarray:
        """Size of the gradient of a scale-invariant layer of this measured norm, G / ||w|| with G = 1."""
        return 1 / np.sqrt(self.measured)

    def frame(self) -> pandas.DataFrame:
        """All arrays as columns."""
        import pandas as pd

        return pd.DataFrame({name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)})


def sandbox(
    normaliser: str = "vector",
    *,
    lr: float = 0.01,
    weight_decay: float = 0.5,
    alpha: float = 1.0,
    law: str = "constant",
    schedule: str = "constant",
    warmup: int = 0,
    steps: int = 1000,
    start: float | None = 0.0,
    shape: int | tuple[int, int] = 32,
    chains: int | None = None,
    renormalised: bool = False,
    scale_invariant: bool = False,
    records: int = 100,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Walk:
    """Walk many chains at once, on the CPU, and say what was to be expected of them.

    Args:
        normaliser: one of `clipedu.norms.contribution.NORMALISERS`.
        lr: the peak, > 0.
        weight_decay: lambda at the peak, >= 0; the shrink lr * weight_decay is below 1.
        alpha: weight of the newest gradient, 1 - beta; 1 is no memory.
        law: one of `clipedu.optim.DECAY_LAWS`.
        schedule, warmup, steps: as in `clipedu.optim.learning_rate`.
        start: ||w||^2 / C before the first step, >= 0. None is the steady state of the peak: its balance, with weights that
            lean as they do there.
        shape: numbers in a weight, or rows and columns (needed for "polar"). Theory is for many dimensions: 16 are few.
        chains: how many; None is as many as make 32,768 numbers in all.
        renormalised: each step keeps its direction but not the length that it gains by going sideways
            (`clipedu.optim.renormalized`).
        scale_invariant: gradients are orthogonal to w and of size ~ 1 / ||w||; for the normaliser "none". C is then that at ||w|| = 1.
        records: how many steps are recorded, evenly spread, the first and the last among them.
        seed: the same seed gives the same walk.
    Raises:
        ClipeduError: an unknown name, a value out of range, arguments that do not fit together.
    """
    settings = {name: value for name, value in locals().items() if name != "dtype"}
    matrix = shape if isinstance(shape, tuple) else None
    size = math.prod(matrix) if matrix else shape
    chains = chains or max(2, _NUMBERS // size)
    memory = average(alpha)
    _check(normaliser, lr, steps, start, matrix, (size, chains), scale_invariant)
    rates = np.array([learning_rate(t, peak=lr, total=steps, warmup=warmup, schedule=schedule) for t in range(steps)])
    shrinks = rates * [coefficient(law, rate, lr_max=lr, weight_decay=weight_decay) for rate in rates.tolist()]

    def settles(rate: float, shrink: float) -> float:
        factor = contribution_factor(memory, normaliser, matrix, keep=1 - shrink)
        squared = balance(rate, shrink, factor - 1 if renormalised else factor)
        return math.sqrt(squared) if scale_invariant else squared

    first = settles(lr, lr * weight_decay) if start is None else start  # ||w||^2 / C
    if math.isinf(first) or (first == 0 and scale_invariant):
        raise ClipeduError(
            f"start={first:g}: without decay, or with scale_invariant, give ||w||^2 / C above 0 to start from"
        )
    keep = 1 - lr * weight_decay
    fade = fade_of(contribution_factor(memory, normaliser, matrix, keep), keep)
    tuc = (1 + fade) / (1 - fade)
    leaning = lr / (1 - keep * fade) if start is None else 0.0  # -<w, u of the step before>
    squares, alignments = _recursion(
        first, rates, shrinks, tuc, fade, scale_invariant, injection=not renormalised, p=fade * leaning
    )
    before = np.concatenate([[first], squares[:-1]])
    length = before if scale_invariant else np.sqrt(before)  # ||w|| / ||u||
    cosines = np.divide(alignments, length, out=np.zeros(steps), where=length > 0)
    recorded = np.unique(np.linspace(0, steps - 1, min(records, steps)).round().astype(int))
    weights = torch.full((chains, size), math.sqrt(first / size), dtype=dtype)
    gradient = 1 / math.sqrt(first) if scale_invariant else 1.0
    noise = _Noise(normaliser, alpha, weights, matrix, seed, gradient)
    if leaning > 0:
        noise.lean(weights, leaning * gradient)
    measured, cosine = _walk(noise, weights, rates, shrinks, set(recorded.tolist()), renormalised, scale_invariant)
    spread = measured.std(1, ddof=1)
    return Walk(
        settings=settings | {"chains": chains},
        start=first,
        step=recorded + 1,
        lr=rates[recorded],
        shrink=shrinks[recorded],
        measured=measured.mean(1),
        error=spread / math.sqrt(chains),
        spread=spread,
        cosine=cosine.mean(1),
        predicted=squares[recorded],
        predicted_cosine=cosines[recorded],
        balance=np.array([settles(rates[t], shrinks[t]) for t in recorded]),
        Lambda=2 * float(shrinks.sum()),
    )


class _Noise:
    """Updates u [chains, size] of mean square 1, from gradients that are noise."""

    def __init__(self, normaliser: str, alpha: float, like: Tensor, shape: tuple | None, seed: int, first: float):
        self.normaliser, self.alpha, self.shape = normaliser, alpha, shape
        self.generator = np.random.default_rng(seed)  # draws normals three times as fast as torch
        self.gradient = torch.empty_like(like)
        self.buffer = self._draw().clone() * first * math.sqrt(alpha / (2 - alpha))
        self.squares = torch.ones_like(like)
        self.scale = math.sqrt((2 - alpha) / (alpha * like.shape[1]))  # of a buffer, to mean square 1

    def _draw(self) -> Tensor:
        self.generator.standard_normal(out=self.gradient.numpy(), dtype=self.gradient.numpy().dtype)
        return self.gradient

    def update(self, w: Tensor, length: Tensor | None) -> Tensor:
        """u of the next step. With `length` = ||w|| the gradient is that of a scale-invariant layer: across w, and ~ 1/||w||."""
        g = self._draw()
        if length is not None:
            across = math.sqrt(w.shape[1] / (w.shape[1] - 1))  # a direction less to be random in
            g.addcmul_((g * w).sum(1, keepdim=True) / length**2, w, value=-1).mul_(across / length)
        self.buffer.lerp_(g, self.alpha)
        if self.normaliser == "adam":
            self.squares.lerp_(g.square_(), 1 - BETA2)
        return self._normalise()

    def _normalise(self) -> Tensor:
        x = self.buffer
        if self.normaliser == "none":
            return x * self.scale
        if self.normaliser == "adam":
            return x / self.squares.sqrt() * self.scale
        if self.normaliser == "sign":
            return x.sign() / math.sqrt(x.shape[1])
        if self.normaliser == "polar":
            x = polar(x.view(-1, *self.shape)).flatten(1)
        return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)

    def lean(self, w: Tensor, amount: float) -> None:
        """Turn the weights, so that they reach `amount` against the buffer's update and keep their length."""
        length, u = torch.linalg.vector_norm(w, dim=1, keepdim=True), self._normalise()
        u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True)
        w -= (w * u).sum(1, keepdim=True) * u
        w *= (length**2 - amount**2).sqrt() / torch.linalg.vector_norm(w, dim=1, keepdim=True)
        w -= amount * u


def _walk(
    noise: _Noise,
    w: Tensor,
    rates: np.ndarray,
    shrinks: np.ndarray,
    recorded: set[int],
    renormalised: bool,
    scale_invariant: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """||w||^2 after, and cos(w, u) before, each recorded step: [records, chains] each, float64."""
    squared, cosine = [], []
    for t, (rate, shrink) in enumerate(zip(rates.tolist(), shrinks.tolist(), strict=True)):
        needs_length = renormalised or scale_invariant or t in recorded
        length = torch.linalg.vector_norm(w, dim=1, keepdim=True) if needs_length else None
        u = noise.update(w, length if scale_invariant else None)
        along = (w * u).sum(1, keepdim=True) / length.clamp_min(1e-30) if needs_length else None  # u's part along w
        w.mul_(1 - shrink).sub_(u, alpha=rate)
        if renormalised:
            ratio = ((1 - shrink) * length - rate * along) / torch.linalg.vector_norm(w, dim=1, keepdim=True)
            w *= torch.where((ratio > 0) & (length > 0), ratio, 1.0)  # no such length: the plain step
        if t in recorded:
            squared.append(w.double().square().sum(1))
            cosine.append((along / torch.linalg.vector_norm(u, dim=1, keepdim=True)).squeeze(1).double())
    return torch.stack(squared).numpy(), torch.stack(cosine).numpy()


def _check(
    normaliser: str,
    lr: float,
    steps: int,
    start: float | None,
    matrix: tuple | None,
    numbers: tuple[int, int],
    scale_invariant: bool,
) -> None:
    """Refuse what cannot be walked."""
    if normaliser not in NORMALISERS:
        raise unknown_name("normaliser", normaliser, NORMALISERS)
    if not 0 < lr < math.inf or steps < 1:
        raise ClipeduError(f"lr={lr!r} and steps={steps!r} must be above 0")
    if min(numbers) < 2:
        raise ClipeduError(f"shape of {numbers[0]} numbers and chains={numbers[1]}: both must be at least 2")
    if start is not None and not 0 <= start < math.inf:
        raise ClipeduError(
            f"start={start!r} must be at least 0: ||w||^2 / C before the first step; or None, the balance"
        )
    if normaliser == "polar" and matrix is None:
        raise ClipeduError("normaliser 'polar' needs shape=(rows, columns)")
    if scale_invariant and normaliser != "none":
        raise ClipeduError(
            f"scale_invariant with {normaliser!r}: normalising undoes the gradient's size. Take normaliser 'none'"
        )
