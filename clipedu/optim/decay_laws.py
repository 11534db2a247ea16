r"""Decay laws: how decoupled weight decay follows the learning rate.

A decoupled optimizer shrinks, then steps: w <- (1 - lr * lambda) w - lr * u. Two terms, which the literature mixes: *lambda* is
the coefficient (torch's `weight_decay`), the *shrink* is the product lr * lambda. Where the update u is independent of w and of
steady size C = E||u||^2, the squared norm of the weights settles where growth and shrink balance:

    E||w||^2  ->  lr * C / (lambda * (2 - lr * lambda))  ~  lr * C / (2 lambda)         within about 1 / (2 lr lambda) steps

So with a constant lambda a cosine schedule drags the norm down with lr, and the gradient, which in a normalised net goes with
1/||w||, surges at the end. A shrink proportional to lr^2 keeps the balance where it was. The laws, with lr_max the peak:

    name             lambda at lr                              shrink                      ||w||^2 settles at
    constant         lambda                                    lr * lambda                 ~ lr
    corrected        lambda * lr / lr_max                      lr^2 * lambda / lr_max      the same, to first order in lr * lambda
    corrected-exact  (1 - sqrt(1 - lr^2 / kappa)) / lr         lr * that                   kappa * C, exactly
    independent      lambda * lr_max / lr                      lr_max * lambda             ~ lr^2
                     with kappa = lr_max / (lambda * (2 - lr_max * lambda))

All four agree at the peak. Over half a cosine lr has the mean 1/2 and lr^2 the mean 3/8 of the peak's: a corrected run of equal lambda
shrinks 3/4 as much in all as a constant one. Papers give it twice the lambda, which evens the mean lambda_t and shrinks 3/2 as
much; 4/3 evens the shrink.

Not for every layer: where u keeps pointing along w, as in an output layer whose logits keep growing, there is no such
balance, and lambda should stay constant there. Give such a group `"decay_law": "constant"`.

    optimizer = torch.optim.AdamW([{"params": body}, {"params": head, "decay_law": "constant"}], lr=1e-3, weight_decay=0.1)
    follow(optimizer, "corrected")          # and then any schedule

Sources: Chou 2025 (arXiv:2512.08217): corrected, for any decoupled optimizer; Defazio 2025 (arXiv:2506.02285): AdamC.
"""

from __future__ import annotations

import math

import torch
from torch.utils.hooks import RemovableHandle

from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry


def _constant(lr: float, lr_max: float, weight_decay: float) -> float:
    return weight_decay


def _corrected(lr: float, lr_max: float, weight_decay: float) -> float:
    return weight_decay * lr / lr_max


def _corrected_exact(lr: float, lr_max: float, weight_decay: float) -> float:
    if lr_max * weight_decay > 1 or lr > lr_max:
        raise ClipeduError(
            f"corrected-exact with lr={lr:g}, lr_max={lr_max:g} and weight_decay={weight_decay:g}: "
            "lr_max * weight_decay must be at most 1, and lr at most lr_max"
        )
    # the share of ||w||^2 lost in a step, lr^2 / kappa; and 1 - sqrt(1 - x) = x / (1 + sqrt(1 - x)), without cancellation
    lost = (lr / lr_max) * (lr * weight_decay) * (2 - lr_max * weight_decay)
    return lost / (1 + math.sqrt(max(0.0, 1 - lost))) / lr


def _independent(lr: float, lr_max: float, weight_decay: float) -> float:
    return weight_decay * lr_max / lr


DECAY_LAWS = Registry("decay law")
"""All laws of weight decay by name: `DECAY_LAWS["corrected"].description`, `.paper`, `.formula`."""

