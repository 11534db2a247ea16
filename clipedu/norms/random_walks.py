r"""`sandbox`: weights moved along pure noise, beside their theory.

Everything in `equilibrium.py` is about gradients that are noise. Here they are noise by construction: each of many chains
holds a weight w, gets a fresh Gaussian gradient at each step, and takes the optimizer's step with momentum, decay law and
schedule (`monte_carlo.py`):

    x <- (1 - alpha) x + alpha g,    u = normalise(x),    w <- (1 - lr lambda) w - lr u

The scale is chosen so that C = E||u||^2 = 1 whatever the normaliser; the result is ||w||^2 / C, averaged over chains, with its
standard error. Unlike in a training run nothing is learned: where a layer of a real model leaves the curve of its walk, its
gradients were no noise.

    none    u ~ x: SGD with momentum            sign    every entry of one size: Lion and signSGD
    adam    u = x / sqrt(v): AdamW              polar   all singular values of one size: Muon, Scion's spectral norm
    vector  u = x / ||x||: Scion's bias-rms

Source: the experiment is that of Chou 2025 (arXiv:2512.08217) and of Kosson et al. 2023 (arXiv:2305.17212).
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from clipedu.norms.contribution import NORMALISERS, average, contribution_factor, fade_of
from clipedu.norms.equilibrium import balance, check_shrink, mean_squares
from clipedu.norms.monte_carlo import NoiseUpdates, walk_chains
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.schedule import SCHEDULES, learning_rate
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    import pandas

_NUMBERS = 32_768  # in all chains together, where their number is not given: a standard error near 1 %


@dataclass(frozen=True, kw_only=True)
class WalkSettings:
    """The settings of a random walk.

    Attributes:
        normaliser: one of `clipedu.norms.contribution.NORMALISERS`.
        lr: the peak, > 0.
        weight_decay: lambda at the peak, >= 0; the shrink lr * weight_decay is below 1.
        alpha: weight of the newest gradient, 1 - beta, in (0, 1]; 1 is no memory.
        law: one of `clipedu.optim.DECAY_LAWS`.
        schedule, warmup, steps: as in `clipedu.optim.learning_rate`; warmup and steps count steps.
        start: ||w||^2 / C before the first step, >= 0. None is the steady state of the peak: its balance, with weights whose
            alignment with the buffer is that of the steady state.
        shape: numbers in a weight, or rows and columns (needed for "polar"). Theory is for many dimensions: 16 are few.
        chains: how many; None is as many as make 32,768 numbers in all.
        renormalised: each step keeps its direction but not the length that it gains by going sideways
            (`clipedu.optim.renormalized`).
        scale_invariant: gradients are orthogonal to w and of size ~ 1 / ||w||; for the normaliser "none". C is then that at ||w|| = 1.
        records: how many steps are recorded, evenly spread, the first and the last among them.
        seed: the same seed gives the same walk.
        dtype: of weights and gradients.
    Raises:
        ClipeduError: an unknown name, a value out of range, settings that do not fit together.
    """

    normaliser: str = "vector"
    lr: float = 0.01
    weight_decay: float = 0.5
    alpha: float = 1.0
    law: str = "constant"
    schedule: str = "constant"
    warmup: int = 0
    steps: int = 1000
    start: float | None = 0.0
    shape: int | tuple[int, int] = 32
    chains: int | None = None
    renormalised: bool = False
    scale_invariant: bool = False
    records: int = 100
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        average(self.alpha)
        if self.normaliser not in NORMALISERS:
            raise unknown_name("normaliser", self.normaliser, NORMALISERS)
        if not 0 < self.lr < math.inf or self.steps < 1:
            raise ClipeduError(f"lr={self.lr!r} and steps={self.steps!r} must be above 0")
        if min(self.size, self.chain_count) < 2:
            raise ClipeduError(f"shape of {self.size} numbers and chains={self.chain_count}: both must be at least 2")
        if self.start is not None and not 0 <= self.start < math.inf:
            raise ClipeduError(
                f"start={self.start!r} must be at least 0: ||w||^2 / C before the first step; or None, the balance"
            )
        if self.normaliser == "polar" and self.matrix is None:
            raise ClipeduError("normaliser 'polar' needs shape=(rows, columns)")
        if self.scale_invariant and self.normaliser != "none":
            raise ClipeduError(
                f"scale_invariant with {self.normaliser!r}: normalising undoes the gradient's size. Take normaliser 'none'"
            )
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        coefficient(
            self.law, self.lr, lr_max=self.lr, weight_decay=self.weight_decay
        )  # refuses what the law cannot take
        check_shrink(self.lr * self.weight_decay)
        first = self.first
        if math.isinf(first) or (first == 0 and self.scale_invariant):
            raise ClipeduError(
                f"start={first:g}: without decay, or with scale_invariant, give ||w||^2 / C above 0 to start from"
            )

    @property
    def matrix(self) -> tuple[int, int] | None:
        """Rows and columns of a weight; None where `shape` is a number."""
        return self.shape if isinstance(self.shape, tuple) else None

    @property
    def size(self) -> int:
        """Numbers in a weight."""
        return math.prod(self.shape) if isinstance(self.shape, tuple) else self.shape

    @property
    def chain_count(self) -> int:
        """How many chains walk: `chains`, or what the size makes of None."""
        return self.chains or max(2, _NUMBERS // self.size)

    @property
    def first(self) -> float:
        """||w||^2 / C before the first step: `start`, or the balance of the peak."""
        return self.balance(self.lr, self.lr * self.weight_decay) if self.start is None else self.start

    def balance(self, lr: float, shrink: float) -> float:
        """Return ||w||^2 / C at which a constant lr and shrink settle.

        inf without shrink.
        """
        factor = contribution_factor(average(self.alpha), self.normaliser, self.matrix, keep=1 - shrink)
        squared = balance(lr, shrink, factor - 1 if self.renormalised else factor)
        return math.sqrt(squared) if self.scale_invariant else squared

    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return lr and shrink of each step, [steps] each."""
        lr = np.array(
            [
                learning_rate(t, peak=self.lr, total=self.steps, warmup=self.warmup, schedule=self.schedule)
                for t in range(self.steps)
            ]
        )
        decay = [coefficient(self.law, rate, lr_max=self.lr, weight_decay=self.weight_decay) for rate in lr.tolist()]
        return lr, lr * decay


