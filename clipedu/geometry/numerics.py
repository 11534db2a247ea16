r"""Functions that keep the digits and gradients that plain formulas lose.

Three things go wrong with the formulas as they are printed, all of them in float32 and at points that training reaches:

- *Cancellation.* |x|^2 - 2 x.y + |y|^2 is a small difference of large numbers when x is near y. Remedy: subtract first
  (x - y, which is exact for near numbers), square then.
- *Infinite slopes.* arccos near 1 turns a rounding error of 1e-7 into an angle of 3e-4, and has no gradient at 1.
  Remedy: angles from two lengths, by atan2, which is flat everywhere.
- *0 / 0.* sinh(k) / k at k = 0, the gradient of a length at length 0. Remedy: give the limit explicitly. Adding
  1e-8 is no remedy: in float32, 1 + 1e-8 is 1.

Where there is no gradient (the distance of a point to itself, a kink) it is 0, not inf or nan.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NEAR = 1e-2  # a pair is near if its squared distance is below this share of |x|^2 + |y|^2
FEW = 8  # near pairs per row and column, at most, that are computed one by one


def length(x: Tensor) -> Tensor:
    """Return Euclidean lengths over the last dimension: [..., D] -> [..., 1].

    The gradient at the zero vector is 0.
    """
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def unit(x: Tensor) -> Tensor:
    """Return x / |x| over the last dimension, [..., D].

    The zero vector is kept, with the identity as gradient.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    size = length(x)
    return x / size.masked_fill(size == 0, 1)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root of x >= 0, with gradient 0 at 0."""
    zero = x == 0
    return x.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def over_self(function: Callable[[Tensor], Tensor], k: Tensor, slope: float = 1.0) -> Tensor:
    """Return function(k) / k for an odd function, with its limit at k = 0.

    >>> over_self(torch.sinh, torch.tensor([0.0, 1.0]))
    tensor([1.0000, 1.1752])

    Args:
        function: elementwise, with function(0) = 0.
        k: tensor of any shape.
        slope: derivative of the function at 0, the limit.
    """
    zero = k == 0
    k = k.masked_fill(zero, 1)
    return (function(k) / k).masked_fill(zero, slope)


def few_pairs(mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return rows and columns where mask [A, B] is true, unless many.

    These pairs are computed one by one. The result is None if there are too many. To count them is to wait for the device.
    """
    rows, columns = mask.nonzero(as_tuple=True)
    return (rows, columns) if len(rows) <= FEW * sum(mask.shape) else None


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return |x_i - y_j|^2 of all pairs, x [A, D], y [B, D] -> [A, B].

    |x|^2 - 2 x.y + |y|^2 of the centred rows is one matrix product, right to about 1e-7 (|x|^2 + |y|^2) in float32. The
    pairs for which that error is large relative to the distance are computed again from x - y, value and gradient; if
    they are many, all pairs are.
    """
    centre = torch.cat([x, y]).detach().mean(dim=0)
    p, q = x - centre, y - centre
    size = p.square().sum(-1)[:, None] + q.square().sum(-1)
    expanded = torch.addmm(size, p, q.T, alpha=-2)
    near = few_pairs(expanded.detach() < NEAR * size.detach())
    if near is None:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    return expanded.index_put(near, (x[near[0]] - y[near[1]]).square().sum(-1))


def angle_of_chords(minus: Tensor, plus: Tensor) -> Tensor:
    """Return the angle in [0, pi] of unit vectors from two chords.

    With |x - y| = minus and |x + y| = plus it is 2 atan2(minus, plus).

    It is exact at nearly parallel and at nearly opposite vectors. With a zero vector for x or y, or both, it is pi / 2.
    """
    both_zero = (minus == 0) & (plus == 0)
    return 2 * torch.atan2(minus.masked_fill(both_zero, 1), plus.masked_fill(both_zero, 1))


def angle(x: Tensor, y: Tensor) -> Tensor:
    """Return the angle between vectors x and y, of any length.

    [..., D], [..., D] -> [...] in [0, pi].
    """
    x, y = unit(x), unit(y)
    return angle_of_chords(length(x - y), length(x + y)).squeeze(-1)


def arcsin_share(part: float, whole: Tensor) -> Tensor:
    """Return arcsin(min(1, part / whole)) for part > 0, whole >= 0.

    It is computed as the angle of a right triangle with these two sides.

    The gradient is 0 where whole <= part; beyond it falls from infinity, as arcsin's does.
    """
    other = torch.relu((whole - part) * (whole + part)).sqrt()  # relu lets no gradient of sqrt at 0 through
    return torch.atan2(torch.full_like(other, part), other)
