r"""The disk: a map of an embedding space that keeps distances to the root.

The root is in the middle. Each point has its *true distance to the root* as radius, and the direction of its two main axes;
angles and distances between points are not kept. Each geometry is drawn by its stereographic map from the root, the one
that keeps angles there:

    hyperbolic   radius tanh(sqrt(c) r / 2): the Poincare disk. All of the space is inside the circle; its rim is infinitely far.
    Euclidean    radius r: the plane. There is no rim.
    sphere       radius tan(r / 2), r an angle: the circle is the equator, at right angles to the root.

A path is drawn by the same rule, point by point.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.evaluation.embedding_space import Space
from clipedu.geometry.lorentz import Lorentz
from clipedu.geometry.sphere import Sphere


class Disk:
    """The map of a space onto a disk, with axes found from all its points.

    Attributes:
        space: what is mapped.
        has_circle: whether the unit circle means something.
        about: what it means, in words.
    """

    def __init__(self, space: Space):
        self.space = space
        self.sphere = isinstance(space.geometry, Sphere)
        self.has_circle = self.sphere or isinstance(space.geometry, Lorentz)
        rim = "circle: 90 degrees from the root" if self.sphere else "circle: infinitely far"
        self.about = rim if self.has_circle else "plane: no rim"
        directions = normalize(self._directions(torch.cat([space.image, space.text, space.phrase])), dim=1)
        _, _, axes = torch.linalg.svd(directions, full_matrices=False)
        self.axes = axes[:2] * axes[:2].sum(1, keepdim=True).sign()  # a second call draws the same picture

    @torch.no_grad()
    def place(self, x: Tensor) -> Tensor:
        """Place tangent vectors x [N, D] in the picture, [N, 2]."""
        radius = self.space.radius(x)[:, None]
        direction = normalize(self._directions(x) @ self.axes.T, dim=1)
        if isinstance(self.space.geometry, Lorentz):
            return self.space.geometry.poincare(radius * direction)
        return (radius / 2).tan() * direction if self.sphere else radius * direction

    def _directions(self, x: Tensor) -> Tensor:
        """Return directions from the root; on a sphere the orthogonal part."""
        if not self.sphere:
            return x
        x = normalize(x, dim=1)
        return x - (x @ self.space.root)[:, None] * self.space.root
