"""`describe_groups`: an optimizer's groups as a table.

It has the decay that is known of each, and what a step of the optimizer's own code was measured to take.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from clipedu.optim.decay_probe import Decay, measure
from clipedu.optim.shrinkage import decay_kind


def describe_groups(optimizer: torch.optim.Optimizer) -> str:
    """Return a table of an optimizer's groups.

    For example:

        group        tensors  parameters  weight decay  law        decay      lr * decay  measured  why
        decayed           29     495,216          0.02  corrected  decoupled       2e-05     2e-05  two or more axes
        head               2      20,480          0.02  constant   decoupled       2e-05     2e-05  output layer: its steps aren't independent of its weights
        not decayed       54       4,128             0  -          none                0         0  fewer than two axes: biases, norms, scalars
        total             85     519,824

    decay: one of `clipedu.optim.shrinkage.LAWS`: what is known of the optimizer's class, else what was measured. law: the one of
    `clipedu.optim.decay_laws`; "coupled L2" where it is a part of the gradient, "-" where there is none or it is not known. measured: the share of a weight that decay takes in a step,
    found by three steps of the optimizer's code on copies of the group's two smallest weights, with random gradients; from
    the least to the largest where they differ ("0 to 1.3e-05": a warm-up inside), "0" for coupled decay.
    """
    numbers = ("lr * decay", "measured")
    groups = optimizer.param_groups
    rows: list[tuple[str, ...]] = [("group", "tensors", "parameters", "weight decay", "law", "decay", *numbers, "why")]
    for number, (group, found) in enumerate(zip(groups, measure(optimizer), strict=True)):
        decay = float(group.get("weight_decay_max", group.get("weight_decay")) or 0.0)
        kind = decay_kind(optimizer, group)
        if kind == "not known" and found:
            kind = found[-1].law
        cells = [f"{decay:g}", _law(group, kind), kind, f"{float(group['lr']) * decay:.3g}", _measured(kind, found)]
        name = group.get("name", f"group {number}")
        rows.append((name, str(len(group["params"])), f"{_size(group):,}", *cells, _why(group) + _muons(group)))
    tensors = sum(len(group["params"]) for group in groups)
    rows.append(("total", str(tensors), f"{sum(map(_size, groups)):,}", *[""] * 6))
    right = {1, 2, 3, 6, 7}
    if any("lr_scale" in group for group in groups):
        rates = ["lr", *(f"{float(group['lr']):.3g}" for group in groups), ""]
        rows = [(*row[:3], rate, *row[3:]) for row, rate in zip(rows, rates, strict=True)]
        right = {1, 2, 3, 4, 7, 8}
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _size(group: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in group["params"])


def _law(group: dict[str, Any], kind: str) -> str:
    if kind != "decoupled":
        return "coupled L2" if kind == "coupled" else "-"
    if "weight_decay_max" in group:
        return group["decay_law"]
    own = group.get("corrected") and group.get("target") is not None
    return "corrected" if own or group.get("corrected_weight_decay") else "constant"


def _measured(kind: str, found: list[Decay]) -> str:
    if kind == "none":
        return "0"
    shares = [decay.shrink for decay in found]
    if not shares or any(map(math.isnan, shares)):
        return "not known"
    low, high = min(shares), max(shares)
    return f"{high:.3g}" if high - low <= 0.01 * abs(high) else f"{low:.3g} to {high:.3g}"


def _why(group: dict[str, Any]) -> str:
    """Return the reason, read from what the group holds.

    So the table cannot be wrong.
    """
    axes = {parameter.ndim >= 2 for parameter in group["params"]}
    name = group.get("name", "").partition(", lr x ")[0]
    if name.startswith("head"):
        return "output layer: its steps aren't independent of its weights"
    if name == "input":
        return "tables, and kernels that read pixels"
    if axes == {False}:
        return "fewer than two axes: biases, norms, scalars"
    if name == "not decayed":
        return "fewer than two axes, or exempt: position codes, class token, registers"
    return ("two or more axes" if axes == {True} else "any shape") + _adapters(group)


def _adapters(group: dict[str, Any]) -> str:
    """Return how many of a group's tensors are adapters of LoRA, or ""."""
    names = group.get("param_names", ())
    count = sum(".lora_" in name for name in names)
    return (
        ""
        if not count
        else f": adapters (LoRA), {count} of {len(names)}"
        if count < len(names)
        else ": adapters (LoRA)"
    )


def _muons(group: dict[str, Any]) -> str:
    """Return which of its two steps timm's Muon takes.

    It is "" for any other optimizer, and where shapes leave no choice.
    """
    if "ns_coefficients" not in group or "use_fallback" not in group and all(p.ndim < 2 for p in group["params"]):
        return ""
    adamw = "NAdamW" if group.get("nesterov") else "AdamW"
    return f"; a step of {adamw}" if group.get("use_fallback") else "; orthogonalised, a fused qkv as one matrix"
