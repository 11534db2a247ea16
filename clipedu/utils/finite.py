"""Check that weights, an optimizer's state and embeddings are finite.

A model with a NaN in it can end its training as if nothing had happened: the last update comes after the last loss, and a
running variance is not used before the model is evaluated. So tensors are checked before they are kept or scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.utils.errors import ClipeduError

LARGEST = 1e18  # of a weight: norms and second moments are squares, and float32 ends at 3e38


class NotFinite(ClipeduError):
    """A loss, a gradient, a weight or an embedding is NaN or infinite."""


def first_non_finite(
    tensors: Iterable[tuple[str, Tensor]], *, largest: float = math.inf, may_be_minus_infinite: bool = False
) -> str | None:
    """Return which tensor is the first that is not finite, with its value.

    It takes one pass over each tensor, and one transfer from the device.

    Args:
        tensors: names and tensors; those of other numbers than floats are passed over.
        largest: magnitude from which a number counts as not finite.
        may_be_minus_infinite: -inf is allowed, as in masks and in logs of what was never seen.
    Returns:
        such as "'text_projection.weight' (NaN)"; None if all are finite.
    """
    named = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    if not named:
        return None
    device = named[0][1].device
    ends = [torch.stack(torch.aminmax(_dense(tensor))).float().to(device) for _, tensor in named]
    for (name, _), (low, high) in zip(named, torch.stack(ends).tolist(), strict=True):
        if not (low > -largest or (may_be_minus_infinite and low == -math.inf)) or not high < largest:
            worst = low if math.isnan(low) or -low > high else high
            return f"{name!r} ({'NaN' if math.isnan(worst) else f'{worst:.3g}'})"
    return None


def model_fault(model: nn.Module) -> str | None:
    """Return which weight or buffer of a model is not finite, None if none is.

    A weight may not be larger than 1e18 either, for its square would not be finite. Buffers may hold -inf, as masks do.
    """
    if fault := first_non_finite(model.named_parameters(), largest=LARGEST):
        return f"the weight {fault}"
    fault = first_non_finite(model.named_buffers(), may_be_minus_infinite=True)
    return f"the buffer {fault}" if fault else None


def optimizer_fault(optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> str | None:
    """Return what in an optimizer's state is not finite, None if nothing is.

    Args:
        optimizer: after any number of steps.
        names: of its parameters.
    """
    found = (
        pair
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        for pair in _tensors_in(value, f"{key} of {names.get(parameter, 'a parameter')}")
    )
    fault = first_non_finite(found)
    return f"the optimizer's {fault}" if fault else None


def check_model(model: nn.Module) -> None:
    """Check that all weights and buffers of a model are finite.

    Raises:
        NotFinite: one is not; names it.
    """
    if fault := model_fault(model):
        raise NotFinite(f"{fault} of the model is not finite: its training diverged, so it cannot be scored")


def check_trained(model: nn.Module, what: str, after: str) -> None:
    """Check that all weights and buffers of a trained model are finite.

    A NaN in a weight gives no NaN in an accuracy: it makes all answers the first one.

    Args:
        model: just trained.
        what: what it is, for the message.
        after: what it was trained with, for the message.
    Raises:
        NotFinite: a weight or buffer is not finite; names it.
    """
    if fault := model_fault(model):
        raise NotFinite(f"{fault} of {what} is not finite {after}: a smaller lr may help")


def finite_rows(rows: Tensor, what: str, model: nn.Module) -> Tensor:
    """Return embeddings or features whose rows are all of finite length.

    Args:
        rows: [N, D].
        what: what they are, for the message, e.g. "embeddings of the images of scenes/val".
        model: which computed them; the message names its first tensor that is not finite, if any.
    Raises:
        NotFinite: a row holds NaN or infinity, or is so long that its length is not finite.
    """
    wrong = ~rows.norm(dim=1).isfinite()
    if not wrong.any():
        return rows
    bad = wrong.nonzero()[:, 0]
    fault = model_fault(model)
    why = f"{fault} of the model is not finite" if fault else "the model's weights are finite, but too large"
    raise NotFinite(
        f"{len(bad)} of {len(rows)} {what} are not finite (the first in row {int(bad[0])}): {why}. "
        "Its training diverged: a smaller lr may help"
    )


def _tensors_in(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a value of an optimizer's state, with names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors_in(item, f"{name}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, item in enumerate(value):
            yield from _tensors_in(item, f"{name}.{place}")


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor with its axes in the order of memory: faster to read."""
    tensor = tensor.detach()
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
