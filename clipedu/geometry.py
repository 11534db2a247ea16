r"""How two embeddings are compared: what "similar" means is a choice, and it is made here.

Convention (the *tangent convention*): encoders return raw vectors, of any length. They are tangent vectors at the root
of the space; a geometry maps them into its space *inside* `similarity`, `distance` and `mean`. So one and the same
embedding can be looked at in any geometry, and nobody has to remember whether "the features" are already normalised.

Cosine, CLIP's geometry, maps a vector x to the unit sphere, $\hat x = x / \lVert x \rVert$: direction is kept, length
is thrown away. Similarity is $\hat x \cdot \hat y = \cos\theta$, in [-1, 1]; distance is the angle $\theta$ itself, in
[0, pi].

Similarities and distances are *all pairs*: rows x [A, D] against rows y [B, D] give [A, B]. Everything is computed in
float32 (float64 if that is what came in), whatever autocast says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clipedu.registry import Registry


def full_precision(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator for a method of tensors: half precision comes in as float32, and autocast is off inside."""

    @functools.wraps(method)
    def wrapped(self, *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return method(self, *(t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors))

    return wrapped


class Geometry(nn.Module):
    """What a loss, an evaluation and a plot may ask of a space. It is an `nn.Module`: it may learn."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs similarity, larger = closer: x [A, D], y [B, D] -> [A, B]. What a loss is built on."""
        raise NotImplementedError

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs length of the shortest path in the space, >= 0: x [A, D], y [B, D] -> [A, B]."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """The prototype of x [N, D]: one vector [D] (tangent, as all others) that stands for the N."""
        raise NotImplementedError


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


GEOMETRIES = Registry("geometry")
GEOMETRIES.add(
    "cosine",
    lambda dim: Cosine(),
    "unit sphere: cosine of the angle, length ignored (CLIP)",
    paper="arXiv:2103.00020",
    formula=r"s(x, y) = \frac{x \cdot y}{\lVert x \rVert \, \lVert y \rVert}",
)


def build_geometry(name: str, dim: int) -> Geometry:
    """The geometry called `name` (see `GEOMETRIES`) for embeddings of width `dim`. Unknown: `ClipeduError`."""
    return GEOMETRIES[name].build(dim)
