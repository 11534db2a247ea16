r"""What a loss, an evaluation and a plot may ask of a space; each space has a file of its own.

Convention (the *tangent convention*): embeddings are tangent vectors at the root of the space, of any length. A geometry
maps them into its space *inside* `similarity`, `distance`, `mean` and the rest. So one and the same embedding can be
looked at in any geometry, and nobody has to remember whether "the features" are already normalised or mapped.

What an encoder's projection returns becomes a tangent vector by `tangent`, which multiplies it by the dimension scaling
alpha (1 on the sphere). The model does that; everything after it sees tangent vectors only.

Similarities and distances are *all pairs*: rows x [A, D] against rows y [B, D] give [A, B]. Angles, geodesics and maps
are *matched*: they broadcast over leading dimensions and work on the last one. Everything is computed in float32
(float64 if that is what came in), whatever autocast says.

A geometry may learn (curvature, alpha): it is an `nn.Module`, and a part of the model. Numbers that must stay in a range
are kept as logarithms and clamped *themselves*, in place, whenever they are read: a clamp of the value alone would have
no gradient outside the range, and a number that once overshot would stay stuck there. They want no weight decay, which
would pull them to 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipedu.utils.errors import ClipeduError


def full_precision(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator for a method of tensors: they come in as one dtype, at least float32, and autocast is off inside.

    Arguments that are no tensors (a share, a radius) are passed on as they are.
    """

    @functools.wraps(method)
    def wrapped(self, *values, **named):
        tensors = [value for value in (*values, *named.values()) if isinstance(value, Tensor)]
        dtype = functools.reduce(torch.promote_types, (value.dtype for value in tensors), torch.float32)

        def widened(value):
            return value.to(dtype) if isinstance(value, Tensor) else value

        with torch.autocast(tensors[0].device.type, enabled=False):
            return method(self, *map(widened, values), **{key: widened(value) for key, value in named.items()})

    return wrapped


class Geometry(nn.Module):
    """A space to compare embeddings in.

    Attributes:
        name: what `build_geometry` calls it. `description`, `paper` and `formula` (LaTeX) go to the registry too.
        temperature: where the temperature of a loss starts (1 / s with s = exp(logit_scale)).
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
        """What a projection returns, [..., D], as tangent vectors: times alpha of this `side`, "image" or "text"."""
        return features

    def watched(self) -> dict[str, Tensor]:
        """What the geometry learns, as numbers to log: "curvature", "alpha_image", "alpha_text", as far as learned."""
        return {}

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs similarity, larger = closer: x [A, D], y [B, D] -> [A, B]. What a loss is built on."""
        raise NotImplementedError

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs length of the shortest path in the space, >= 0: x [A, D], y [B, D] -> [A, B]."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """The prototype of x [N, D]: one vector [D] (tangent, as all others) that stands for the N."""
        raise NotImplementedError

    def root(self, x: Tensor) -> Tensor:
        """The most generic place, [D], from which distances tell how specific an embedding is.

        x [N, D] are all the embeddings at hand. A space with a root of its own needs only their width; the sphere has
        none, and `mean(x)` stands in.
        """
        raise NotImplementedError

    def expmap0(self, u: Tensor) -> Tensor:
        """The point of the space, in its own coordinates, that the tangent vector u stands for: [..., D] -> [..., D]."""
        raise NotImplementedError

    def logmap0(self, point: Tensor) -> Tensor:
        """The tangent vector that stands for a point: undoes `expmap0`, [..., D] -> [..., D]."""
        raise NotImplementedError

    def geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        """The tangent vector of the point at share t of the shortest path from x to y: [..., D], [..., D] -> [..., D].

        t = 0 is x, t = 1 is y, at constant speed between. Many shares at once: a tensor [..., 1], such as
        `torch.linspace(0, 1, 50)[:, None]` with x, y [D].
        """
        raise NotImplementedError

    def half_aperture(self, x: Tensor, min_radius: float = 0.1) -> Tensor:
        """Angle between the axis and the side of the cone at apex x: [..., D] -> [...] in (0, pi / 2] radians."""
        raise self._no_cones()

    def exterior_angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle at x between straight on from the root and the path to y: [..., D], [..., D] -> [...] in [0, pi]."""
        raise self._no_cones()

    def entailment(self, text: Tensor, image: Tensor, min_radius: float = 0.1) -> Tensor:
        """How far, in radians, each image lies outside the cone of its text: [..., D], [..., D] -> [...] >= 0."""
        raise self._no_cones()

    def _no_cones(self) -> ClipeduError:
        from clipedu.geometry import GEOMETRIES  # who has cones is known one floor up

        able = ", ".join(name for name, entry in GEOMETRIES.items() if entry.build.has_cones)
        return ClipeduError(f"{self.name} has no root of its own, hence no cones. Geometries with cones: {able}")
