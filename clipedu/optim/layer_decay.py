"""The layers of an encoder in their order, for layer-wise decay of lr.

In fine-tuning the first layers, which see edges or letters, need change least. Layer decay (BEiT, arXiv:2106.08254; of CLIP
arXiv:2212.06138) gives each layer `decay` times the learning rate of the layer above it. The layers are

    timm's models      those of their own `group_matcher`, as timm's `param_groups_layer_decay` takes them
    transformers       what comes before the blocks is layer 0 (embeddings, positions), block i is layer i + 1; a norm after the
                       blocks belongs to the last one, and pooling with weights is a layer above it

Any other encoder has stages of several widths or branches, and no order that is known here: a `ClipeduError` says so.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from clipedu.utils.errors import ClipeduError

_ADAPTER = re.compile(r"\.(base_layer|lora_[A-Za-z]+\.[^.]+)(?=\.|$)")  # what peft puts into the names of parameters
_NO_BLOCKS = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Dropout)


def layer_numbers(encoder: nn.Module, what: str = "encoder") -> dict[str, int]:
    """Return the layer of each parameter, by name, from 0.

    An adapter (LoRA) is in the layer of the weight that it adapts.

    Args:
        encoder: of timm, or a transformer.
        what: the encoder is, for the message: "image encoder".
    Raises:
        ClipeduError: it has no order of layers that is known.
    """
    numbers = _as_timm(encoder) if hasattr(encoder, "group_matcher") else _by_blocks(encoder)
    if len(set(numbers.values())) < 2:
        side = what.partition(" ")[0]
        raise ClipeduError(
            f"layer_decay does not fit this {what}, a {type(encoder).__name__}: it has neither timm's group_matcher nor one list of "
            f"equal blocks, so its layers have no known order. Leave layer_decay out, or freeze it ({side}_frozen=True)"
        )
    return numbers


def _as_timm(encoder: Any) -> dict[str, int]:
    from timm.models import group_parameters

    plain: Any = _Plain(encoder)
    numbers = group_parameters(plain, encoder.group_matcher(coarse=False), reverse=True)
    return {name: int(numbers[_plain(name)]) for name, _ in encoder.named_parameters()}


class _Plain:
    """What timm asks of a model: its parameters, under their names without adapters."""

    def __init__(self, encoder: nn.Module):
        self._encoder = encoder

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return list({_plain(name): (_plain(name), p) for name, p in self._encoder.named_parameters()}.values())


def _plain(name: str) -> str:
    return _ADAPTER.sub("", name)


def _by_blocks(encoder: nn.Module) -> dict[str, int]:
    """Number the layers of a transformer; {} for what is none."""
    lists = {
        name: module
        for name, module in encoder.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        and len({type(block) for block in module}) == 1
        and not isinstance(module[0], _NO_BLOCKS)
        and any(True for _ in module[0].parameters())
    }
    outer = [name for name in lists if not any(name != other and name.startswith(f"{other}.") for other in lists)]
    if len(outer) != 1:
        return {}
    numbers: dict[str, int] = {}
    blocks, count, passed = outer[0], len(lists[outer[0]]), False
    for name, _ in encoder.named_parameters():
        if name.startswith(f"{blocks}."):
            numbers[name], passed = int(name[len(blocks) + 1 :].partition(".")[0]) + 1, True
        elif not passed:
            numbers[name] = 0
        else:
            numbers[name] = count if _is_norm(encoder, name, blocks) else count + 1
    return numbers


def _is_norm(encoder: nn.Module, name: str, blocks: str) -> bool:
    """Return whether a parameter after the blocks is of a norm, not of a pooling layer, which has matrices."""
    own, other = name.split("."), blocks.split(".")
    shared = next((n for n, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), 0)
    module = encoder.get_submodule(".".join(own[: shared + 1])) if shared + 1 < len(own) else None
    return module is not None and all(p.ndim < 2 for p in module.parameters())
