"""What one minibatch contributes to each layer, read after a step.

    q         its total contribution: the steps to come will add -lr q, all of it, little by little. For AdamW
              q = g / (sqrt(v) + eps), whatever beta1; for SGD with momentum q = g times the sum of the momentum's weights
    size      ||q||; `equilibrium.py` calls E||q||^2 the TUC. Of AdamW about the root of how many numbers get gradients
    drift     cos(w, q): above 0 the minibatch makes the weight shorter, below 0 longer (`drift.py`)
    radial    cos(w, g): exactly 0 for a layer whose length a normalisation takes out (Euler's theorem)
    active    how many numbers have ever had a gradient: rows of words that never occurred have none

This is the one place where the monitor reads an optimizer's state: torch's documented `exp_avg_sq`, and it never writes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipedu.norms.contribution import heavy_ball
from clipedu.norms.snapshot import wide
from clipedu.optim.shrinkage import decay_kind


@torch.no_grad()
def minibatches(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], before: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """Measure the contribution of a minibatch to each parameter.

    The result holds ||q||^2, <w, q>, <w, g>, ||g||^2 and the active numbers: [5, parameters] on their device.

    It is nan where there is none: no gradient, or a contribution of no simple form.

    Args:
        optimizer: after its step, before gradients are cleared.
        parameters: all on one device.
        before: the weights before the step, in any shape of as many numbers, in the parameter's order in memory.
        dtype: of the result; the products themselves are summed in the parameters' own.
    """
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    nothing = torch.full((), torch.nan, dtype=dtype, device=parameters[0].device)
    columns = []
    for parameter, old in zip(parameters, before, strict=True):
        column = [nothing] * 4 + [active_numbers(optimizer, parameter).to(nothing)]
        if parameter.grad is not None:
            old = _like(old, parameter)
            q = contributed(optimizer, groups[parameter], parameter) if parameter in groups else None
            column[2:4] = [(old * parameter.grad).sum().to(nothing), parameter.grad.square().sum().to(nothing)]
            if q is not None:
                column[:2] = [q.square().sum().to(nothing), (old * q).sum().to(nothing)]
        columns.append(torch.stack(column))
    return torch.stack(columns, dim=1)


def _like(flat: Tensor, parameter: Tensor) -> Tensor:
    """Return numbers as a tensor with a parameter's shape and strides.

    They are in the order of the parameter's memory.
    """
    return flat if flat.shape == parameter.shape else torch.as_strided(flat, parameter.shape, parameter.stride())


def contributed(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> Tensor | None:
    """Return q of the step just done, shaped like the parameter.

    Read it before gradients are cleared.

    The result is None where a contribution has no such simple form: signs and polar factors, coupled decay, other
    optimizers than SGD (also timm's SGDW) and AdamW (and Adam at decay 0), no gradient, no state yet.

    Args:
        optimizer: after its step.
        group: the parameter's group in it.
        parameter: with its gradient.
    """
    state, gradient = optimizer.state.get(parameter, {}), parameter.grad
    if gradient is None or group.get("maximize") or decay_kind(optimizer, group) not in ("decoupled", "none"):
        return None
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):  # until torch 2.6 the second was no Adam
        if "exp_avg_sq" not in state or group["amsgrad"]:
            return None
        step = torch.as_tensor(state["step"])  # a fused optimizer keeps it on the device: the host must not wait for it
        square = state["exp_avg_sq"] / (1 - group["betas"][1] ** step.to(wide(step.device))).to(parameter.dtype)
        return gradient / (square.sqrt() + group["eps"])
    if type(optimizer).__name__ in ("SGD", "SGDW"):
        return gradient * heavy_ball(group["momentum"], group["dampening"], group["nesterov"]).total
    return None


def active_numbers(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor:
    """Count the numbers of a parameter that have had a gradient so far.

    The result is a tensor; rows of words that never occurred have none.
    """
    square = optimizer.state.get(parameter, {}).get("exp_avg_sq")
    return parameter.new_full((), parameter.numel()) if square is None else (square > 0).sum()
