r"""Where a weight's norm settles, how fast, and how much it turns.

One step of decoupled decay is w' = (1 - s) w - lr u, with the *shrink* s = lr * lambda. Squared,

    ||w'||^2 = (1 - s)^2 ||w||^2  +  lr^2 ||u||^2  -  2 lr (1 - s) <w, u>
               decay takes          injection adds   alignment

Without memory, and with gradients independent of w, the last term is 0 on average: decay takes a share of what is there,
injection adds a constant, and the two balance. With C = E||u||^2:

    balance         ||w||^2 -> lr^2 C / (s (2 - s))  =  lr C / (lambda (2 - lr lambda))  ~  lr C / (2 lambda)
    time constant   the gap to it falls by e in -1 / (2 ln(1 - s)) ~ 1 / (2 s) steps
    rotation        of what is added nearly all goes sideways: w turns by about sqrt(2 s) radians a step

*Lambda* = 2 * (sum of shrinks) counts how often the gap has fallen by e. Below 1 the run ends before it comes near its balance.

With momentum the sum needs more than ||u||^2: w holds gradients that are still in the buffer, so u points
*outward* (-lr u along w) even for noise. With alpha the newest gradient's weight, r = 1 - alpha and a = 1 - s:

    balance         lr^2 C / (s (2 - s)) * (1 + a r) / (1 - a r)  ~  (effective step)^2 C / (2 s)
    <w, u>          -lr C r / (1 - a r)
    cos(w, u)       ~ -r sqrt(2 s / (alpha (2 - alpha)))

The factor is K of `contribution.py`: count each minibatch once, with all that it will ever add (TUC = K C), and the sum
without memory holds again. "Updates are independent of the weight" means: *contributions* are.

The gradient may depend on the weight's norm. A layer that a normalisation follows is scale-invariant: twice the weights, half
the gradient, ||g|| = G / ||w||. An optimizer that does not normalise then injects G^2 / ||w||^2, and the balance is one of
||w||^4; the gap closes twice as fast, for a weight that is too long also gets smaller steps.

What all this rests on, and when it fails:
- gradients are noise: independent from batch to batch, mean 0. Where signal is strong (early, or a small model that can
  still learn) contributions add up along a line and the norm grows beyond the balance.
- contributions are independent of the weight. An output layer's are not: its logits keep growing.
- a steady ||u||^2, and time: Lambda well above 1.

Sources: Chou 2025 (arXiv:2512.08217); Kosson et al. 2023 (arXiv:2305.17212); Defazio 2025 (arXiv:2506.02285); momentum's exact
forms are derived and tested here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clipedu.norms.contribution import average, contribution_factor, lion
from clipedu.utils.errors import ClipeduError


def balance(lr: float, shrink: float, injected: float = 1.0) -> float:
    """Return steady ||w||^2 of a constant shrink and injection.

    Each step shrinks w by `shrink` and adds lr^2 * `injected` to ||w||^2; inf without shrink.

    Args:
        lr: learning rate.
        shrink: share of the weight that decay takes in a step, lr * lambda, in [0, 1).
        injected: C = E||u||^2 without memory, and K C with it, K = `contribution_factor(..., keep=1 - shrink)`.
    Raises:
        ClipeduError: a shrink out of range.
    """
    check_shrink(shrink)
    return lr**2 * injected / (shrink * (2 - shrink)) if shrink > 0 else math.inf


def balance_with_momentum(lr: float, weight_decay: float, alpha: float = 1.0, exact: bool = True) -> float:
    """Return steady ||w||^2 / C with momentum, for updates of squared size C.

    Args:
        lr: learning rate.
        weight_decay: lambda; lr * lambda in [0, 1). Without decay there is no balance: inf.
        alpha: weight of the newest gradient, 1 - beta, in (0, 1].
        exact: False gives it to first order in the shrink: lr (2 - alpha) / (2 alpha weight_decay).
    Raises:
        ClipeduError: an alpha or a shrink out of range.
    """
    memory = average(alpha)
    shrink = lr * weight_decay
    if exact:
        return balance(lr, shrink, contribution_factor(memory, keep=1 - shrink))
    return lr * contribution_factor(memory) / (2 * weight_decay) if shrink > 0 else math.inf


def mean_alignment(lr: float, weight_decay: float, alpha: float = 1.0) -> float:
    """Return E<w, u> / C in the steady state: -lr r / (1 - a r).

    w is taken before the step.

    It is at most 0: the step -lr u points outward.

    Args:
        lr, weight_decay, alpha: as for `balance_with_momentum`.
    Raises:
        ClipeduError: an alpha out of range.
    """
    r = 1 - average(alpha).newest
    return -lr * r / (1 - (1 - lr * weight_decay) * r)


def mean_cosine(lr: float, weight_decay: float, alpha: float = 1.0) -> float:
    """Return cos(w, u) in the steady state.

    It is E<w, u> over the root of the mean squares.

    Args:
        lr, weight_decay, alpha: as for `balance_with_momentum`.
    Raises:
        ClipeduError: an alpha or a shrink out of range.
    """
    return mean_alignment(lr, weight_decay, alpha) / math.sqrt(balance_with_momentum(lr, weight_decay, alpha))


def time_constant(shrink: float) -> float:
    """Return the steps in which ||w||^2 - balance falls by a factor e.

    It is -1 / (2 ln(1 - shrink)), and inf without shrink.

    Raises:
        ClipeduError: a shrink out of range.
    """
    check_shrink(shrink)
    return -1 / (2 * math.log1p(-shrink)) if shrink > 0 else math.inf


def rotation(shrink: float, step: float, cosine: float = 0.0) -> float:
    """Return the angle in radians between w before and after a step.

    Args:
        shrink: share of the weight that decay takes in the step.
        step: lr ||u|| / ||w||, the relative update.
        cosine: cos(w, u).
    """
    along, across = 1 - shrink - step * cosine, step * math.sqrt(1 - cosine**2)
    return math.atan2(across, along)


def sgdm_norm(lr: float, weight_decay: float, momentum: float, gradient: float = 1.0) -> float:
    """Return ||w|| where SGD with momentum and coupled L2 settles.

    It holds for a scale-invariant layer, to first order; without Nesterov and dampening the exact 4th power is larger
    by 1 + lr * weight_decay / (2 (1 + momentum)).

    Args:
        lr: learning rate.
        weight_decay: lambda of the L2 term, > 0.
        momentum: in [0, 1).
        gradient: G = ||g|| ||w||.
    """
    return (lr * gradient**2 / (2 * weight_decay * (1 - momentum))) ** 0.25


def adamw_norm(lr: float, weight_decay: float, size: int) -> float:
    """Return ||w|| where AdamW settles: an RMS of sqrt(lr / (2 lambda)).

    beta1 is not in it: momentum makes Adam's updates smaller and more alike, and the two cancel. To first order in lr * lambda.

    Args:
        lr: learning rate.
        weight_decay: lambda, > 0.
        size: entries of the weight, all of which get gradients.
    """
    return math.sqrt(lr * size / (2 * weight_decay))


def lion_norm(
    lr: float, weight_decay: float, size: int, beta1: float = 0.9, beta2: float = 0.99, exact: bool = True
) -> float:
    """Return ||w|| where Lion settles.

    Args:
        lr: learning rate.
        weight_decay: lambda, > 0.
        size: entries of the weight, all of which get gradients.
        beta1, beta2: of Lion.
        exact: by the arcsine law; False replaces the sign by its best straight line (Kosson et al.), which is good where a
            long memory hides the newest gradient, and 20 % too small for beta1 = 0.
    Raises:
        ClipeduError: a shrink out of range.
    """
    memory = lion(beta1, beta2)
    if exact:
        shrink = lr * weight_decay
        return math.sqrt(balance(lr, shrink, size * contribution_factor(memory, "sign", keep=1 - shrink)))
    return math.sqrt(lr * size / (math.pi * weight_decay * memory.squared_size))


def predicted_norms(
    start: float,
    lr: float | Sequence[float],
    shrink: float | Sequence[float],
    tuc: float,
    *,
    fade: float = 0.0,
    scale_invariant: bool = False,
) -> np.ndarray:
    """Return ||w|| after each step, for any schedule and decay law.

    The recursion is n <- (1 - s_t)^2 n + lr_t^2 TUC, with n = ||w||^2.

    Args:
        start: ||w|| before the first step.
        lr, shrink: of each step; a single number applies to all, but one of the two must be a sequence.
        tuc: E||total contribution||^2 of a minibatch, before lr, as `SteadyState.tuc`.
        fade: correlation of successive updates, as `SteadyState.fade`. With 0 each contribution arrives at once; else it
            arrives little by little, which matters where the shrink is not far below 1 - fade, or lr changes fast.
        scale_invariant: the contribution is tuc / ||w||^2 (SGD under a normalisation; `tuc` is then that of ||w|| = 1).
    Returns:
        [steps], float64.
    Raises:
        ClipeduError: neither lr nor shrink is a sequence.
    """
    rates, shrinks = np.broadcast_arrays(np.asarray(lr, dtype=float), np.asarray(shrink, dtype=float))
    if rates.ndim != 1:
        raise ClipeduError("predicted_norms needs lr or shrink as a sequence, one number a step")
    return np.sqrt(mean_squares(start**2, rates, shrinks, tuc, fade=fade, scale_invariant=scale_invariant)[0])


def mean_squares(
    start: float,
    lr: np.ndarray,
    shrink: np.ndarray,
    tuc: float,
    *,
    fade: float = 0.0,
    scale_invariant: bool = False,
    injection: bool = True,
    outward: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean ||w||^2 and <w, u> / ||u||^2 of each step: [steps].

    ||w||^2 is after the step, <w, u> / ||u||^2 before it.

    With p = -<w, u> / C, the part of the coming update that is in w already, a step is

        ||w||^2 <- (1 - s)^2 ||w||^2 + lr^2 C + 2 (1 - s) lr p C,     p <- fade ((1 - s) p + lr)

    Args:
        start: ||w||^2 before the first step.
        lr, shrink: of each step, [steps].
        tuc: E||total contribution||^2 of a minibatch, before lr.
        fade: correlation of successive updates; at a distance of k steps it is fade^k.
        scale_invariant: updates are of size 1 / ||w||; `tuc` is then that of ||w|| = 1.
        injection: False leaves out lr^2 C, as `clipedu.optim.renormalized` does.
        outward: p before the first step; 0 where the weights are independent of the buffer.
    """
    n, p = start, outward
    update = tuc * (1 - fade) / (1 + fade)
    squares, alignments = np.empty(len(lr)), np.empty(len(lr))
    for t, (step, keep) in enumerate(zip(lr.tolist(), (1 - shrink).tolist(), strict=True)):
        c = update / n if scale_invariant else update
        alignments[t] = -p
        n = keep**2 * n + (step**2 * c if injection else 0.0) + 2 * keep * step * p * c
        p = fade * (keep * p + step)
        squares[t] = n
    return squares, alignments


def check_shrink(shrink: float) -> None:
    """Check that a shrink is in [0, 1).

    Raises:
        ClipeduError: it is not.
    """
    if not 0 <= shrink < 1:
        raise ClipeduError(f"shrink (lr * weight_decay) is {shrink:g}: it must be at least 0 and below 1")
