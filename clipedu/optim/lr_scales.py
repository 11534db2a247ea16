"""A learning rate for each tower and layer: groups with an `lr_scale`.

A group's learning rate is always `lr * lr_scale`: what a schedule says, times a factor that stays. So one peak is chosen, and the
proportions between towers and layers are kept all the way through warm-up and cosine. Decay laws read a group's own `lr`, so
they hold in each group as they do in one.

    tower_scales(model, image=0.1, layer_decay=0.75)   -> {"image_encoder.conv1.weight": 0.0178, ...}
    build_optimizer(model, "adamw", lr=1e-5, lr_scales=that)

`lr_scale` is timm's word; big_vision's (LiT) is `lr_mults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from clipedu.optim.layer_decay import layer_numbers
from clipedu.utils.wrappers import named_parameters, unwrap


def tower_scales(
    model: nn.Module, *, image: float = 1.0, text: float = 1.0, layer_decay: float | None = None
) -> dict[str, float]:
    """Return what lr is multiplied with, by parameter, where that is not 1.

    Args:
        model: a dual encoder: `image_encoder`, `image_projection` and the same of `text`; other parts keep 1.
        image, text: of a whole tower, its encoder and its projection; > 0.
        layer_decay: in (0, 1]: factor of a layer's learning rate in that of the layer above it (`layer_numbers`). The topmost
            layer of a tower is its projection; of a tower without one, the last layer of the encoder. None leaves layers alike. An
            encoder of which nothing is trained needs no order of layers.
    Raises:
        ClipeduError: an encoder without an order of layers.
    """
    bare: Any = unwrap(model)
    scales: dict[str, float] = {}
    for side, factor in (("image", image), ("text", text)):
        encoder, head = getattr(bare, f"{side}_encoder"), getattr(bare, f"{side}_projection")
        trained = [name for name, p in named_parameters(encoder) if p.requires_grad]
        decays = dict.fromkeys(trained, 1.0)
        if layer_decay is not None and trained:
            numbers = layer_numbers(encoder, f"{side} encoder")
            top = max(numbers.values()) + bool(list(head.parameters()))
            decays = {name: layer_decay ** (top - numbers[name]) for name in trained}
        scales |= {f"{side}_encoder.{name}": factor * decay for name, decay in decays.items()}
        scales |= {f"{side}_projection.{name}": factor for name, _ in named_parameters(head)}
    return {name: scale for name, scale in scales.items() if scale != 1.0}


def scaled_groups(
    groups: list[dict[str, Any]], scales: Mapping[str, float], *, lr: float, lr_max: float | None = None
) -> list[dict[str, Any]]:
    """Divide groups by the factor of their parameters' learning rates.

    Args:
        groups: with "name", "params" and "param_names".
        scales: factor by parameter name; 1 for those that are missing.
        lr: that all groups would have.
        lr_max: the peak for decay laws, where it is given.
    Returns:
        groups in the same order. Those whose factor is not 1 have "lr_scale", their own "lr" (and "lr_max"), and a name that says
        it; a group of factor 1 is as it was.
    """
    result = []
    for group in groups:
        parts: dict[float, list[int]] = {}
        for number, name in enumerate(group["param_names"]):
            parts.setdefault(scales.get(name, 1.0), []).append(number)
        for scale, members in parts.items():
            part = group | {key: [group[key][n] for n in members] for key in ("params", "param_names")}
            if scale != 1.0:
                part |= {"name": f"{group['name']}, lr x {scale:.3g}", "lr": lr * scale, "lr_scale": scale}
                part |= {} if lr_max is None else {"lr_max": lr_max * scale}
            result.append(part)
    return result


def set_lr(group: dict[str, Any], lr: float) -> None:
    """Set a group's learning rate: the schedule's, times its factor.

    Args:
        group: of an optimizer.
        lr: of the schedule.
    """
    group["lr"] = lr * group["lr_scale"] if "lr_scale" in group else lr
