"""`build_optimizer`: torch's optimizers by name, with the course's rule of what is decayed.

    sgd    w <- w - lr * v,              v <- momentum * v + g + weight_decay * w        (Nesterov, momentum 0.9)
    adam   w <- w - lr * m / (sqrt(v) + eps),     m, v averages of g + weight_decay * w  and its square: coupled L2
    adamw  w <- w - lr * m / (sqrt(v) + eps) - lr * weight_decay * w,   m, v of g alone: decoupled decay

In "adam" the decay passes through the division by sqrt(v): where |weight_decay * w| exceeds |g|, the step is about
lr * sign(w), whatever the weight decay. The course ran its "Adam" column like this.
Sources: Kingma and Ba 2015 (arXiv 1412.6980); Loshchilov and Hutter 2019 (arXiv 1711.05101).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from clipedu.optim.groups import parameter_groups
from clipedu.registry import ClipeduError, Registry

OPTIMIZERS = Registry("optimizer")
OPTIMIZERS.add(
    "sgd",
    torch.optim.SGD,
    "SGD with Nesterov momentum 0.9; L2 in the gradient",
    defaults={"momentum": 0.9, "nesterov": True},
)
OPTIMIZERS.add(
    "adam",
    torch.optim.Adam,
    "Adam with L2 coupled into the gradient, as the course ran it",
    paper="arXiv 1412.6980",
    defaults={"betas": (0.9, 0.999), "eps": 1e-8},
)
OPTIMIZERS.add(
    "adamw",
    torch.optim.AdamW,
    "Adam with decoupled weight decay",
    paper="arXiv 1711.05101",
    defaults={"betas": (0.9, 0.999), "eps": 1e-8},
)


def build_optimizer(
    model: nn.Module, name: str, *, lr: float, weight_decay: float = 0.0, **options: Any
) -> torch.optim.Optimizer:
    """An optimizer over the trainable parameters of `model`; weight decay 0 on biases and norms (`parameter_groups`).

    Args:
        name: one of `OPTIMIZERS`.
        lr: learning rate, >= 0.
        weight_decay: >= 0, of the decayed group.
        options: further arguments of the optimizer, over the defaults of its entry.
    Raises:
        ClipeduError: unknown name, an option the optimizer does not take, a value it refuses, nothing to train.
    """
    entry = OPTIMIZERS[name]
    groups = parameter_groups(model, weight_decay)
    if not groups:
        raise ClipeduError(f"nothing to train: no parameter of this {type(model).__name__} requires a gradient")
    try:
        if not (0 <= lr < math.inf and 0 <= weight_decay < math.inf):
            raise ValueError("lr and weight_decay must be finite and at least 0")
        return entry.build(groups, lr=lr, weight_decay=weight_decay, **{**entry.defaults, **options})
    except (TypeError, ValueError) as error:
        given = ", ".join(
            f"{key}={value!r}" for key, value in {"lr": lr, "weight_decay": weight_decay, **options}.items()
        )
        raise ClipeduError(f"optimizer {name!r} does not take {given}: {error}") from None
