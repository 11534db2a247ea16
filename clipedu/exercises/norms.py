"""Checks of the exercises in 08_norm_dynamics."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from clipedu.exercises.base import NotYet, as_float, as_floats, close, compare, exercise
from clipedu.optim import learning_rate
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.scion import corrected_shrink, effective_step


@exercise
def check_settling(settling: Callable[[float, float, float], tuple[float, float]]) -> str:
    """Check `settling(lr, weight_decay, C)`.

    It returns where ||w||^2 of a walk without memory settles, and its time constant in steps.
    """
    for lr, decay, size in ((0.1, 0.9, 16.0), (0.02, 0.5, 64.0), (0.3, 0.5, 2.0)):
        s = lr * decay
        norm, tau = lr**2 * size / (1 - (1 - s) ** 2), -1 / (2 * math.log(1 - s))
        case = f"lr {lr:g}, weight_decay {decay:g} and C {size:g}"
        given = as_floats(settling(lr, decay, size), "the settled square, and the time constant", "norm_squared, tau")
        _not_swapped(given, (norm, tau), "norm_squared, tau")
        wrong = {
            lr * size / (2 * decay): "that is its first order. Solve n = (1 - s)^2 n + lr^2 C as it is",
            math.sqrt(norm): "that is the norm, and its square is asked for",
            lr * size / decay: "w shrinks by 1 - s, so its square shrinks by (1 - s)^2",
            norm / lr: "the step is lr u, so each one adds lr^2 C",
            lr**2 * size / (1 - (1 - decay) ** 2): "the share taken away in a step is lr * weight_decay",
            norm * size: "C is E||u||^2, a square already",
            size / decay**2: "independent steps add up by their squares: the sum of a^2k, not the sum of a^k squared",
        }
        compare(given[0], norm, wrong, f"||w||^2 at {case}")
        wrong = {
            1 / (2 * s): "that is its first order; exactly, (1 - s)^(2 tau) = 1/e",
            -1 / math.log(1 - s): "that is how long w remembers; its square forgets twice as fast",
            1 / s: "that is how long w remembers (and to first order); its square forgets twice as fast",
            -tau: "a number of steps is positive: the logarithm of 1 - s is not",
            -1 / (2 * math.log(1 - decay)): "the share taken away in a step is lr * weight_decay",
            tau * math.log(2): "that is the half-life; after a time constant 1/e is left",
        }
        compare(given[1], tau, wrong, f"the time constant at {case}")
    return "both exact. At lr 1e-3 and weight decay 0.1 the time constant is 5,000 steps: many a run is over before."


@exercise
def check_mean_cosine(mean_cosine: Callable[[float, float, float], float]) -> str:
    """Check `mean_cosine(lr, weight_decay, alpha)`.

    It returns <w, u> over the norms of w and u, of a settled walk with momentum, exactly.
    """
    for lr, decay, alpha in ((0.01, 0.5, 0.1), (0.1, 1.0, 0.3), (0.05, 2.0, 0.8)):
        a, r = 1 - lr * decay, 1 - alpha
        right = -r * math.sqrt((1 - a**2) / (1 - (a * r) ** 2))
        first_order = -r * math.sqrt(2 * lr * decay / (alpha * (2 - alpha)))
        product = -lr * r / (1 - a * r)
        without_memory = product * math.sqrt(1 - a**2) / lr
        swapped = -alpha * math.sqrt((1 - a**2) / (1 - (a * alpha) ** 2))
        wrong = {
            0.0: "gradients do not depend on w, but u is made of past gradients, and so is w",
            -right: "each step *subtracts* lr u, so what w and u have in common enters w with a minus",
            first_order: "that is its first order, for a small shrink. Divide <w, u> by the root of n C as they are given",
            swapped: "r = 1 - alpha: alpha is the weight of the newest gradient",
            product: "that is <w, u> / C. A cosine divides by both norms: the root of n times C",
            product / lr: "a cosine divides by both norms: the root of n times C",
            without_memory: "you divided by the norm of a walk without memory; momentum makes w longer",
            right**2: "you forgot the root: n and C are squares",
            -(right**2): "you forgot the root: n and C are squares",
        }
        answer = as_float(mean_cosine(lr, decay, alpha))
        compare(answer, right, wrong, f"lr {lr:g}, weight_decay {decay:g} and alpha {alpha:g}")
    return "lr and lambda enter by their product, C not at all. So a cosine of -0.03 may be nothing but bookkeeping."


@exercise
def check_same_walk(same_walk: Callable[[float, float, float], float]) -> str:
    """Check `same_walk(lr, alpha, new_alpha)`.

    It returns the lr at which updates of fixed size, averaged with new_alpha, walk as far.
    """
    for lr, alpha, new in ((0.01, 0.1, 0.5), (0.02, 0.2, 0.02), (1.0, 0.8, 0.1)):
        factor, ratio = effective_step(1.0, alpha) / effective_step(1.0, new), new / alpha
        swapped = effective_step(1.0, 1 - alpha) / effective_step(1.0, 1 - new)
        wrong = {
            lr: "at the same lr more memory walks farther: updates that share gradients point the same way",
            lr / factor: "turned round: more memory (a smaller alpha) needs a smaller lr",
            lr * factor**2: "the walk grows with the square of lr: take the root",
            lr * ratio: "nearly, for small alpha, its square: lr^2 (2 - alpha) / alpha is what has to stay",
            lr * math.sqrt(ratio): "that is its limit for small alpha: the factor has 2 - alpha in it",
            lr / math.sqrt(ratio): "turned round, and its limit for small alpha: the factor has 2 - alpha in it",
            lr * swapped: "alpha is the weight of the *newest* gradient: 0.1 is what others call momentum 0.9",
        }
        case = f"lr {lr:g}, from alpha {alpha:g} to {new:g}"
        compare(same_walk(lr, alpha, new), lr * factor, wrong, case)
    return "from alpha 1 (no memory) to 0.1 the lr has to fall by 4.36, and the walk stays what it was."


@exercise
def check_adamw_steady(adamw_steady: Callable[[float, float, int, float], tuple[float, float]]) -> str:
    """Check `adamw_steady(lr, weight_decay, size, beta1)`.

    It returns ||w|| where AdamW settles, and the angle of a step in radians.
    """
    for lr, decay, size, beta in ((1e-5, 0.05, 4096, 0.9), (2e-5, 0.03, 100, 0.5), (1e-5, 0.01, 49, 0.95)):
        norm = math.sqrt(lr * size / (2 * decay))
        shorter = math.sqrt((1 - beta) / (1 + beta))  # Adam's u, for the averaging
        turn = math.sqrt(2 * lr * decay) * shorter
        case = f"lr {lr:g}, weight_decay {decay:g}, {size} numbers and beta1 {beta:g}"
        given = as_floats(adamw_steady(lr, decay, size, beta), "the norm, and the angle", "norm, rotation")
        _not_swapped(given, (norm, turn), "norm, rotation")
        wrong = {
            norm**2: "that is the square of the norm",
            norm / math.sqrt(size): "that is the RMS of a weight; the norm of all of them has the root of `size` in it",
            norm * shorter: "u is that much shorter, but it persists: what a gradient adds in all has no beta1 in it",
            norm / shorter: "momentum makes u persist, but Adam's u is shorter by as much: beta1 cancels",
            norm * math.sqrt(2): "growth lr^2 C balances the loss of the *square*, 2 lr lambda ||w||^2",
            math.sqrt(size / 2): "the balance is lr^2 C = 2 s ||w||^2 with s = lr * weight_decay: one lr is left over",
            norm * math.sqrt(lr): "one lr cancels: lr^2 C = 2 lr weight_decay ||w||^2",
        }
        compare(given[0], norm, wrong, f"the norm at {case}")
        wrong = {
            math.degrees(turn): "in radians, please",
            turn / shorter: "a gradient turns w by that in all; one step is shorter by sqrt((1 - beta1) / (1 + beta1))",
            math.sqrt(2 * lr * decay * beta / (2 - beta)): "beta1 is the share of the *old* average: alpha = 1 - beta1",
            turn / shorter**2: "turned round: an average is smaller than what it averages",
            turn**2: "you forgot the root",
            turn / math.sqrt(2): "the square of the norm loses 2 s in a step, not s",
            turn * math.sqrt(size): "the size cancels: it is in ||u|| and in ||w||",
        }
        compare(given[1], turn, wrong, f"the angle at {case}")
    return "no gradient, no data, no loss in it: two numbers of the recipe and the layer's size give the length."


@exercise
def check_corrected_decay(corrected_decay: Callable[[float, float, float], float]) -> str:
    """Check `corrected_decay(lr, lr_max, weight_decay)`.

    It returns lambda of a step such that ||w||^2 settles where it does at lr_max.
    """
    for lr, top, decay in ((0.005, 0.02, 0.5), (0.001, 0.003, 0.1), (0.02, 0.02, 2.0), (0.0, 0.02, 0.5)):
        right = decay * lr / top
        independent = coefficient("independent", lr, lr_max=top, weight_decay=decay)
        wrong = {
            decay: "that is the constant law: ||w||^2 ~ lr / (2 lambda) falls with lr",
            decay * (lr / top) ** 2: "the *shrink* lr * lambda goes with lr^2, and one lr is in it already",
            decay * lr**2 / top: "that is the shrink, lr * lambda: return lambda",
            independent: "turned round: a smaller lr needs a smaller lambda",
            decay * lr: "at the peak, lr_max, lambda has to be weight_decay",
            decay * math.sqrt(lr / top): "lr C / (2 lambda) stays the same where lambda is proportional to lr",
        }
        answer = as_float(corrected_decay(lr, top, decay))
        exact = coefficient("corrected-exact", lr, lr_max=top, weight_decay=decay)
        if not close(answer, exact):  # better than asked
            compare(answer, right, wrong, f"lr {lr:g} of at most {top:g}, weight_decay {decay:g}")
    return "lambda goes with lr, the shrink with lr^2. Papers that say 'decay ~ lr^2' and 'lambda ~ lr' say the same."


@exercise
def check_fair_decay(fair_decay: Callable[[Tensor, float], float]) -> str:
    """Check `fair_decay(lr [T], weight_decay)`.

    It returns lambda at the peak that gives the corrected law the constant law's Lambda.
    """
    for total, warmup, decay in ((1000, 0, 0.1), (200, 60, 0.5)):
        rates = [learning_rate(t, peak=0.02, total=total, warmup=warmup) for t in range(total)]
        lr, top = torch.tensor(rates, dtype=torch.float64), max(rates)
        sums, squares = lr.sum().item(), lr.square().sum().item()
        right = decay * top * sums / squares
        wrong = {
            decay: "with the same lambda the corrected law decays less in all: its lambda falls with lr",
            decay * top * total / sums: "that makes the mean of lambda_t equal, the papers' 'twice'. But the shrink is "
            "lr * lambda, and lambda is large where lr is: Lambda would be half as large again",
            decay**2 / right: "turned round: the corrected law needs a larger lambda at its peak",
            right / top: "the corrected lambda_t is lambda * lr_t / lr_max: you left out lr_max",
            decay * sums / math.sqrt(squares): "the sum of lr_t^2 has no root",
            2 * decay * sums: "that is Lambda of the constant law; asked for is the lambda that gives as much",
        }
        case = f"a cosine of {total} steps with {warmup} of warm-up, and weight_decay {decay:g}"
        compare(fair_decay(lr.clone(), decay), right, wrong, case)
    return "4/3 over a plain cosine. Papers take twice, which equals the means of lambda: say which one you held fixed."


@exercise
def check_scionc_shrink(scionc_shrink: Callable[[float, float, float], float]) -> str:
    """Check `scionc_shrink(lr, alpha, target)`.

    It returns the share of w that ScionC takes in a step, so that ||w||^2 / ||U||^2 is `target`.
    """
    for lr, alpha, target in ((0.02, 0.1, 1.2), (0.05, 0.5, 2.0), (0.01, 0.02, 0.4)):
        right = corrected_shrink(lr, alpha, target)
        no_square = lr * effective_step(lr, alpha) / (2 * target)
        wrong = {
            lr**2 / (2 * target): "that is a walk without memory: put the effective step in place of lr",
            right / lr: "that is lambda; the shrink is lr times it",
            2 * right: "the square of the norm loses 2 s in a step: divide by 2",
            right / target: "target is ||w||^2 / ||U||^2, a square already",
            effective_step(lr, alpha) / (2 * target): "the growth in a step is the *square* of the effective step",
            corrected_shrink(lr, 1 - alpha, target): "alpha is the weight of the newest gradient: (2 - alpha) / alpha",
            lr**2 * alpha / (2 - alpha) / (2 * target): "turned round: memory makes the effective step longer",
            no_square: "squared, the effective step has (2 - alpha) / alpha in it, no root",
            right * target**2: "turned round: weights that may be longer need less shrink",
        }
        compare(scionc_shrink(lr, alpha, target), right, wrong, f"lr {lr:g}, alpha {alpha:g} and target {target:g}")
    return "with lr 0.01, alpha 0.1 and target 1.1875 it is 8e-4: the recipe of a published vision transformer."


@exercise
def check_balance(balance: Callable[[Tensor, Tensor, float], tuple[float, float, float]]) -> str:
    """Check `balance(w, w_new, shrink)`.

    It returns alignment, injection and decay of a decoupled step; they add up to the change of ||w||^2.
    """
    noise = torch.Generator().manual_seed(0)
    for shrink in (0.1, 0.02):
        w = torch.randn(4, 3, generator=noise).double()
        step = 0.3 * torch.randn(4, 3, generator=noise).double() - 0.1 * w
        new = (1 - shrink) * w - step
        inner, square, sizes = (w * step).sum().item(), w.square().sum().item(), step.square().sum().item()
        moved = w - new
        alignment, decay = -2 * (1 - shrink) * inner, -(1 - (1 - shrink) ** 2) * square
        names = "alignment, injection, decay"
        given = as_floats(balance(w.clone(), new.clone(), shrink), "three parts", names)
        case = f"a step with shrink {shrink:g}"
        wrong = {
            math.sqrt(sizes): "it is a square: ||lr u||^2",
            moved.square().sum().item(): "w - w_new has the decay in it: lr u = (1 - shrink) w - w_new",
            alignment: "that is the alignment. In this order: alignment, injection, decay",
            decay: "that is the decay. In this order: alignment, injection, decay",
        }
        compare(given[1], sizes, wrong, f"the injection of {case}")
        wrong = {
            -alignment: "the step subtracts lr u: a minus",
            alignment / 2: "the square of a sum has twice the product in it",
            -2 * inner: "lr u is added to the *shrunk* weight: a factor 1 - shrink",
            2 * inner: "lr u is added to the *shrunk* weight: a factor 1 - shrink; and it is subtracted: a minus",
            -2 * (w * moved).sum().item(): "w - w_new has the decay in it: lr u = (1 - shrink) w - w_new",
            -2 * (new * step).sum().item(): "with the old weight, not the new one",
            decay: "that is the decay. In this order: alignment, injection, decay",
            inner / math.sqrt(square * sizes): "that is the cosine; no division here",
        }
        compare(given[0], alignment, wrong, f"the alignment of {case}")
        wrong = {
            -decay: "decay makes the weight shorter: a minus",
            -2 * shrink * square: "to first order. Exactly, ||w||^2 becomes (1 - shrink)^2 ||w||^2",
            -shrink * square: "w loses a share `shrink`, its square loses 1 - (1 - shrink)^2",
            (1 - shrink) ** 2 * square: "that is what is left of ||w||^2; decay is what is gone",
            0.0: "the three have to add up to ||w_new||^2 - ||w||^2",
        }
        compare(given[2], decay, wrong, f"the decay of {case}")
    return "an identity, with no assumption in it: whatever the optimizer, the three add up to the change of ||w||^2."


def _not_swapped(given: list[float], right: tuple[float, float], names: str) -> None:
    if close(given[0], right[1]) and close(given[1], right[0]):
        raise NotYet(f"the two are swapped: `return {names}`")
