"""`watched_layers`: the tensors that a monitor watches.

They are of several kinds, since not all follow the same laws.

    matrix   two or more axes: linear layers, convolutions, embeddings. What the theory of balances is about
    head     a matrix of an output layer: its steps are not independent of its weights
    1-D      biases, gains and biases of norms: mostly not decayed
    tied     one tensor under several names, whose gradient is a sum: "embedding.weight = decoder.weight"

Single numbers (a temperature, a curvature: no axis at all) have a value, not a norm, and are left out. Names are those of
the bare model, however it is wrapped (`clipedu.utils.wrappers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from clipedu.optim.param_groups import HEADS, head_parameters
from clipedu.utils.errors import ClipeduError
from clipedu.utils.wrappers import named_parameters, unwrap

KINDS = ("matrix", "head", "1-D", "tied")


@dataclass(frozen=True, eq=False)
class Layer:
    """One watched tensor.

    Attributes:
        name: of the parameter; all its names, with " = " between them, if it has several.
        part: of the model, "image" or "text": the first word of the name, up to a "." or a "_".
        kind: one of `KINDS`.
        parameter: the tensor.
    """

    name: str
    part: str
    kind: str
    parameter: nn.Parameter


def watched_layers(model: nn.Module, heads: Sequence[str] = HEADS, *, frozen: bool = False) -> list[Layer]:
    """Return the tensors of a model that require a gradient and have an axis.

    Each is listed once, in the model's order.

    Args:
        model: any module.
        heads: names of modules that are output layers, as in "classifier.last"; those of `HEADS` may be missing.
        frozen: also those that require none.
    Raises:
        ClipeduError: a head that is not in the model, or nothing to watch.
    """
    of_heads = head_parameters(model, heads)
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in named_parameters(model, remove_duplicate=False):
        if (parameter.requires_grad or frozen) and parameter.ndim > 0:
            names.setdefault(parameter, []).append(name)
    if not names:
        raise ClipeduError(f"nothing to watch: no parameter of this {type(unwrap(model)).__name__} requires a gradient")
    return [
        Layer(" = ".join(own), own[0].split(".")[0].split("_")[0], _kind(p, len(own), p in of_heads), p)
        for p, own in names.items()
    ]


def _kind(parameter: Tensor, names: int, is_head: bool) -> str:
    if names > 1:
        return "tied"
    if parameter.ndim < 2:
        return "1-D"
    return "head" if is_head else "matrix"
