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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from clipedu.optim.param_groups import HEADS, head_parameters
from clipedu.utils.errors import ClipeduError, quoted, unknown_name
from clipedu.utils.wrappers import named_parameters, unwrap

OTHER = "other"  # the part of what begins with none of the given words
KINDS = ("matrix", "head", "1-D", "tied")


@dataclass(frozen=True, eq=False)
class Layer:
    """One watched tensor.

    Attributes:
        name: of the parameter; all its names, with " = " between them, if it has several.
        part: of the model, "image" or "text": the first word of the name, up to a "." or a "_", or what was named so.
        kind: one of `KINDS`.
        parameter: the tensor.
    """

    name: str
    part: str
    kind: str
    parameter: nn.Parameter


def watched_layers(
    model: nn.Module, heads: Sequence[str] = HEADS, parts: Mapping[str, str] | None = None, *, frozen: bool = False
) -> list[Layer]:
    """Return the tensors of a model that require a gradient and have an axis.

    Each is listed once, in the model's order.

    Args:
        model: any module.
        heads: names of modules that are output layers, as in "classifier.last"; those of `HEADS` may be missing.
        parts: {beginning of a name: part}: of several that a name begins with the longest counts, and what begins with none is part
            "other". A beginning ends where a word of the name does: "blocks.1" is not that of "blocks.11.weight". None takes the
            model's own, if it has an attribute `parts` (an adopted model), or else each name's first word.
        frozen: also those that require none.
    Raises:
        ClipeduError: a head that is not in the model, a part that no parameter belongs to or that is called "all", or nothing to
            watch.
    """
    if parts is None:
        parts = getattr(unwrap(model), "parts", None)
    else:
        _check_parts(model, parts)
    of_heads = head_parameters(model, heads)
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in named_parameters(model, remove_duplicate=False):
        if (parameter.requires_grad or frozen) and parameter.ndim > 0:
            names.setdefault(parameter, []).append(name)
    if not names:
        raise ClipeduError(f"nothing to watch: no parameter of this {type(unwrap(model)).__name__} requires a gradient")
    return [
        Layer(" = ".join(own), _part(own[0], parts), _kind(p, len(own), p in of_heads), p) for p, own in names.items()
    ]


def _part(name: str, parts: Mapping[str, str] | None) -> str:
    if parts is None:
        return re.split("[._]", name, maxsplit=1)[0]
    return parts[max(begins, key=len)] if (begins := [word for word in parts if _begins(name, word)]) else OTHER


def _begins(name: str, word: str) -> bool:
    """Whether a name begins with a word that ends there where a word of the name does."""
    rest = name[len(word) :]
    return name.startswith(word) and (not rest or not rest[0].isalnum() or not word[-1:].isalnum())


def _check_parts(model: nn.Module, parts: Mapping[str, str]) -> None:
    names = [name for name, _ in named_parameters(model)]
    given = f"parts={quoted(dict(parts))}" if isinstance(parts, Mapping) else f"parts={quoted(parts)}"
    if not isinstance(parts, Mapping) or not all(
        isinstance(word, str) and word for item in parts.items() for word in item
    ):
        raise ClipeduError(f"{given} must be a dict of beginnings of names and parts, as {{'visual': 'image'}}")
    if "all" in parts.values():
        raise ClipeduError(f"{given}: 'all' is the whole model, call the part otherwise")
    for word in parts:
        if not any(_begins(name, word) for name in names):
            first = dict.fromkeys(name.partition(".")[0] for name in names)
            raise unknown_name(f"beginning of a name in {given}:", word, first)


def _kind(parameter: Tensor, names: int, is_head: bool) -> str:
    if names > 1:
        return "tied"
    if parameter.ndim < 2:
        return "1-D"
    return "head" if is_head else "matrix"
