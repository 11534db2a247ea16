"""`twin_of`: a copy of an optimizer to try a step on.

It has copies of the weights, their gradients, the state, the options and whatever else the optimizer keeps, and none of its hooks.
"""

from __future__ import annotations

import copy
import random
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def twin_of(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor] | None = None
) -> tuple[torch.optim.Optimizer, dict[Tensor, Tensor]]:
    """Copy an optimizer with its weights, gradients, state and options.

    The copy has no hooks and follows no law (`clipedu.optim.follow`).

    Args:
        optimizer: any.
        parameters: weights that the copy has; all.
    Returns:
        the copy, and the copy of each weight.
    """
    wanted = None if parameters is None else set(parameters)
    copies: dict[Tensor, Tensor] = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if wanted is None or p in wanted:
                copies[p] = p.detach().clone(memory_format=torch.preserve_format).requires_grad_(p.requires_grad)
                if isinstance(p, torch.nn.Parameter):
                    copies[p] = torch.nn.Parameter(copies[p].detach(), requires_grad=p.requires_grad)
                copies[p].grad = None if p.grad is None else p.grad.detach().clone()
    parts = {name: value for name, value in vars(optimizer).items() if name != "step" and not name.endswith("_hooks")}
    parts["param_groups"] = [_only(group, copies) for group in optimizer.param_groups]
    kept = {p: state for p, state in optimizer.state.items() if wanted is None or p in copies}
    parts["state"] = defaultdict(dict, kept)
    twin = object.__new__(type(optimizer))
    hooks: dict[str, Any] = {name: OrderedDict() for name in vars(optimizer) if name.endswith("_hooks")}
    twin.__dict__.update(copy.deepcopy(parts, {id(p): c for p, c in copies.items()}) | hooks)
    return twin, copies


def step_alone(optimizer: torch.optim.Optimizer) -> None:
    """Step without torch's wrapper.

    It runs the hooks that are set for every optimizer, and marks the step for the profiler.
    """
    step: Any = type(optimizer).step
    (step.__wrapped__ if getattr(step, "hooked", False) else step)(optimizer)


def _only(group: dict[str, Any], wanted: dict[Tensor, Tensor]) -> dict[str, Any]:
    kept = [n for n, p in enumerate(group["params"]) if p in wanted]
    names = group.get("param_names")
    short = {"params": [group["params"][n] for n in kept]}
    return group | short | ({} if names is None else {"param_names": [names[n] for n in kept]})


@contextmanager
def random_numbers_kept(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put all generators back where they were."""
    ours, numpys = random.getstate(), np.random.get_state()
    devices = {p.device for group in optimizer.param_groups for p in group["params"] if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)
