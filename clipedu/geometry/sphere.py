r"""The unit sphere: direction counts, length does not.

A vector x goes to $\hat x = x / \lVert x \rVert$. Two similarities depend on the angle $\theta$ of two directions:

    cosine      s = cos theta, in [-1, 1]     CLIP's. Its slope, sin theta, goes to 0 at theta = 0 and pi
    elliptic    s = -theta, in [-pi, 0]       the length of the arc: the same gradient at every distance

The distance of both is the angle. No point of the sphere is more generic than another, so it has no root of its own and
no cones. Where a root is needed, the mean direction is used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipedu.geometry.base import Geometry, full_precision
from clipedu.geometry.numerics import angle, angle_of_chords, sqrt, squared_distances, unit


class Sphere(Geometry):
    """What both similarities share.

    A zero vector has no direction; its angle to every vector is pi / 2.
    """

    def __init__(self, dim: int | None = None):
        super().__init__()  # nothing depends on dim: there is no dimension scaling

    @full_precision
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the angle of all pairs, in radians: [A, B] in [0, pi].

        x [A, D], y [B, D].

        It is computed from |x - y| and |x + y| of the unit vectors, which stays exact where arccos loses half of its
        digits: at nearly parallel and nearly opposite vectors.
        """
        x, y = unit(x), unit(y)
        return angle_of_chords(sqrt(squared_distances(x, y)), sqrt(squared_distances(x, -y)))

    @full_precision
    def mean(self, x: Tensor) -> Tensor:
        """Normalise each row of x [N, D], average, normalise: [D].

        Every row counts the same.
        """
        return unit(unit(x).mean(dim=0))

    def root(self, x: Tensor) -> Tensor:
        """Return the mean direction of x [N, D], instead of a root: [D]."""
        return self.mean(x)

    @full_precision
    def expmap0(self, u: Tensor) -> Tensor:
        """Return the direction of u, [..., D] -> [..., D].

        (The sphere's exponential map would need a root.)
        """
        return unit(u)

    @full_precision
    def logmap0(self, point: Tensor) -> Tensor:
        """Return the point: it is its own tangent vector, of length 1.

        [..., D] -> [..., D].
        """
        return point

    @full_precision
    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """Return the unit vector at share t of the arc from x to y (slerp).

        With e the unit vector orthogonal to x in the plane of both, that is cos(t theta) x + sin(t theta) e. Between
        opposite points all great circles are equally short; the one through the axis on which x has its smallest
        coordinate is taken.

        Args:
            x, y: vectors [..., D] of any length.
            t: share of the arc, a number or a tensor [..., 1].
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
    """The unit sphere, similarity = cosine (CLIP, arXiv:2103.00020).

    A zero vector has similarity 0 to every vector.
    """

    name = "cosine"
    description = "unit sphere: cosine of the angle, length ignored (CLIP)"
    paper = "arXiv:2103.00020"
    formula = r"s(x, y) = \frac{x \cdot y}{\Vert x \Vert \, \Vert y \Vert}"
    temperature = 0.05  # for batches of about a hundred; CLIP, with 32,768, learns it from 0.07

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the cosine of the angle of all pairs: [A, B] in [-1, 1].

        x [A, D], y [B, D].

        >>> Cosine().similarity(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([[1., 0.]])
        """
        return unit(x) @ unit(y).T


class Elliptic(Sphere):
    """The unit sphere, similarity = -arc length (arXiv:2409.13079)."""

    name = "elliptic"
    description = "unit sphere: minus the angle itself, the length of the arc (ELIP)"
    paper = "arXiv:2409.13079"
    formula = r"s(x, y) = -\arccos\frac{x \cdot y}{\Vert x \Vert \, \Vert y \Vert}"

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return minus the angle of all pairs, in radians: [A, B] in [-pi, 0].

        x [A, D], y [B, D].
        """
        return -self.distance(x, y)
