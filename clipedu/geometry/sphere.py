r"""The unit sphere: direction counts, length does not.

A vector x goes to $\hat x = x / \lVert x \rVert$. Two similarities look at the angle $\theta$ of two directions:

    cosine      s = cos theta, in [-1, 1]     CLIP's. Its slope, sin theta, fades towards theta = 0 and pi
    elliptic    s = -theta, in [-pi, 0]       the length of the arc: the same pull at every distance

The distance of both is the angle. The sphere has no middle: no point is more generic than another, so there is no root
of its own and there are no cones. Where a root is asked for, the mean direction stands in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipedu.geometry.base import Geometry, full_precision
from clipedu.geometry.numerics import angle, angle_of_chords, sqrt, squared_distances, unit


class Sphere(Geometry):
    """What both similarities share. A zero vector has no direction; it is at a right angle to all."""

    def __init__(self, dim: int | None = None):
        """Any dimension will do: on the sphere nothing is scaled by it."""
        super().__init__()

    @full_precision
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle between every x [A, D] and every y [B, D], in radians: [A, B] in [0, pi].

        Computed from |x - y| and |x + y| of the unit vectors, which stays exact where arccos loses half of its digits: at
        nearly parallel and nearly opposite vectors.
        """
        x, y = unit(x), unit(y)
        return angle_of_chords(sqrt(squared_distances(x, y)), sqrt(squared_distances(x, -y)))

    @full_precision
    def mean(self, x: Tensor) -> Tensor:
        """Normalise each row of x [N, D], average, normalise: a unit vector [D]. Every row counts the same."""
        return unit(unit(x).mean(dim=0))

    def root(self, x: Tensor) -> Tensor:
        """The stand-in for a root, [D]: the mean direction of all embeddings x [N, D]."""
        return self.mean(x)

    @full_precision
    def expmap0(self, u: Tensor) -> Tensor:
        """The direction of u, [..., D] -> [..., D]. (Not the exponential map of the sphere: that needs a root.)"""
        return unit(u)

    @full_precision
    def logmap0(self, point: Tensor) -> Tensor:
        """A point of the sphere is its own tangent vector, of length 1: [..., D] -> [..., D]."""
        return point

    @full_precision
    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """The unit vector at share t of the arc from x to y, [..., D] (slerp).

        With e a unit vector across x in the plane of both, that is cos(t theta) x + sin(t theta) e. Between opposite
        points every great circle is as short; the one along the axis that x leans on least is taken.
        """
        x, y = unit(x), unit(y)
        theta = angle(x, y)[..., None]
        across = y - (x * y).sum(-1, keepdim=True) * x
        axis = torch.zeros_like(x).scatter_(-1, x.abs().argmin(-1, keepdim=True), 1)
        some = axis - (x * axis).sum(-1, keepdim=True) * x
        opposite = (theta > 3) & (across.norm(dim=-1, keepdim=True) < 4 * torch.finfo(x.dtype).eps)
        across = unit(torch.where(opposite, some, across))
        return torch.cos(t * theta) * x + torch.sin(t * theta) * across


class Cosine(Sphere):
    """The unit sphere as CLIP uses it (arXiv:2103.00020): similarity = cosine. A zero vector has similarity 0 to all."""

    name = "cosine"
    description = "unit sphere: cosine of the angle, length ignored (CLIP)"
    paper = "arXiv:2103.00020"
    formula = r"s(x, y) = \frac{x \cdot y}{\Vert x \Vert \, \Vert y \Vert}"
    temperature = 0.05  # for batches of about a hundred; CLIP, with 32,768, learns it from 0.07

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Cosine of the angle between every x [A, D] and every y [B, D]: [A, B] in [-1, 1]."""
        return unit(x) @ unit(y).T


class Elliptic(Sphere):
    """The unit sphere, similarity = -arc length (arXiv:2409.13079)."""

    name = "elliptic"
    description = "unit sphere: minus the angle itself, the length of the arc (ELIP)"
    paper = "arXiv:2409.13079"
    formula = r"s(x, y) = -\arccos\frac{x \cdot y}{\Vert x \Vert \, \Vert y \Vert}"

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the angle between every x [A, D] and every y [B, D], in radians: [A, B] in [-pi, 0]."""
        return -self.distance(x, y)
