"""Where a step stopped being finite: the loss and its terms, or a layer.

Gradients are computed from the loss backwards, and one that is not finite makes those of all layers before it so. The layer that is
named is therefore the first one on the way back, the last in the model's order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from clipedu.norms import NormMonitor


def step_fault(
    monitor: NormMonitor, step: int, lr: float, loss: float, terms: Mapping[str, float], watch: Mapping[str, float]
) -> str:
    """Describe a step whose loss or gradient is not finite, and what may help.

    Args:
        monitor: which has seen the step.
        step: its number.
        lr, loss: of the step.
        terms, watch: see `loss_fault`.
    """
    fault = gradient_fault(monitor) if math.isfinite(loss) else loss_fault(terms, watch)
    return (
        f"{fault} is not finite at step {step} (lr {lr:g}, loss {loss:g}): "
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


def gradient_fault(monitor: NormMonitor) -> str:
    """Describe a gradient that is not finite, by layer.

    Args:
        monitor: which has seen the step; the gradients are those before clipping, which would spread what is not finite.
    Returns:
        such as "the gradient of 'image_projection.weight' (NaN)", and of how many layers it is not.
    """
    found = [
        (layer.name, math.sqrt(square))
        for layer, square in zip(monitor.layers, monitor.latest_gradients.tolist(), strict=True)
        if not math.isfinite(square)
    ]
    if not found:
        return "the gradient"
    name, norm = found[-1]
    more = f", and of {len(found) - 1} of the {len(monitor.layers) - 1} other layers," if len(found) > 1 else ""
    return f"the gradient of {name!r} ({_word(norm)}){more}"


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:g}"