DECAY_LAWS.add(
    "constant",
    _constant,
    "lambda stays: the shrink follows lr, and the weights' norm falls with it",
    paper="arXiv:1711.05101",
    formula=r"\lambda_t = \lambda",
)
DECAY_LAWS.add(
    "corrected",
    _corrected,
    "lambda follows lr: the norm's balance stays put, to first order",
    paper="arXiv:2512.08217",
    formula=r"\lambda_t = \lambda\,\gamma_t / \gamma_{\max}",
)
DECAY_LAWS.add(
    "corrected-exact",
    _corrected_exact,
    "the lambda that keeps the norm's balance exactly",
    paper="arXiv:2512.08217",
    formula=r"\lambda_t = \left(1 - \sqrt{1 - \gamma_t^2/\kappa}\right)/\gamma_t,\quad"
    r"\kappa = \gamma_{\max} / (\lambda (2 - \gamma_{\max}\lambda))",
)
DECAY_LAWS.add(
    "independent",
    _independent,
    "the shrink stays: no schedule touches it, and the norm falls faster still",
    formula=r"\lambda_t = \lambda\,\gamma_{\max} / \gamma_t",
)


def coefficient(law: str, lr: float, *, lr_max: float, weight_decay: float) -> float:
    """Return lambda of a step, under a law of `DECAY_LAWS`.

    It is 0 at lr 0, where a step shrinks nothing under any law.

    Args:
        law: a name in `DECAY_LAWS`.
        lr: of this step, >= 0.
        lr_max: of the peak, > 0.
        weight_decay: lambda at the peak, >= 0.
    Raises:
        ClipeduError: an unknown law; corrected-exact with lr_max * weight_decay > 1 or lr > lr_max.
    """
    rule = DECAY_LAWS[law].build
    return rule(lr, lr_max, weight_decay) if lr > 0 else 0.0


def follow(optimizer: torch.optim.Optimizer, law: str, *, lr_max: float | None = None) -> RemovableHandle:
    """Set every group's `weight_decay` by a law, before each step.

    The law reads the group's `lr`.

    What the law needs is kept in the groups, so that the optimizer's `state_dict` holds it and a resumed run continues with the
    same peak: "decay_law", "lr_max" and "weight_decay_max" (lambda at the peak: the group's `weight_decay` now). A group
    that already has "decay_law" or "lr_max" keeps its own. Groups added later without these keys are left alone.

    The peak is each group's own: its "lr_max", else the argument, else the larger of its `lr` and of the `initial_lr` that a
    torch scheduler has left there. Should `lr` pass it, the peak rises with it: an optimizer built with the small lr of a
    warm-up's start then decays by a constant lambda until the top, instead of by many times lambda.

    "independent" divides by lr, which the optimizer multiplies back: at lr 0 it cannot shrink.

    Args:
        optimizer: one whose decay is decoupled, i.e. shrinks by lr * weight_decay. Coupled L2 has no balance to keep.
        law: a name in `DECAY_LAWS`.
        lr_max: learning rate of the peak, > 0.
    Returns:
        a handle; `.remove()` ends it, and leaves each `weight_decay` as it is then. A `copy.deepcopy` of an optimizer
        has no hooks, so the copy follows no law.
    Raises:
        ClipeduError: an unknown law, a peak that is not > 0, an optimizer without weight decay, one that follows a law
            already or corrects its decay by itself (timm's `corrected_weight_decay`).
    """
    if lr_max is not None and not 0 < lr_max < math.inf:
        raise ClipeduError(f"lr_max={lr_max!r} must be a finite number above 0")
    kind = type(optimizer).__name__
    for group in optimizer.param_groups:
        DECAY_LAWS[group.get("decay_law", law)]
        if "weight_decay" not in group:
            raise ClipeduError(f"{kind} has no weight_decay that could follow the law {law!r}")
        if "weight_decay_max" in group or group.get("corrected_weight_decay"):
            raise ClipeduError(
                f"the weight decay of this {kind} follows a law already: {law!r} cannot be set on top of it"
            )
    for group in optimizer.param_groups:
        group.setdefault("decay_law", law)
        group.setdefault("lr_max", lr_max or float(max(group["lr"], group.get("initial_lr", 0.0))))
        group["weight_decay_max"] = group["weight_decay"]
    return optimizer.register_step_pre_hook(set_weight_decay)


def set_weight_decay(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Set lambda of the coming step in groups that follow a law (a hook)."""
    for group in optimizer.param_groups:
        if "weight_decay_max" not in group:
            continue
        lr = float(group["lr"])
        group["lr_max"] = max(group["lr_max"], lr)
        group["weight_decay"] = coefficient(
            group["decay_law"], lr, lr_max=group["lr_max"], weight_decay=group["weight_decay_max"]
        )
