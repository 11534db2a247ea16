"""`shrink`: the share of a weight that the coming step takes away.

A step of decoupled weight decay is w' = (1 - s) w - lr u. s is the *shrink*: lr * lambda for most, lr^2 *
lambda / lr_max for corrected decay, Scion's own for Scion. Where decay is coupled, L2 in the gradient, nothing is taken
away apart from the update u, and s is 0.

This file reads what is known: the optimizers of torch, timm and clipedu that are listed below, by the class whose `step` runs.
Which of the two it is they keep in the group ("decoupled_weight_decay", "decoupled_decay", "decoupled"); where the class, or
an older version of it, has no such key, the class decides. Any other optimizer is "not known" here, and its s is nan:
`decay_probe.py` measures it.

LaProp and Lamb shrink at the end of their step, w' = (1 - s) (w - lr u): then lr u counts as (1 - s) lr u.
"""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import torch
from torch import Tensor

LAWS = ("decoupled", "coupled", "none", "not known")

_FLAGS = ("decoupled_weight_decay", "decoupled_decay", "decoupled")
# What a class does where its groups have none of the flags.
_TORCH = {
    **dict.fromkeys(("AdamW", "Adafactor", "Muon"), "decoupled"),
    **dict.fromkeys(("SGD", "ASGD", "Adagrad", "Adadelta", "Adamax", "RMSprop", "Adam", "NAdam", "RAdam"), "coupled"),
    **dict.fromkeys(("Rprop", "SparseAdam", "LBFGS"), "none"),
}
_OURS = {"BlockAdamW": "decoupled", "BlockAdam": "coupled"}  # Scion says it itself
_TIMM = {
    **dict.fromkeys(("AdamWLegacy", "NAdamW", "SGDW", "Lion", "LaProp", "Adan", "Muon"), "decoupled"),
    **dict.fromkeys(("AdafactorBigVision", "AdaBelief"), "decoupled"),
    **dict.fromkeys(("Lars", "Lamb", "NAdamLegacy", "RAdamLegacy", "RMSpropTF", "NvNovoGrad", "Adopt"), "coupled"),
}


def shrink(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> float:
    """Return s of the step w' = (1 - s) w - lr u.

    It is 0 for coupled decay, and nan where this optimizer's decay is not known.

    It reads the group's `lr` and `weight_decay` as they are: under a law of `follow` the latter is that of the last step
    until the next one begins. An lr that is a tensor is read from its device.

    Args:
        optimizer: any.
        group: the parameter's group in it.
        parameter: the weight.
    """
    if hasattr(optimizer, "shrink"):  # Scion, ScionC
        return float(optimizer.shrink(group, parameter))
    law = decay_kind(optimizer, group)
    if law != "decoupled":
        return math.nan if law == "not known" else 0.0
    if _first_moves_nothing(optimizer, parameter):
        return 0.0
    decay, lr = float(group["weight_decay"]), float(group["lr"]) * _own_rate(optimizer, group, parameter)
    if group.get("fixed_decay") or group.get("unscaled_wd"):  # timm's AdaBelief and Adafactor: not times lr
        return decay * (lr / group["max_lr_snapshot"] if group.get("corrected_weight_decay") else 1.0)
    if group.get("corrected_weight_decay"):  # timm's own correction
        return lr**2 / group["max_lr_snapshot"] * decay
    if group.get("no_prox") is False:  # Adan divides by 1 + lr * lambda at the end of its step
        return lr * decay / (1 + lr * decay)
    return lr * decay


def decay_kind(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> str:
    """Return one of `LAWS`: what weight decay does in a group.

    "none" where its weight decay is 0, whatever the optimizer. Nothing is run for it.

    Args:
        optimizer: any.
        group: one of its groups.
    """
    if "weight_decay" not in group and known_class(optimizer) is None:
        return "not known"
    if float(group.get("weight_decay") or 0.0) == 0:
        return "none"
    return way_of_decay(optimizer, group) or "not known"


def way_of_decay(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> str | None:
    """Return "decoupled" or "coupled", whatever the amount of decay.

    It is "none" for a class without decay, and None where that is not known.

    Args:
        optimizer: any.
        group: one of its groups.
    """
    known = known_class(optimizer)
    flag = next((group[flag] for flag in _FLAGS if flag in group), None)
    return known if known is None or flag is None else "decoupled" if flag else "coupled"


def known_class(optimizer: torch.optim.Optimizer) -> str | None:
    """Return what an optimizer's class does with decay.

    Its groups may say otherwise. It is None for one that is not known: also a class of one's own that inherits from a known one and has another `step`.
    """
    if hasattr(optimizer, "shrink"):
        return "decoupled"
    return _known(type(optimizer))  # type: ignore[arg-type]  # mypy: a class is hashable


@functools.cache
def _known(kind: type) -> str | None:
    runs = _step_of(kind)
    for base in kind.__mro__:
        table = {"torch": _TORCH, "timm": _TIMM, "clipedu": _OURS}.get(base.__module__.partition(".")[0], {})
        if base.__name__ in table and _step_of(base) is runs:
            return table[base.__name__]
    return None


def same_in_group(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether all parameters of a group are decayed alike.

    It is so of torch's optimizers and of ours that are theirs by other means; some of timm's decide for each parameter.
    """
    return not hasattr(optimizer, "shrink") and _of_one_kind(type(optimizer))  # type: ignore[arg-type]


@functools.cache
def _of_one_kind(kind: type) -> bool:
    runs = _step_of(kind)
    tables = {"torch": _TORCH, "clipedu": _OURS}
    return any(
        base.__name__ in tables.get(base.__module__.partition(".")[0], {}) and _step_of(base) is runs
        for base in kind.__mro__
    )


def newest_weight(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> float:
    """Return alpha, the weight of the newest gradient in a step's average.

    It is 1 - beta1, or 1 - momentum, and 1 without memory.

    Args:
        optimizer: of torch, timm or clipedu.
        group: the parameter's group in it.
        parameter: the weight.
    """
    if hasattr(optimizer, "shrink"):  # Scion's own name for it; torch's RMSprop means something else by it
        return group["alpha"]
    betas = group.get("betas")
    if betas and not optimizer.state.get(parameter, {}).get("use_muon"):  # timm's Muon has betas for what is no matrix
        return 1.0 - float(betas[0])
    return 1.0 - float(group.get("momentum") or 0.0)


def _step_of(kind: type) -> Any:
    """Return the function behind a class's `step`, below the wrappers that torch puts around it."""
    return inspect.unwrap(kind.step)  # type: ignore[attr-defined]


def _own_rate(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> float:
    """Return what timm's Muon multiplies lr with where it steps like AdamW."""
    scale = group.get("fallback_lr_scale", 1.0)
    like_adamw = group.get("use_fallback") or not optimizer.state.get(parameter, {}).get("use_muon", True)
    return scale if like_adamw else 1.0


def _first_moves_nothing(optimizer: torch.optim.Optimizer, parameter: Tensor) -> bool:
    """Return whether the coming step moves nothing.

    timm's Adopt uses the first gradient for its statistics alone.
    """
    return type(optimizer).__name__ == "Adopt" and not optimizer.state.get(parameter)
