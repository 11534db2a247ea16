r"""What a loss, an evaluation and a plot may ask of a space; each space has a file of its own.

Convention (the *tangent convention*): embeddings are tangent vectors at the root of the space, of any length. A geometry
maps them into its space *inside* `similarity`, `distance`, `mean` and the rest. So one and the same embedding can be
looked at in any geometry, and nobody has to remember whether "the features" are already normalised or mapped.

What an encoder's projection returns becomes a tangent vector by `tangent`, which multiplies it by the dimension scaling
alpha (1 in cosine). The model does that; everything after it sees tangent vectors only.

Similarities and distances are *all pairs*: rows x [A, D] against rows y [B, D] give [A, B]. Everything is computed in
float32 (float64 if that is what came in), whatever autocast says.

A geometry may learn (curvature, alpha): it is an `nn.Module`, and a part of the model. Numbers that must stay in a range
are kept as logarithms and clamped *themselves*, in place, whenever they are read: a clamp of the value alone would have
no gradient outside the range, and a number that once overshot would stay stuck there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def full_precision(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorator for a method of tensors: half precision comes in as float32, and autocast is off inside.

    Arguments that are no tensors (a share, a radius) are passed on as they are.
    """

    def widened(value):
        return value.to(torch.promote_types(value.dtype, torch.float32)) if isinstance(value, Tensor) else value

    @functools.wraps(method)
    def wrapped(self, *values):
        device = next(value.device.type for value in values if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return method(self, *map(widened, values))

    return wrapped


class Geometry(nn.Module):
    """A space to compare embeddings in.

    Attributes:
        temperature: where the temperature of a loss starts (1 / s with s = exp(logit_scale)).
        logit_scale_range: what a learned logit_scale is clamped to.
        has_cones: whether `half_aperture` and `exterior_angle`, hence entailment, are defined.
    """

    temperature: float = 0.07
    logit_scale_range: tuple[float, float] = (0.0, math.log(100))
    has_cones: bool = False

    def tangent(self, features: Tensor, side: str) -> Tensor:
        """What a projection returns, [..., D], as tangent vectors: times alpha of this `side`, "image" or "text"."""
        return features

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs similarity, larger = closer: x [A, D], y [B, D] -> [A, B]. What a loss is built on."""
        raise NotImplementedError

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """All-pairs length of the shortest path in the space, >= 0: x [A, D], y [B, D] -> [A, B]."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """The prototype of x [N, D]: one vector [D] (tangent, as all others) that stands for the N."""
        raise NotImplementedError
