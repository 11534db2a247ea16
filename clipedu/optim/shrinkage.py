"""`shrink`: the share of a weight that the coming step takes away.

A step of decoupled weight decay is w' = (1 - s) w - lr u. s is the *shrink*: lr * lambda for most, lr^2 *
lambda / lr_max for corrected decay, Scion's own for Scion. Where decay is coupled, L2 in the gradient, nothing is taken
away apart from the update u, and s is 0.

Torch and timm keep in the group which of the two it is ("decoupled_weight_decay", "decoupled_decay", "decoupled"); where a
class has only one way, the class decides. An unknown optimizer is taken for decoupled.

LaProp and Lamb shrink at the end of their step, w' = (1 - s) (w - lr u): then lr u counts as (1 - s) lr u.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FLAGS = ("decoupled_weight_decay", "decoupled_decay", "decoupled")
_COUPLED = {  # those that have no other way; the names of timm's classes, which is not imported for this
    torch.optim.SGD,
    torch.optim.ASGD,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.RMSprop,
}
_COUPLED_OF_TIMM = ("Lars", "NAdamLegacy", "RAdamLegacy")


def shrink(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> float:
    """Return s of the step w' = (1 - s) w - lr u; 0 for coupled decay.

    It reads the group's `lr` and `weight_decay` as they are: under a law of `follow` the latter is that of the last step
    until the next one begins. An lr that is a tensor is read from its device.

    Not included: AdamP and SGDP decay a weight by a tenth of this ("wd_ratio") where they find in a step that its scale
    is free; SGDP divides by 1 - momentum; timm's Kron can draw its decay at random; its Muon can give what is no matrix
    an lr of its own.

    Args:
        optimizer: of torch, timm or clipedu.
        group: the parameter's group in it.
        parameter: the weight.
    """
    if hasattr(optimizer, "shrink"):  # Scion, ScionC
        return float(optimizer.shrink(group, parameter))
    decay, lr = float(group.get("weight_decay", 0.0)), float(group["lr"])
    if decay == 0 or not is_decoupled(optimizer, group) or _first_moves_nothing(optimizer, parameter):
        return 0.0
    if group.get("fixed_decay") or group.get("unscaled_wd"):  # timm's AdaBelief and Adafactor: not times lr
        return decay * (lr / group["max_lr_snapshot"] if group.get("corrected_weight_decay") else 1.0)
    if group.get("corrected_weight_decay"):  # timm's own correction
        return lr**2 / group["max_lr_snapshot"] * decay
    if group.get("no_prox") is False:  # Adan divides by 1 + lr * lambda at the end of its step
        return lr * decay / (1 + lr * decay)
    return lr * decay


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


def is_decoupled(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Return whether weight decay is a shrink, not L2 in the gradient."""
    for flag in _FLAGS:
        if flag in group:
            return bool(group[flag])
    return type(optimizer) not in _COUPLED and type(optimizer).__name__ not in _COUPLED_OF_TIMM


def _first_moves_nothing(optimizer: torch.optim.Optimizer, parameter: Tensor) -> bool:
    """Return whether the coming step moves nothing.

    timm's Adopt uses the first gradient for its statistics alone.
    """
    return type(optimizer).__name__ == "Adopt" and not optimizer.state.get(parameter)
