r"""Hyperbolic space: volume grows exponentially with the radius.

MERU, Desai et al. 2023, arXiv:2304.09172.

*The space.* A point has D space coordinates and one time coordinate, which follows from them:

$$ x_t = \sqrt{1/c + \lVert x_s \rVert^2}, \qquad
   \langle x, y \rangle = x_s \cdot y_s - x_t y_t \le -1/c, \qquad
   \cosh(\sqrt c \, d) = -c \, \langle x, y \rangle $$

c > 0 is the curvature's size (the curvature is -c); c -> 0 is flat space, and 1 / sqrt(c) is the length from which the
difference matters. The root is the vertex of the hyperboloid, x_s = 0. A circle of radius r around it is 2 pi
sinh(sqrt(c) r) / sqrt(c) long: a tree, whose nodes multiply with each level, can be embedded with little distortion.

*From a tangent vector to its point*, and back:

$$ x_s = \frac{\sinh(\sqrt c \, \lVert u \rVert)}{\sqrt c \, \lVert u \rVert} \, u, \qquad
   u = \frac{\operatorname{arsinh}(\sqrt c \, \lVert x_s \rVert)}{\sqrt c \, \lVert x_s \rVert} \, x_s $$

The direction is kept, and |u| is the distance from the root, for every c. Embeddings *are* tangent vectors here (see
`base.py`), so only `expmap0` needs x_s.

*The distance.* arcosh(-c <x, y>) loses everything beyond sqrt(c) |u| = 5 in float32: cosh a cosh b - sinh a sinh b cos
is a small difference of huge numbers, and arcosh has infinite slope at 1. With a = sqrt(c) |u|, b = sqrt(c) |v|,
theta the angle between u and v, the same distance is

$$ \sinh^2\!\big(\tfrac{\sqrt c}{2} d\big) = \sinh^2\!\big(\tfrac{a - b}{2}\big) +
   \sinh a \, \sinh b \, \sin^2\!\big(\tfrac{\theta}{2}\big), \qquad
   \sin^2\!\big(\tfrac{\theta}{2}\big) = \tfrac14 \lVert \hat u - \hat v \rVert^2 $$

a sum of two squares, in which nothing cancels: how far apart in radius, and how far apart in direction.

    lorentz            s = -d              MERU's
    lorentz-squared    s = -d^2
    lorentz-inner      s = <x, y>          = -cosh(sqrt(c) d) / c

*Cones.* The half-aperture is arcsin(2 K / (sqrt(c) |x_s|)), so the saturation radius is arsinh(2 K) / sqrt(c). Lower
curvature opens every cone, so an entailment loss lowers a learned curvature.

*What c means.* Scaling all embeddings by k, c by 1 / k^2 and the logit scale by 1 / k changes nothing. The curvature
alone means little; sqrt(c) times the median |u| measures how curved the space is where the embeddings are.

The range: lengths beyond sqrt(c) |u| = 40 (300 in float64) are taken as 40, so that cosh a cosh b stays finite. The
gradient along the radius is 0 beyond; if sqrt(c) times the median |u| comes near 40, something else is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clipedu.geometry.base import full_precision
from clipedu.geometry.numerics import few_pairs, length, over_self, sqrt, squared_distances, unit
from clipedu.geometry.rooted import Rooted
from clipedu.utils.checks import checked_number

CURVATURES = (0.1, 10.0)


def largest_radius(x: Tensor) -> float:
    """Return the largest sqrt(c) |x| for x's dtype.

    Up to this radius 100 / c times cosh^2(radius) is finite.
    """
    return 300.0 if x.dtype == torch.float64 else 40.0


class Triangle(NamedTuple):
    """The root O and two points x, y.

    It holds the radii in units of 1 / sqrt(c), and the angle theta at O, all [...].
    """

    a: Tensor  # sqrt(c) |x|
    b: Tensor  # sqrt(c) |y|
    outward: Tensor  # b - a
    sine: Tensor  # sin(theta)
    versine: Tensor  # 1 - cos(theta) = 2 sin^2(theta / 2)

    @property
    def opening(self) -> Tensor:
        """sinh^2(sqrt(c) d / 2), from the distance d of x and y."""
        return torch.sinh(self.outward / 2).square() + torch.sinh(self.a) * torch.sinh(self.b) * self.versine / 2

    @property
    def side(self) -> Tensor:
        """The part of the path from x to y orthogonal to the ray through x.

        It is in units of sinh(sqrt(c) d).
        """
        return torch.sinh(self.b) * self.sine

    @property
    def ahead(self) -> Tensor:
        """The part of the path along the ray, away from the root.

        It is cosh a sinh b cos(theta) - sinh a cosh b, in the same units.
        """
        return torch.sinh(self.outward) - torch.cosh(self.a) * torch.sinh(self.b) * self.versine


class Lorentz(Rooted):
    """Hyperbolic space, similarity = -distance (MERU).

    Args:
        dim: width of the embeddings, D.
        curvature: initial c, in [0.1, 10].
        learn_curvature: learn it (parameter `log_curvature`), within that range.
        learn_alpha: learn the dimension scaling, at most 1.
        start_length: mean length of the embeddings when training starts; None is alpha = 1 / sqrt(D), as in MERU.
    Raises:
        ClipeduError: a curvature out of range.
    """

    name = "lorentz"
    description = "hyperbolic space of learned curvature: minus the distance (MERU)"
    paper = "arXiv:2304.09172"
    formula = (
        r"s(x, y) = -\frac{2}{\sqrt{c}}\,\mathrm{arsinh}\sqrt{\sinh^2\frac{a-b}{2}+\sinh a\,\sinh b\,"
        r"\sin^2\frac{\theta}{2}},\quad a=\sqrt{c}\,\Vert x\Vert,\ b=\sqrt{c}\,\Vert y\Vert"
    )

    def __init__(
        self,
        dim: int,
        curvature: float = 1.0,
        learn_curvature: bool = True,
        learn_alpha: bool = True,
        start_length: float | None = 1.0,
    ):
        super().__init__(dim, learn_alpha, start_length)
        least, most = CURVATURES
        checked_number("curvature", curvature, at_least=least, at_most=most)
        self.keep_log("curvature", curvature, learn_curvature, least, most)

    @property
    def curvature(self) -> Tensor:
        """c, a scalar tensor in [0.1, 10]; the curvature of the space is -c.

        It has a gradient if it is learned.
        """
        return self.read("curvature")

    def _root_c(self, x: Tensor) -> Tensor:
        """Return sqrt(c) where x is: a model on a GPU is scored by embeddings on the host."""
        return self.curvature.sqrt().to(x.device)

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return minus the distance of all pairs, [A, B].

        x [A, D], y [B, D].
        """
        return -self.distance(x, y)

    @full_precision
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the length of the geodesics of all pairs, [A, B].

        x [A, D], y [B, D].

        A tangent vector's length is its distance from the root:

        >>> Lorentz(dim=2).distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).item()
        5.0
        """
        return 2 * torch.asinh(sqrt(self._opening(x, y))) / self._root_c(x)

    def _opening(self, x: Tensor, y: Tensor) -> Tensor:
        """Return sinh^2(sqrt(c) d / 2) of all pairs.

        x [A, D], y [B, D] -> [A, B]. A direction is rounded; far from the root that matters, as a small angle is a long
        way there. So pairs whose directions are within 0.01 are computed again from y - x, unless they are many.
        """
        (a, u), (b, v) = self._polar(x), self._polar(y)
        b = b.T
        chord = squared_distances(u, v)
        opening = torch.sinh((b - a) / 2).square() + torch.sinh(a) * torch.sinh(b) * chord / 4
        near = few_pairs(chord.detach() < 1e-4)
        return opening if near is None else opening.index_put(near, self._triangle(x[near[0]], y[near[1]]).opening)

    def _within(self, x: Tensor) -> Tensor:
        """Shorten x [..., D] to the largest radius."""
        most = largest_radius(x)
        return x * (most / (self._root_c(x) * length(x)).clamp(min=most))

    def _polar(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return radius and direction of x [..., D].

        They are sqrt(c) |x|, [..., 1], clamped to the largest, and x / |x|, [..., D].

        The zero vector gets a direction, at a length too small to change any sum: without it there were no gradient.
        """
        x = x + 1e-15 * (length(x) == 0).to(x.dtype)
        return (self._root_c(x) * length(x)).clamp(max=largest_radius(x)), unit(x)

    def _triangle(self, x: Tensor, y: Tensor) -> Triangle:
        """Return the triangles of the root and matched pairs x, y [..., D].

        Its sides and angle are computed by sums that keep all digits.

        The difference of y from x, along the ray and orthogonal to it, is computed from y - x, which is exact for near
        points (the orthogonal part from y itself if that is shorter, and so rounded less).
        """
        x, y = self._within(x), self._within(y)
        (a, u), (b, v) = self._polar(x), self._polar(y)
        root_c, step = self._root_c(x), y - x
        outward = root_c.square() * (step * (x + y)).sum(-1, keepdim=True) / (a + b)
        shorter = torch.where(root_c * length(step) < b, step, y)  # both have the same part orthogonal to u
        sine = root_c * length(shorter - (shorter * u).sum(-1, keepdim=True) * u) / b
        cosine = (u * v).sum(-1, keepdim=True)
        versine = torch.where(cosine > 0, sine.square() / (1 + cosine.clamp(min=0)), 1 - cosine)
        return Triangle(*(side.squeeze(-1) for side in (a, b, outward, sine, versine)))

    def _rescaled(self, x: Tensor, function: Callable[[Tensor], Tensor], slope: float = 1.0) -> Tensor:
        """The vector along x [..., D] of length function(sqrt(c) |x|) / sqrt(c)."""
        return over_self(function, self._root_c(x) * length(x), slope) * x

    @full_precision
    def expmap0(self, u: Tensor) -> Tensor:
        """Return the space coordinates x_s of the point of u: [..., D].

        The time coordinate is sqrt(1 / c + |x_s|^2).
        """
        return self._rescaled(self._within(u), torch.sinh)

    @full_precision
    def logmap0(self, point: Tensor) -> Tensor:
        """Return the tangent vector of the point with these space coordinates.

        [..., D] -> [..., D].
        """
        return self._rescaled(point, torch.asinh)

    @full_precision
    def poincare(self, u: Tensor) -> Tensor:
        """Project u to the Poincare ball of radius 1, for plots.

        [..., D] -> [..., D], of length tanh(sqrt(c) |u| / 2).

        Angles are preserved, and geodesics are arcs of circles that meet the boundary at right angles.
        """
        return self._root_c(u) * self._rescaled(u, lambda k: torch.tanh(k / 2), slope=0.5)

    @full_precision
    def klein(self, u: Tensor) -> Tensor:
        """Project u to the Klein ball of radius 1, for plots.

        [..., D] -> [..., D], of length tanh(sqrt(c) |u|).

        Geodesics are straight lines.
        """
        return self._root_c(u) * self._rescaled(u, torch.tanh)

    @full_precision
    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """Return the point at share t of the geodesic from x to y.

        It is a tangent vector, [..., D].

        On the hyperboloid that point is (sinh((1 - t) k) X + sinh(t k) Y) / sinh(k), with k = sqrt(c) d. From a point
        to the root it is (1 - t) x.

        Args:
            x, y: tangent vectors [..., D] of the two ends.
            t: share of the geodesic, a number or a tensor [..., 1].
        """
        k = 2 * torch.asinh(sqrt(self._triangle(x, y).opening))[..., None]
        start, end = (share * over_self(torch.sinh, share * k) / over_self(torch.sinh, k) for share in (1 - t, t))
        return self.logmap0(start * self.expmap0(x) + end * self.expmap0(y))

    def saturation(self, x: Tensor, min_radius: float) -> tuple[float, Tensor]:
        """Return 2 K and sqrt(c) |x_s|."""
        return 2 * min_radius, torch.sinh(self._polar(x)[0]).squeeze(-1)

    @full_precision
    def exterior_angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the angle at x between the outward ray and the geodesic to y.

        The ray leads away from the root; the angle is [...] in [0, pi].

        It is the atan2 of the path's parts orthogonal to the ray through x and along it, x, y [..., D]. It is pi / 2
        for x = y and for the root as x.
        """
        triangle = self._triangle(x, y)
        side, ahead = triangle.side, triangle.ahead
        scale = torch.maximum(side, ahead.abs()).detach()
        undefined = (length(x).squeeze(-1) == 0) | (scale == 0)
        scale = scale.masked_fill(undefined, 1)
        return torch.atan2((side / scale).masked_fill(undefined, 1), (ahead / scale).masked_fill(undefined, 0))


class LorentzSquared(Lorentz):
    """Hyperbolic space, similarity = -distance^2."""

    name = "lorentz-squared"
    description = "hyperbolic space of learned curvature: minus the squared distance"
    paper = "arXiv:2409.13079"
    formula = r"s(x, y) = -d(x, y)^2,\quad \cosh(\sqrt{c}\,d) = -c\,\langle x, y\rangle_L"
    temperature = 1.0
    logit_scale_range = (-3.0, math.log(100))

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return minus the squared distance of all pairs, [A, B].

        x [A, D], y [B, D].
        """
        return -self.distance(x, y).square()


class LorentzInner(Lorentz):
    """Hyperbolic space, similarity = Lorentz inner product.

    It ranks as the distances do, but with ever steeper slope.
    """

    name = "lorentz-inner"
    description = "hyperbolic space of learned curvature: Lorentz inner product"
    paper = "arXiv:2409.13079"
    formula = r"s(x, y) = \langle x, y\rangle_L = -\frac{1}{c}\cosh(\sqrt{c}\,d(x, y))"

    @full_precision
    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return <x, y> of all pairs, [A, B], at most -1 / c.

        x [A, D], y [B, D].
        """
        return -(1 + 2 * self._opening(x, y)) / self.curvature.to(x.device)
