"""Parameter groups: which weights are decayed or corrected.

    decayed       two or more axes: the weights of linear layers, convolutions and embeddings
    not decayed   fewer than two: biases, gains and biases of norms, a temperature; and what a module exempts by a method
                  `no_weight_decay()`, as timm's vision transformers do: position codes, class token, registers
    head          decayed weights of the output layers; apart only where a law changes lambda, since theirs stays constant

The rule goes by shape, not by name, so that no fused or renamed weight is missed: "ends in .weight" would decay the gains
of a LayerNorm and miss an attention layer's `qkv_w` or `in_proj_weight`. Heads are found by the module that owns them.
Names are those of the bare model, however it is wrapped (`clipedu.utils.wrappers`).
`describe_groups` shows the groups as a table, and so does `clipedu groups --optimizer adamc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from clipedu.optim.shrinkage import is_decoupled
from clipedu.utils.errors import ClipeduError
from clipedu.utils.wrappers import named_modules, named_parameters, unwrap

HEADS = ("image_projection", "text_projection")  # the output layers of a dual encoder


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make two groups for a torch optimizer.

    They are "decayed" (two or more axes) and "not decayed" (decay 0).

    Args:
        model: its parameters that require a gradient are taken, a shared one once. A module in it may have a method
            `no_weight_decay()` that returns names of its own parameters (timm's convention).
        weight_decay: >= 0, of the decayed group.
    Returns:
        groups with keys "name", "params", "param_names" and "weight_decay"; an empty group is left out.
    """
    groups: dict[str, dict[str, Any]] = {}
    exempt = _exempt(model)
    for name, parameter in named_parameters(model):
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim >= 2 and name not in exempt
        kind, decay = ("decayed", weight_decay) if decayed else ("not decayed", 0.0)
        group = groups.setdefault(kind, {"name": kind, "params": [], "param_names": [], "weight_decay": decay})
        group["params"].append(parameter)
        group["param_names"].append(name)
    return list(groups.values())


def _exempt(model: nn.Module) -> set[str]:
    """Return the names of parameters that a module exempts from decay."""
    exempt: set[str] = set()
    for prefix, module in named_modules(model):
        names: Any = getattr(module, "no_weight_decay", None)
        exempt |= {f"{prefix}.{name}".lstrip(".") for name in (names() if callable(names) else ())}
    return exempt


def head_parameters(model: nn.Module, heads: Sequence[str]) -> set[nn.Parameter]:
    """Return the parameters of output layers.

    Args:
        model: whose modules are meant, wrapped or not.
        heads: names of modules, as in "classifier.last", of the bare model or as the wrapped one has them; those of `HEADS`
            may be missing.
    Raises:
        ClipeduError: a head that is not in the model.
    """
    modules = dict(model.named_modules()) | dict(named_modules(model))
    if missing := [head for head in heads if head not in modules and head not in HEADS]:
        raise ClipeduError(f"heads={list(heads)!r}: this {type(unwrap(model)).__name__} has no module {missing[0]!r}")
    return {p for head in heads if head in modules for p in modules[head].parameters()}


def head_apart(
    model: nn.Module, groups: list[dict[str, Any]], heads: Sequence[str], **settings: Any
) -> list[dict[str, Any]]:
    """Move the decayed weights of output layers to groups "head".

    Args:
        model: whose modules are meant.
        groups: as `parameter_groups` or `scion_groups` make them.
        heads: names of modules, as in "classifier.last"; those of `HEADS` may be missing from the model.
        settings: of the groups of heads, over those of the group they come from.
    Raises:
        ClipeduError: a head that is not in the model.
    """
    of_heads = head_parameters(model, heads)
    result = []
    for group in groups:
        name = "head" if group["name"] == "decayed" else f"head {group['name']}"
        for is_head, part in ((False, group), (True, group | {"name": name} | settings)):
            members = [
                (n, p)
                for n, p in zip(group["param_names"], group["params"], strict=True)
                if (p.ndim >= 2 and p in of_heads) == is_head
            ]
            if members:
                result.append(part | {"param_names": [n for n, _ in members], "params": [p for _, p in members]})
    return result


def describe_groups(optimizer: torch.optim.Optimizer) -> str:
    """Return a table of an optimizer's groups.

    For example:

        group        tensors  parameters  weight decay  law        why
        decayed           29     495,216          0.02  corrected  two or more axes
        head               2      20,480          0.02  constant   output layer: its steps aren't independent of its weights
        not decayed       54       4,128             0  -          fewer than two axes: biases, norms, scalars
        total             85     519,824

    The law is the one of `clipedu.optim.decay_laws`; "coupled L2" where decay is a part of the gradient, "-" where there is none.
    """
    rows = [("group", "tensors", "parameters", "weight decay", "law", "why")]
    groups = optimizer.param_groups
    for number, group in enumerate(groups):
        law, decay = _law(optimizer, group), group.get("weight_decay_max", group.get("weight_decay", 0.0))
        name = group.get("name", f"group {number}")
        rows.append((name, str(len(group["params"])), f"{_size(group):,}", f"{decay:g}", law, _why(group)))
    tensors = sum(len(group["params"]) for group in groups)
    rows.append(("total", str(tensors), f"{sum(map(_size, groups)):,}", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if 1 <= n <= 3 else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _size(group: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in group["params"])


def _law(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> str:
    if "weight_decay_max" in group:
        return group["decay_law"] if group["weight_decay_max"] > 0 else "-"
    if group.get("corrected") and group.get("target") is not None:
        return "corrected"
    if not group.get("weight_decay"):
        return "-"
    return "constant" if is_decoupled(optimizer, group) else "coupled L2"


def _why(group: dict[str, Any]) -> str:
    """Return the reason, read from what the group holds.

    So the table cannot be wrong.
    """
    axes = {parameter.ndim >= 2 for parameter in group["params"]}
    if group.get("name", "").startswith("head"):
        return "output layer: its steps aren't independent of its weights"
    if axes == {False}:
        return "fewer than two axes: biases, norms, scalars"
    if group.get("name") == "not decayed":
        return "fewer than two axes, or exempt: position codes, class token, registers"
    return "two or more axes" if axes == {True} else "any shape"
