"""Two steps of an optimizer on a few numbers, before anything is read.

Some options fail in the first step only: `differentiable`, `capturable`, a learning rate beyond float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from clipedu.optim.factory import build_optimizer
from clipedu.optim.option_checks import check_heads, check_kinds, refused


def try_optimizer(name: str, device: torch.device | str = "cpu", **settings: Any) -> float:
    """Make two steps of an optimizer on a few numbers.

    The gradients are zeros and ones. The heads are not tried: they are modules of the real model.

    Args:
        name: one of `OPTIMIZERS`.
        device: where the steps are made: some options work on GPUs only.
        settings: of `build_optimizer`: lr, weight_decay and options.
    Returns:
        how many numbers its state has for each trained one, about.
    Raises:
        ClipeduError: the optimizer refuses its options, or fails with them.
    """
    with torch.random.fork_rng(devices=[]):
        parts = {"image_encoder": nn.Conv2d(3, 4, 2), "norm": nn.LayerNorm(4), "image_projection": nn.Linear(4, 2)}
        model = nn.ModuleDict(parts).to(device)
    check_heads(settings.get("heads"))
    options = {key: value for key, value in settings.items() if key not in ("lr", "weight_decay", "heads")}
    plain = build_optimizer(model, name, lr=1e-3)
    check_kinds(name, options, plain.param_groups[0])
    optimizer = build_optimizer(model, name, lr=settings["lr"], weight_decay=settings["weight_decay"], **options)
    try:
        for gradient in (0.0, 1.0):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, gradient)
            optimizer.step()
    except Exception as error:  # noqa: BLE001  each optimizer fails in its own way
        raise refused(name, settings, error) from None
    held = sum(x.numel() for state in optimizer.state.values() for x in state.values() if torch.is_tensor(x) and x.ndim)
    return held / sum(parameter.numel() for parameter in model.parameters())
