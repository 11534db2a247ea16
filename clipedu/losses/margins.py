r"""Negatives, and their margins over the positive of their anchor.

In a batch of B pairs every anchor has one positive (the diagonal of S) and B - 1 negatives (the rest of its row or
column). A loss that leaves the positive out of its denominator is a function of the margins h = S_negative - S_positive
alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def off_diagonal(matrix: Tensor) -> Tensor:
    """Drop the diagonal: matrix [..., B, B] -> negatives [..., B, B - 1].

    >>> off_diagonal(torch.arange(9).reshape(3, 3)).tolist()
    [[1, 2], [3, 5], [6, 7]]
    """
    size = matrix.shape[-1]
    return (
        matrix.flatten(-2)[..., 1:].unflatten(-1, (size - 1, size + 1))[..., :-1].reshape(*matrix.shape[:-1], size - 1)
    )


def margins(similarity: Tensor) -> Tensor:
    """Return the margins of negatives over the positive of their anchor.

    S [B, B] -> h [2, B, B - 1]:

    h[0, i] = S_ij - S_ii with image i as anchor, h[1, i] = S_ji - S_ii with text i as anchor, over j != i.

    >>> margins(torch.tensor([[5.0, 1.0], [3.0, 4.0]])).tolist()
    [[[-4.0], [-1.0]], [[-2.0], [-3.0]]]
    """
    both = torch.stack([similarity, similarity.T])
    return off_diagonal(both - both.diagonal(dim1=-2, dim2=-1).unsqueeze(-1))


def without_positives(z: Tensor) -> Tensor:
    """Replace the positives of z [C, C], its diagonal, by the lowest float.

    exp(z) is 0 there.
    """
    return torch.diagonal_scatter(z, z.new_full((len(z),), torch.finfo(z.dtype).min))


def log_sum_negatives(z: Tensor) -> Tensor:
    """Return log sum exp(margin) over each anchor's negatives.

    z [B, B] -> [2, B].

    This is `margins(z).logsumexp(-1)` without a copy of the margins.
    """
    others = without_positives(z)
    return torch.stack([others.logsumexp(1), others.logsumexp(0)]) - z.diagonal()


def log_mean_exp(z: Tensor) -> Tensor:
    """Return log mean exp(z) over the last dimension: [..., K] -> [...]."""
    return z.logsumexp(-1) - math.log(z.shape[-1])
