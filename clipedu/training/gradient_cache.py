"""Large batches in little memory: exact gradients, a part at a time.

A contrastive loss needs all embeddings of a batch at once, so the gradients of small batches do not add up to its gradient
(each anchor would have fewer negatives). The embeddings are small; the encoders' activations fill the memory. So (Gao et al.
2021, "GradCache", arXiv:2101.06983):

    1. encode every part without keeping anything, and join the embeddings          [B, D]
    2. the loss of the whole batch, back to the embeddings: dL/d(embeddings)        [B, D]
    3. encode every part again, now for the gradient, and pass its rows of dL/d(embeddings) on into the encoders that are trained

That costs a second forward pass. Dropout draws the same masks in both. Batch norm is the exception: it normalises within a
part, and its running averages are updated in the second pass only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def backward_in_parts(
    encode: Callable[[Any], tuple[Tensor, Tensor]],
    parts: Sequence[Any],
    loss: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module,
    but_last: Callable[[], AbstractContextManager[None]] = nullcontext,
    *,
    checkpointing: bool = False,
) -> None:
    """Add the gradient of the whole batch's loss to all parameters' `.grad`.

    Args:
        encode: a part -> its image and text embeddings, a row a pair: [b, D], or [b, 2, D] of texts with foils.
        parts: of the batch, in order.
        loss: image and text embeddings of the batch, B rows each -> scalar loss.
        model: what `encode` runs, for its batch norms and its device.
        but_last: makes the context in which every part but the last is encoded for the gradient.
        checkpointing: the backward pass repeats parts of `encode`.
    """
    device = next(model.parameters()).device
    states, embeddings = [], []
    with torch.no_grad(), running_averages_kept(model):
        for part in parts:
            states.append(_random_state(device))
            embeddings.append(encode(part))
    after = _random_state(device)
    image, text = (torch.cat(side).requires_grad_() for side in zip(*embeddings, strict=True))
    sizes = [len(image_part) for image_part, _ in embeddings]
    loss(image, text).backward()
    assert image.grad is not None and text.grad is not None  # leaves, so backward has set them
    gradients = zip(image.grad.split(sizes), text.grad.split(sizes), strict=True)
    contexts = [*(but_last for _ in parts[1:]), nullcontext]
    for part, state, gradient, context in zip(parts, states, gradients, contexts, strict=True):
        _set_random_state(device, state)
        with context():
            pairs = [(x, dx) for x, dx in zip(encode(part), gradient, strict=True) if x.requires_grad]
            with statistics_kept(model) if checkpointing else nullcontext():
                torch.autograd.backward([x for x, _ in pairs], [dx for _, dx in pairs])
    _set_random_state(device, after)


@contextmanager
def running_averages_kept(model: nn.Module) -> Iterator[None]:
    """Keep batch norms from updating their running averages.

    Inside, those in training mode leave them as they are.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Keep batch norms from counting a batch again.

    For the time that parts of a forward pass are repeated.
    """
    counts = [m.num_batches_tracked for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(count, count.clone()) for count in counts if count is not None]
    with running_averages_kept(model):
        yield
    for count, before in kept:
        count.copy_(before)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
