"""Parameter groups: which weights are decayed or corrected.

    decayed       two or more axes: the weights of linear layers, convolutions and embeddings
    not decayed   fewer than two: biases, gains and biases of norms, a temperature; and what a module exempts by a method
                  `no_weight_decay()`, as timm's vision transformers do: position codes, class token, registers
    head          decayed weights of the output layers; apart only where a law changes lambda, since theirs stays constant

The rule goes by shape, not by name, so that no fused or renamed weight is missed: "ends in .weight" would decay the gains
of a LayerNorm and miss an attention layer's `qkv_w` or `in_proj_weight`. Heads are found by the module that owns them.
Names are those of the bare model, however it is wrapped (`clipedu.utils.wrappers`).
`describe_groups` (`group_table.py`) shows the groups as a table, and so does `clipedu groups --optimizer adamc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

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
        name = "head" if group["name"] in ("decayed", "head") else f"head {group['name']}"
        for is_head, part in ((False, group), (True, group | {"name": name} | settings)):
            members = [
                (n, p)
                for n, p in zip(group["param_names"], group["params"], strict=True)
                if (p.ndim >= 2 and p in of_heads) == is_head
            ]
            if members:
                result.append(part | {"param_names": [n for n, _ in members], "params": [p for _, p in members]})
    return result
