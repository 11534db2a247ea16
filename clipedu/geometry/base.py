r"""The interface of a space, for losses, evaluation and plots.

Convention (the *tangent convention*): embeddings are tangent vectors at the root of the space, of any length. A
geometry maps them into its space *inside* `similarity`, `distance`, `mean` and the rest. So the same embedding can be
used in any geometry, and it is never in question whether "the features" are already normalised or mapped.

`tangent` makes a tangent vector of what an encoder's projection returns: it multiplies it by the dimension scaling
alpha (1 on the sphere). The model does that; everything after it gets tangent vectors only.

Similarities and distances are *all pairs*: rows x [A, D] against rows y [B, D] give [A, B]. Angles, geodesics and maps
are *matched*: they broadcast over leading dimensions and work on the last one. Everything is computed in float32
(float64 if that is what came in), also under autocast.

A geometry may learn (curvature, alpha): it is an `nn.Module`, and a part of the model. Numbers that must stay in a
range are kept as logarithms and clamped *themselves*, in place, whenever they are read: a clamp of the value alone
would have no gradient outside the range, and a number that once overshot could not return. They must have no weight
decay, which would pull them to 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.geometry.registry import names_with_cones
from clipedu.utils.errors import ClipeduError

TILE = 64  # rows of `matched_similarity` at once


def full_precision(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a method of tensors to compute in at least float32.

    The tensors are promoted to one dtype, and autocast is off inside. Arguments that are no tensors (a share, a radius)
    are passed on as they are.
    """

    @functools.wraps(method)
    def wrapped(self: Geometry, *values: Any, **named: Any) -> Tensor:
        tensors = [value for value in (*values, *named.values()) if isinstance(value, Tensor)]
        dtype = functools.reduce(torch.promote_types, (value.dtype for value in tensors), torch.float32)

        def widened(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) else value

        with torch.autocast(tensors[0].device.type, enabled=False):
            return method(self, *map(widened, values), **{key: widened(value) for key, value in named.items()})

    return wrapped


class Geometry(nn.Module):
    """A space to compare embeddings in.

    Attributes:
        name, description, paper, formula: for the registry; the formula in LaTeX.
        temperature: initial temperature of a loss (1 / s with s = exp(logit_scale)).
        logit_scale_range: what a learned logit_scale is clamped to.
        has_cones: whether `half_aperture`, `exterior_angle` and `entailment` are defined.
    """

    name: str
    description: str
    paper: str
    formula: str
    temperature: float = 0.07
    logit_scale_range: tuple[float, float] = (0.0, math.log(100))
    has_cones: bool = False

    def tangent(self, features: Tensor, side: str) -> Tensor:
        """Multiply features [..., D] by alpha of this `side`, "image" or "text"."""
        return features

    def watched(self) -> dict[str, Tensor]:
        """Return what is learned, as detached scalars to log.

        They are "curvature", "alpha_image" and "alpha_text", as far as they are learned.
        """
        return {}

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the similarity of all pairs, larger = closer, for a loss.

        x [A, D], y [B, D] -> [A, B].
        """
        raise NotImplementedError

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the length of the shortest path of all pairs, >= 0.

        x [A, D], y [B, D] -> [A, B].
        """
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """Return the prototype of x [N, D], one tangent vector [D]."""
        raise NotImplementedError

    def root(self, x: Tensor) -> Tensor:
        """Return the root [D], the most generic point.

        The distance from it measures how specific an embedding is.

        x [N, D] are all embeddings of a set. A space with a root of its own needs only their width; the sphere has none
        and uses `mean(x)`.
        """
        raise NotImplementedError

    def expmap0(self, u: Tensor) -> Tensor:
        """Map tangent vectors u to points, in the coordinates of the space.

        [..., D] -> [..., D].
        """
        raise NotImplementedError

    def logmap0(self, point: Tensor) -> Tensor:
        """Map points to their tangent vectors, the inverse of `expmap0`.

        [..., D] -> [..., D].
        """
        raise NotImplementedError

    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """Return the point at share t of the shortest path from x to y.

        It is a tangent vector, [..., D].

        Args:
            x, y: tangent vectors [..., D] of the two ends.
            t: share of the path's length; 0 is x, 1 is y. Many shares at once: a tensor [..., 1], such as
                `torch.linspace(0, 1, 50)[:, None]` with x, y [D].
        """
        raise NotImplementedError

    def half_aperture(self, x: Tensor, min_radius: float = 0.1) -> Tensor:
        """Return the angle between axis and side of the cone at apex x.

        [..., D] -> [...] in (0, pi / 2] radians.
        """
        raise self._no_cones()

    def exterior_angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the angle at x between the outward ray and the path to y.

        The ray leads away from the root. x, y [..., D] -> [...] in [0, pi].
        """
        raise self._no_cones()

    def entailment(self, text: Tensor, image: Tensor, min_radius: float = 0.1) -> Tensor:
        """Return how far each image lies outside the cone of its text.

        It is in radians, [...] >= 0.

        Args:
            text, image: matched tangent vectors, [..., D] each.
            min_radius: K >= 0, which sets the width of the cones.

        Raises:
            ClipeduError: a space without cones, or a `min_radius` out of range.
        """
        raise self._no_cones()

    def _no_cones(self) -> ClipeduError:
        able = ", ".join(names_with_cones())
        return ClipeduError(f"{self.name} has no root of its own, hence no cones. Geometries with cones: {able}")


def matched_similarity(geometry: Geometry, x: Tensor, y: Tensor) -> Tensor:
    """Return the similarity of each row of x to the same row of y.

    Of the matrix of all pairs, small tiles along the diagonal are computed.

    Args:
        geometry: gives the similarity.
        x, y: [N, D] each, N > 0.
    Returns:
        [N].
    """
    tiles = zip(x.split(TILE), y.split(TILE), strict=True)
    return torch.cat([geometry.similarity(a, b).diagonal() for a, b in tiles])
