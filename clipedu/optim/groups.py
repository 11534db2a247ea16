"""Which parameters are decayed: those with two or more dimensions. Biases and norms (and a temperature) are not.

The rule goes by shape, not by name, so that no fused or renamed weight slips through; and it can be printed.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: "decayed" (two or more dimensions) and "not decayed" (decay 0).

    Args:
        model: its parameters that require a gradient are taken, a shared one once.
        weight_decay: >= 0, of the decayed group.
    Returns:
        groups with keys "name", "params", "param_names" and "weight_decay"; an empty group is left out.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kind, decay = ("decayed", weight_decay) if parameter.ndim >= 2 else ("not decayed", 0.0)
        group = groups.setdefault(kind, {"name": kind, "params": [], "param_names": [], "weight_decay": decay})
        group["params"].append(parameter)
        group["param_names"].append(name)
    return list(groups.values())


def describe_groups(groups: list[dict[str, Any]]) -> str:
    """A line a group: its name, weight decay, tensors and numbers in them."""
    lines = [f"{'group':<12} {'weight decay':>12} {'tensors':>8} {'parameters':>12}"]
    for group in groups:
        count = sum(parameter.numel() for parameter in group["params"])
        lines.append(f"{group['name']:<12} {group['weight_decay']:>12g} {len(group['params']):>8} {count:>12,}")
    return "\n".join(lines)
