r"""Flat space: the tangent vector is the point; direction and length count.

EuCLIP, Chou and Alam 2024, arXiv:2409.13079.

    euclidean            s = -|x - y|
    euclidean-squared    s = -|x - y|^2      EuCLIP's own. On vectors of length 1 it is 2 cos - 2: CLIP at half the
                                             temperature
    euclidean-inner      s = x . y           the one that grows with the length of both

The distance of all three is |x - y|. Their gradients: that of -d at x is a unit vector, that of -d^2 is 2 (y - x),
larger for far pairs. As d^2 grows with the square of the length, its logits need a smaller scale: the initial
temperature is 1, and a learned scale may fall below 1.

Softmax losses of -d and -d^2 do not depend on a shift of all embeddings together. Those of -d^2 do not even depend on a
shift of one modality, as far as it is orthogonal to all differences: a modality gap costs nothing there. Cones depend
on both shifts.

Cones: the half-aperture is arcsin(K / |x|), so the saturation radius is K itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry.base import full_precision
from clipedu.geometry.numerics import angle, length, sqrt, squared_distances
from clipedu.geometry.rooted import Rooted


class Euclidean(Rooted):
    """Flat space, similarity = -distance.

    Args:
        dim: width of the embeddings, D.
        learn_alpha: learn the dimension scaling; otherwise it stays what it was at the start, as in EuCLIP.
        start_length: mean length of the embeddings when training starts; None is alpha = 1 / sqrt(D), as in EuCLIP.
    """

    name = "euclidean"
    description = "flat space: minus the distance; direction and length count"
    paper = "arXiv:2409.13079"
    formula = r"s(x, y) = -\Vert x - y \Vert"

    def __init__(self, dim: int, learn_alpha: bool = False, start_length: float | None = 1.0):
        super().__init__(dim, learn_alpha, start_length)

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return -|x_i - y_j| of all pairs: x [A, D], y [B, D] -> [A, B]."""
        return -self.distance(x, y)

    @full_precision
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return |x_i - y_j| of all pairs: x [A, D], y [B, D] -> [A, B].

        The gradient at coincident points is 0.

        >>> Euclidean(dim=2).distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[5., 1.]])
        """
        return sqrt(squared_distances(x, y))

    @full_precision
    def expmap0(self, u: Tensor) -> Tensor:
        """Return u: the tangent vector is the point, [..., D] -> [..., D]."""
        return u

    @full_precision
    def logmap0(self, point: Tensor) -> Tensor:
        """Return the point: it is the tangent vector, [..., D] -> [..., D]."""
        return point

    @full_precision
    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """Return (1 - t) x + t y, on the straight line: [..., D].

        Args as in `Geometry.geodesic`.
        """
        return torch.lerp(x, y, t)

    def saturation(self, x: Tensor, min_radius: float) -> tuple[float, Tensor]:
        """Return K and |x|."""
        return min_radius, length(x).squeeze(-1)

    @full_precision
    def exterior_angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the angle between x and y - x: [..., D] -> [...] in [0, pi].

        It is pi / 2 if one of the two is zero.
        """
        return angle(x, y - x)


class EuclideanSquared(Euclidean):
    """Flat space, similarity = -distance^2 (EuCLIP)."""

    name = "euclidean-squared"
    description = "flat space: minus the squared distance (EuCLIP)"
    formula = r"s(x, y) = -\Vert x - y \Vert^2"
    temperature = 1.0
    logit_scale_range = (-3.0, math.log(100))

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return -|x_i - y_j|^2 of all pairs: x [A, D], y [B, D] -> [A, B]."""
        return -squared_distances(x, y)


class EuclideanInner(Euclidean):
    """Flat space, similarity = inner product.

    It is not a function of the distance: rankings differ.
    """

    name = "euclidean-inner"
    description = "flat space: inner product, lengths included"
    formula = r"s(x, y) = x \cdot y"

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x_i . y_j of all pairs: x [A, D], y [B, D] -> [A, B]."""
        return x @ y.T