@dataclass(frozen=True)
class Walk:
    """Measured and predicted norms of a random walk.

    They are of the recorded steps. Arrays are [records], float64.

    Attributes:
        settings: the `WalkSettings` that made it, by name and without the dtype, `chains` filled in.
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
        """Gradient norm of a scale-invariant layer of this measured norm.

        It is G / ||w|| with G = 1.
        """
        return 1 / np.sqrt(self.measured)

    def frame(self) -> pandas.DataFrame:
        """Return all arrays as columns."""
        import pandas as pd

        return pd.DataFrame({name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)})


def sandbox(normaliser: str | None = None, settings: WalkSettings | None = None, **changes: Any) -> Walk:
    """Walk many chains at once, on the CPU, and predict what they do.

        sandbox("sign", lr=0.01, weight_decay=0.5, law="corrected", schedule="cosine")
        sandbox(settings=WalkSettings(normaliser="sign"), steps=500)

    Args:
        normaliser: how updates are normalised; None leaves it to `settings`, whose default is "vector".
        settings: of the walk; None is `WalkSettings()`.
        changes: fields of `WalkSettings`, over `settings`.
    Raises:
        ClipeduError: an unknown name, a value out of range, settings that do not fit together.
    """
    if unknown := [name for name in changes if name not in WalkSettings.__dataclass_fields__]:
        raise unknown_name("setting of a walk", unknown[0], WalkSettings.__dataclass_fields__)
    if normaliser is not None:
        changes["normaliser"] = normaliser
    chosen = dataclasses.replace(settings, **changes) if settings is not None else WalkSettings(**changes)
    first, chains = chosen.first, chosen.chain_count
    lr, shrink = chosen.rates()
    recorded = np.unique(np.linspace(0, chosen.steps - 1, min(chosen.records, chosen.steps)).round().astype(int))
    squares, cosines, alignment = _predicted(chosen, lr, shrink)

    weights = torch.full((chains, chosen.size), math.sqrt(first / chosen.size), dtype=chosen.dtype)
    gradient = 1 / math.sqrt(first) if chosen.scale_invariant else 1.0
    updates = NoiseUpdates(
        chosen.normaliser, chosen.alpha, weights, matrix=chosen.matrix, seed=chosen.seed, gradient=gradient
    )
    if alignment > 0:
        updates.align(weights, alignment * gradient)
    modes = {"renormalised": chosen.renormalised, "scale_invariant": chosen.scale_invariant}
    measured, cosine = walk_chains(updates, weights, lr, shrink, set(recorded.tolist()), **modes)
    spread = measured.std(1, ddof=1)
    return Walk(
        settings={k: v for k, v in vars(chosen).items() if k != "dtype"} | {"chains": chains},
        start=first,
        step=recorded + 1,
        lr=lr[recorded],
        shrink=shrink[recorded],
        measured=measured.mean(1),
        error=spread / math.sqrt(chains),
        spread=spread,
        cosine=cosine.mean(1),
        predicted=squares[recorded],
        predicted_cosine=cosines[recorded],
        balance=np.array([chosen.balance(lr[t], shrink[t]) for t in recorded]),
        Lambda=2 * float(shrink.sum()),
    )


def _named_settings() -> inspect.Signature:
    """Return the signature of `sandbox` with every setting by name, as editors and notebooks show it."""
    own = list(inspect.signature(sandbox).parameters.values())[:2]
    fields = list(inspect.signature(WalkSettings).parameters.values())
    named = [field.replace(kind=field.KEYWORD_ONLY) for field in fields if field.name != "normaliser"]
    return inspect.Signature([*own, *named], return_annotation="Walk")


sandbox.__signature__ = _named_settings()  # type: ignore[attr-defined]  # functions take attributes


def _predicted(settings: WalkSettings, lr: np.ndarray, shrink: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Predict mean ||w||^2 / C and mean cos(w, u) of each step, [steps].

    The first is after the step, the second before it. The third result is -<w, u of the step before> at the start.
    """
    keep = 1 - settings.lr * settings.weight_decay
    fade = fade_of(contribution_factor(average(settings.alpha), settings.normaliser, settings.matrix, keep), keep)
    alignment = settings.lr / (1 - keep * fade) if settings.start is None else 0.0
    squares, alignments = mean_squares(
        settings.first,
        lr,
        shrink,
        (1 + fade) / (1 - fade),
        fade=fade,
        scale_invariant=settings.scale_invariant,
        injection=not settings.renormalised,
        outward=fade * alignment,
    )
    before = np.concatenate([[settings.first], squares[:-1]])
    length = before if settings.scale_invariant else np.sqrt(before)  # ||w|| / ||u||
    cosines = np.divide(alignments, length, out=np.zeros(settings.steps), where=length > 0)
    return squares, cosines, alignment
