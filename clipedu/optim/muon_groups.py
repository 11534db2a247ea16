"""Which weights Muon orthogonalises, and which it leaves to AdamW.

As published, Muon is for the matrices inside: input and output layers, biases, gains and tokens take steps of AdamW, since what
helps a matrix that mixes features does not suit a table whose rows are words, of which a batch has seen few.

    hidden   (default) matrices and kernels, but for these: embedding tables (words, positions, token types), convolutions that
             read pixels (at most four channels: a patch embedding, a ResNet's first), heads, and what is exempt from decay
    all      every matrix and kernel that timm's Muon finds suitable, as timm does by itself

Kernels are flattened to [out, in * height * width]. A fused qkv [3 d, d] is orthogonalised as one matrix, where Muon's authors
treat q, k and v apart; so is the in_proj_weight of torch's attention.

timm's step is not torch's: for a weight [out, in] it is 0.2 sqrt(max(out, in)) long in each direction (Moonlight's), torch's
sqrt(max(1, out / in)) (Jordan's), so at the same lr timm's is some 0.2 sqrt(in) times as long: measured 2.6 for [384, 128], 3.0 for
[768, 192] (`pytest tests/optim/test_muon_groups.py -k torchs` measures some), and over 5 for in = 768. `adjust_lr_fn="original"` gives
torch's. With nesterov=True, our default, what is left to AdamW takes steps of NAdamW.

Sources: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025 (arXiv:2502.16982).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from clipedu.optim.param_groups import HEADS, head_apart, parameter_groups
from clipedu.utils.checks import checked_choice

ORTHOGONALISE = ("hidden", "all")

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COLOURS = 4  # channels of pixels, at most


def muon_groups(
    model: nn.Module, weight_decay: float, heads: Sequence[str] = HEADS, orthogonalise: str = "hidden"
) -> list[dict[str, Any]]:
    """Make groups for timm's Muon.

    Args:
        model: its parameters that require a gradient are taken.
        weight_decay: >= 0, of the decayed groups.
        heads: names of modules that are output layers, as in `build_optimizer`.
        orthogonalise: one of `ORTHOGONALISE`.
    Returns:
        groups as of `parameter_groups`; for "hidden" the decayed one is split into "decayed", "input" and "head", and all but
        the first have "use_fallback".
    Raises:
        ClipeduError: a head that is not in the model, another word for `orthogonalise`.
    """
    groups = parameter_groups(model, weight_decay)
    if checked_choice("orthogonalise", orthogonalise, ORTHOGONALISE) == "all":
        return groups
    inputs = {module.weight for module in model.modules() if _is_input(module)}
    result: list[dict[str, Any]] = []
    for group in groups:
        if group["name"] != "decayed":
            result.append(group | {"use_fallback": True})
            continue
        pairs = list(zip(group["param_names"], group["params"], strict=True))
        for settings, chosen in (({}, False), ({"name": "input", "use_fallback": True}, True)):
            own = [(name, p) for name, p in pairs if (p in inputs) == chosen]
            if own:
                names, parameters = map(list, zip(*own, strict=True))
                result.append(group | settings | {"param_names": names, "params": parameters})
    return head_apart(model, result, heads, use_fallback=True)


def _is_input(module: nn.Module) -> bool:
    if isinstance(module, _CONVOLUTIONS):
        return module.in_channels <= _COLOURS
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)
