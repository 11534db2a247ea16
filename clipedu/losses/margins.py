r"""Negatives and margins: the pairs that do not belong together, and by how much they beat the pair that does.

In a batch of B pairs every anchor has one positive (the diagonal of S) and B - 1 negatives (the rest of its row or
column). A loss that leaves the positive out of its denominator is a function of the margins h = S_negative - S_positive
alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def off_diagonal(matrix: Tensor) -> Tensor:
    """The negatives: matrix [..., B, B] without its diagonal, as [..., B, B - 1], order kept."""
    size = matrix.shape[-1]
    return (
        matrix.flatten(-2)[..., 1:].unflatten(-1, (size - 1, size + 1))[..., :-1].reshape(*matrix.shape[:-1], size - 1)
    )


def margins(similarity: Tensor) -> Tensor:
    """By how much each negative beats the pair of its anchor: S [B, B] -> h [2, B, B - 1].

    h[0, i] = S_ij - S_ii with image i as anchor, h[1, i] = S_ji - S_ii with text i as anchor, over j != i.
    """
    both = torch.stack([similarity, similarity.T])
    return off_diagonal(both - both.diagonal(dim1=-2, dim2=-1).unsqueeze(-1))


def without_own(z: Tensor) -> Tensor:
    """z [C, C] with its own pairs, the diagonal, so far down that exp(z) is 0 there."""
    return torch.diagonal_scatter(z, z.new_full((len(z),), torch.finfo(z.dtype).min))


def log_sum_negatives(z: Tensor) -> Tensor:
    """log of the sum of exp(z_negative - z_positive) over the negatives of each anchor: z [B, B] -> [2, B].

    This is `margins(z).logsumexp(-1)` without a copy of the margins.
    """
    others = without_own(z)
    return torch.stack([others.logsumexp(1), others.logsumexp(0)]) - z.diagonal()


def log_mean_exp(z: Tensor) -> Tensor:
    """log of the mean of exp(z) over the last dimension: [..., K] -> [...]."""
    return z.logsumexp(-1) - math.log(z.shape[-1])
