"""Where a step stopped being finite: the loss and its terms, or a layer.

Gradients are computed from the loss backwards, and one that is not finite makes those of all layers before it so. The layer that is
named is therefore the first one on the way back, the last in the model's order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from clipedu.norms.layers import Layer


class Measured(Protocol):
    """What is known of a step: a `Record`, or one run's part of many."""

    @property
    def step(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def terms(self) -> Mapping[str, float]: ...
    @property
    def watch(self) -> Mapping[str, float]: ...


def step_fault(step: Measured, layers: Sequence[Layer], gradients: Iterable[float]) -> str:
    """Describe a step whose loss or gradient is not finite, and what may help.

    Args:
        step: what was measured. What it watched is from before the update: temperature, lengths of embeddings.
        layers, gradients: see `gradient_fault`.
    """
    fault = gradient_fault(layers, gradients) if math.isfinite(step.loss) else loss_fault(step.terms, step.watch)
    return (
        f"{fault} is not finite at step {step.step} (lr {step.lr:g}, loss {step.loss:g}): "
        f"a smaller lr, clip_grad=1, or a larger temperature may help"
    )


def loss_fault(terms: Mapping[str, float], watch: Mapping[str, float]) -> str:
    """Describe a loss that is not finite.

    Args:
        terms: values of its terms.
        watch: what was watched beside it in this step, before the update: temperature, lengths of embeddings.
    Returns:
        such as "the loss (its term 'contrastive' is NaN; temperature is NaN)".
    """
    parts = [f"its term {name!r} is {_word(value)}" for name, value in terms.items() if not math.isfinite(value)]
    parts += [f"{name} is {_word(value)}" for name, value in watch.items() if not math.isfinite(value)]
    return f"the loss ({'; '.join(parts)})" if parts else "the loss"


def gradient_fault(layers: Sequence[Layer], gradients: Iterable[float]) -> str:
    """Describe a gradient that is not finite, by layer.

    Args:
        layers: of the model, in its order.
        gradients: ||g||^2 of each, before clipping, which would spread what is not finite: [layers].
    Returns:
        such as "the gradient of 'image_projection.weight' (NaN)", and of how many layers it is not.
    """
    found = [
        (layer.name, math.sqrt(square))
        for layer, square in zip(layers, map(float, gradients), strict=True)
        if not math.isfinite(square)
    ]
    if not found:
        return "the gradient"
    name, norm = found[-1]
    more = f", and of {len(found) - 1} of the {len(layers) - 1} other layers," if len(found) > 1 else ""
    return f"the gradient of {name!r} ({_word(norm)}){more}"


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:g}"
