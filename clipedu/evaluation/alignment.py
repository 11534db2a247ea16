"""Alignment, uniformity and modality gap of matched embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def embedding_shape(image: Tensor, text: Tensor) -> dict[str, float]:
    """Compute alignment, uniformity and modality gap.

    Args:
        image, text: matched embeddings, [N, D] each; normalised here.
    Returns:
        "alignment": mean ||x_i - y_i||^2, from 0 (equal) to 4; Wang and Isola 2020 (arXiv:2005.10242), alpha = 2;
        "uniformity": log mean_{i != j} exp(-2 ||x_i - x_j||^2), mean of both sides; lower is more uniform (same paper,
        t = 2); "modality_gap": ||mean x - mean y||, from 0 to 2; Liang et al. 2022 (arXiv:2203.02053).
    """
    x, y = (normalize(side.double(), dim=1) for side in (image, text))
    return {
        "alignment": (x - y).square().sum(1).mean().item(),
        "uniformity": (_uniformity(x) + _uniformity(y)) / 2,
        "modality_gap": (x.mean(0) - y.mean(0)).norm().item(),
    }


def _uniformity(x: Tensor, most: int = 2000) -> float:
    """Return the log of the mean of exp(-2 d^2) over pairs of rows.

    Only the first `most` rows count. It is 0 for a single row.
    """
    squared = torch.pdist(x[:most]).square()
    return (-2 * squared).logsumexp(0).sub(math.log(len(squared))).item() if len(squared) else 0.0
