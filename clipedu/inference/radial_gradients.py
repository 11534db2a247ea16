"""Which layers does a normalisation follow? Measured, by their gradients.

Where the output does not depend on a layer's length, since a normalisation divides by it, the gradient is orthogonal to the weight: <w, g>
= 0 (Euler). So the cosine of weight and gradient is measured on a few batches, with the contrastive loss. It is 0 up to rounding for such a layer
(and up to the small constant that a normalisation adds to the variance), and another number in each batch for all others. Batch norms
normalise by the batch meanwhile, as they do in training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.inference.batch_statistics import batch_norms
from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.utils.seeding import seeded

BATCHES, ROWS = 4, 16
ORTHOGONAL = 1e-3  # as in `clipedu compare norms`
_SEED = 23


def radial_gradients(
    model: DualEncoder, pairs: Pairs, *, logit_scale: float = 20.0, batches: int = BATCHES, rows: int = ROWS
) -> dict[str, float]:
    """Return the largest |cos(w, gradient)| of each trained parameter.

    Args:
        model: with its tokenizer; weights, buffers and modes stay as they are.
        pairs: with captions.
        logit_scale: of the contrastive loss.
        batches: how many gradients are taken; fewer where there are not so many pairs.
        rows: pairs of each.
    Returns:
        0 to 1 by the parameter's name; what gets no gradient is left out.
    Raises:
        ClipeduError: a row without a caption.
    """
    pairs.tokenize(model.tokenizer)
    order = torch.randperm(len(pairs), generator=seeded(_SEED))
    chosen = [part for part in order.split(min(rows, len(pairs)))[:batches] if len(part) > 1]
    norms = batch_norms(model)
    kept = {name: {k: buffer.clone() for k, buffer in module.named_buffers()} for name, module in norms.items()}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.ndim > 0]
    largest: dict[str, float] = {}
    with evaluating(model), torch.enable_grad():
        for module in norms.values():
            module.train()
        try:
            for part in chosen:
                loss = _contrast(model, pairs, part, logit_scale)
                gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
                for (name, p), gradient in zip(named, gradients, strict=True):
                    if gradient is not None and (cosine := _cosine(p.detach(), gradient)) is not None:
                        largest[name] = max(cosine, largest.get(name, 0.0))
        finally:
            for name, module in norms.items():
                for key, buffer in module.named_buffers():
                    buffer.copy_(kept[name][key])
    return largest


def is_orthogonal(cosine: float, size: int) -> bool:
    """Return whether a gradient is orthogonal to its weight.

    A gradient of any direction has a cosine of about 1 / sqrt(size) in one batch: the largest of four is below a tenth of that less than once in
    10,000 times.

    Args:
        cosine: largest |cos| over the batches.
        size: numbers of the weight.
    """
    return cosine < min(ORTHOGONAL, 0.1 / math.sqrt(size))


def _contrast(model: DualEncoder, pairs: Pairs, rows: Tensor, logit_scale: float) -> Tensor:
    """Return the contrastive loss of a batch."""
    ids, mask = pairs.tokens(rows)
    image = model.encode_image(pairs.pixels(rows).to(model.device))
    text = model.encode_text(ids.to(model.device), mask.to(model.device))
    logits = logit_scale * model.geometry.similarity(image.float(), text.float())
    own = torch.arange(len(rows), device=logits.device)
    return (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2


def _cosine(weight: Tensor, gradient: Tensor) -> float | None:
    """Return |cos| of two tensors; None where one of them is 0."""
    w, g = weight.double().flatten(), gradient.double().flatten()
    size = float(torch.linalg.vector_norm(w) * torch.linalg.vector_norm(g))
    return abs(float(w @ g)) / size if size > 0 and math.isfinite(size) else None
