"""Weights between models: points on a line, and means of many.

    interpolate(a, b, t)         (1 - t) A + t B       WiSE-FT, Wortsman et al. 2021 (arXiv:2109.01903)
    mean_weights(states)         the mean of all       model soups, Wortsman et al. 2022 (arXiv:2203.05482)

Sums are in float64 and rounded once, to the type of the first model. A number that is the same in all models stays what it is,
and so do the ends of a line: t = 0 is A and t = 1 is B, bit for bit. Whole numbers and truth values (counters, positions,
masks) have no mean: they are those of the first model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError
from clipedu.utils.tensor_files import tensors_misfit

State = Mapping[str, Tensor]


def interpolate(a: State, b: State, t: float) -> dict[str, Tensor]:
    """Return the weights (1 - t) A + t B, by name.

    Args:
        a, b: state dicts with the same names and sizes.
        t: 0 is A, 1 is B; beyond them the line goes on.
    Raises:
        ClipeduError: names or sizes differ.
    """
    return weighted_mean([a, b], [1 - t, t])


def mean_weights(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of the weights of N models, by name.

    Args:
        states: N state dicts with the same names and sizes, N >= 1.
    Raises:
        ClipeduError: names or sizes differ.
    """
    return weighted_mean(states, [1 / len(states)] * len(states))


def weighted_mean(states: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the sum of weights[k] * states[k], by name.

    Args:
        states: N state dicts with the same names and sizes.
        weights: N numbers whose sum is 1.
    Raises:
        ClipeduError: names or sizes differ.
    """
    first = states[0]
    for place, state in enumerate(states[1:], 2):
        if fault := tensors_misfit(state, first):
            raise ClipeduError(f"weights of model {place} do not fit those of the first: {fault}")
    counted = [(state, weight) for state, weight in zip(states, weights, strict=True) if weight != 0]
    return {
        name: _mean([state[name] for state, _ in counted], [w for _, w in counted], own) for name, own in first.items()
    }


def _mean(tensors: Sequence[Tensor], weights: Sequence[float], own: Tensor) -> Tensor:
    """Return the weighted sum of tensors, in the type of `own`, that of the first model."""
    if not (own.is_floating_point() or own.is_complex()):
        return own.clone()
    if len(tensors) == 1:
        return tensors[0].to(own.dtype, copy=True)
    wide = torch.complex128 if own.is_complex() else torch.float64
    total, same = torch.zeros(own.shape, dtype=wide, device=own.device), torch.ones_like(own, dtype=torch.bool)
    for tensor, weight in zip(tensors, weights, strict=True):
        other = tensor.to(own.device)
        total = total + weight * other.to(wide)
        same &= other == tensors[0].to(own.device)
    return torch.where(same, tensors[0].to(own), total.to(own.dtype))


def check_mixable(models: Mapping[str, DualEncoder]) -> None:
    """Check that weights of models can be mixed.

    Their tensors have the same names and sizes, and are used in the same way: geometry, pooling and pixel statistics are equal.

    Args:
        models: by the name to call each in a message.
    Raises:
        ClipeduError: a model differs from the first; names what.
    """
    (first, one), *others = models.items()
    for name, other in others:
        fault = tensors_misfit(other.state_dict(), one.state_dict())
        if fault:
            raise ClipeduError(
                f"{name} cannot be blended with {first}: {fault}, as in {first}. Models to blend have the same encoders and widths"
            )
        if used := used_otherwise(one, other):
            raise ClipeduError(
                f"{name} cannot be blended with {first}: {used}, so that equal weights mean different things"
            )


def used_otherwise(one: DualEncoder, other: DualEncoder) -> str | None:
    """Return what two models of equal tensors do differently with them.

    Args:
        one, other: with their tokenizers.
    Returns:
        words that name it; None where nothing was found.
    """
    if type(one.geometry) is not type(other.geometry):
        return f"their geometries differ ({type(other.geometry).__name__} and {type(one.geometry).__name__})"
    for field, words in (("text_pooling", "text poolings"), ("text_padding", "paddings of texts")):
        if getattr(one, field) != getattr(other, field):
            return f"their {words} differ ({getattr(other, field)!r} and {getattr(one, field)!r})"
    for field, words in (("mean", "means"), ("std", "standard deviations")):
        if not torch.equal(getattr(one, field).cpu(), getattr(other, field).cpu()):
            return f"the {words} by which they normalise pixels differ"
    return None
