r"""The unit sphere: direction counts, length does not.

A vector x goes to $\hat x = x / \lVert x \rVert$. Cosine, CLIP's geometry, has the similarity $\hat x \cdot \hat y =
\cos\theta$, in [-1, 1]; the distance is the angle $\theta$ itself, in [0, pi].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.geometry.base import Geometry, full_precision


class Cosine(Geometry):
    """The unit sphere, as CLIP uses it (arXiv 2103.00020). A zero vector has similarity 0 to all."""

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Cosine of the angle between every x [A, D] and every y [B, D]: [A, B] in [-1, 1]."""
        return normalize(x, dim=-1) @ normalize(y, dim=-1).T

    @full_precision
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle between every x [A, D] and every y [B, D], in radians: [A, B] in [0, pi].

        Computed as 2 atan2(|x - y|, |x + y|) on unit vectors, which stays exact where arccos loses half of its digits:
        at nearly parallel and nearly opposite vectors.
        """
        x, y = normalize(x, dim=-1), normalize(y, dim=-1)
        return 2 * torch.atan2(_chord(x, y), _chord(x, -y))

    @full_precision
    def mean(self, x: Tensor) -> Tensor:
        """Normalise each row of x [N, D], average, normalise: a unit vector [D]. Every row counts the same."""
        return normalize(normalize(x, dim=-1).mean(dim=0), dim=-1)


def _chord(x: Tensor, y: Tensor) -> Tensor:
    """Straight-line distance of every pair, from differences (a matrix product cancels for near pairs)."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
