"""Checks of the exercises in 07_embedding_geometry.

The oracles are typed out here, in the form a learner would use: space parts of points of the hyperboloid at curvature -c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clipedu.exercises.base import NotYet, as_float, compare, exercise
from clipedu.utils.statistics import rank_correlation


@exercise
def check_expmap0(expmap0: Callable[[Tensor, float], Tensor]) -> str:
    """Check `expmap0(u [D], c)`.

    It returns the space part [D] of the point where the tangent vector u of the vertex leads, in float64.
    """
    for u, c in ((_vector(0.3, 0.4, 0.0), 1.0), (_vector(1.2, -0.9, 0.5), 0.1), (_vector(0.0, 2.0, 0.0), 4.0)):
        length, root = u.norm().item(), math.sqrt(c)
        wrong = [
            (u, "you return u as it is; the space part is longer, by sinh(a) / a with a = sqrt(c) |u|"),
            (math.sinh(root * length) / length * u, "its length should be sinh(sqrt(c) |u|) / sqrt(c): the last sqrt(c) is missing"),
            (math.sinh(length) / length * u, "the curvature is missing: a = sqrt(c) |u|"),
            (math.sinh(c * length) / (c * length) * u, "a = sqrt(c) |u|, with the root of c"),
            (math.tanh(root * length) / (root * length) * u, "tanh belongs to the Poincare ball; on the hyperboloid it is sinh"),
            (math.cosh(root * length) / (root * length) * u, "cosh gives the time part; the space part has sinh"),
            (u.sinh(), "that is the sinh of each number by itself; take it of the vector's length, and keep the direction"),
        ]  # fmt: skip
        right = math.sinh(root * length) / (root * length) * u
        _compare(expmap0(u.clone(), c), right, wrong, f"u = {_say(u)} and c = {c:g}")
    zero = _tensor(expmap0(torch.zeros(3, dtype=torch.float64), 1.0), (3,))
    if zero.isnan().any():
        raise NotYet(
            "at the zero vector you divide 0 by 0 and get NaN. The root is a zero vector: clamp the length from below."
        )
    if zero.abs().max() > 1e-6:
        raise NotYet(f"the zero vector should stay where it is; you got {_say(zero)}.")
    return (
        "for any c the point lies |u| away from the root, though its space part is far longer: volume grows like that."
    )


@exercise
def check_lorentz_distance(lorentz_distance: Callable[[Tensor, Tensor, float], float]) -> str:
    """Check `lorentz_distance(x [D], y [D], c)`.

    It returns the length of the shortest path between two points, given by their space parts.
    """
    noise = torch.Generator().manual_seed(0)
    for c in (1.0, 0.25, 4.0):
        x, y = (torch.randn(3, generator=noise, dtype=torch.float64) for _ in range(2))
        inner, times = (x @ y).item(), _time(x, c) * _time(y, c)
        right = math.acosh(c * (times - inner)) / math.sqrt(c)
        wrong = {
            (x - y).norm().item(): "that is the straight line through the ambient space, not a path on the hyperboloid",
            right * math.sqrt(c): "the last step is missing: divide by sqrt(c)",
            right / math.sqrt(c): "divide by sqrt(c), not by c",
            right**2: "that is the distance squared",
            math.acosh(max(1.0, times - inner)) / math.sqrt(c): "the argument of arcosh is -c <x, y>: the factor c is missing",
            math.acosh(max(1.0, c * (times + inner))) / math.sqrt(c): "in <x, y> space counts plus and time counts minus, so -<x, y> is time minus space",
            math.acosh(max(1.0, c * (_time(x, 1) * _time(y, 1) - inner))) / math.sqrt(c): "the time part is sqrt(1 / c + |x|^2), with 1 / c",
        }  # fmt: skip
        given = as_float(lorentz_distance(x.clone(), y.clone(), c))
        if math.isnan(given):
            raise NotYet(
                f"for two points at c = {c:g} you got NaN: arcosh takes -c <x, y>, which is at least 1. Is the sign right?"
            )
        compare(given, right, wrong, f"two points at c = {c:g}")
    for _ in range(40):
        x = torch.randn(8, generator=noise, dtype=torch.float64)
        given = as_float(lorentz_distance(x.clone(), x.clone(), 1.0))
        if math.isnan(given):
            raise NotYet("right for two points, but NaN for a point and itself: rounding took -c <x, x> a little below 1. Clamp it to 1.")  # fmt: skip
        if abs(given) > 1e-3:
            raise NotYet(f"the distance of a point to itself should be 0, not {given:.3g}.")
    return (
        "and 0, not NaN, for a point and itself. The library goes on where this loses its digits, far out and nearby."
    )


@exercise
def check_half_aperture(half_aperture: Callable[[Tensor, float, float], float]) -> str:
    """Check `half_aperture(x [D], K, c)`.

    It returns half the opening angle, in radians, of the cone at the point with space part x.
    """
    for x, k, c in (
        (_vector(0.6, -0.8, 1.0), 0.3, 3.0),
        (_vector(2.0, 1.0, 0.0), 0.1, 0.2),
        (_vector(1.0, 0.0, 0.0), 0.1, 1.0),
    ):
        length, root = x.norm().item(), math.sqrt(c)
        right = math.asin(2 * k / (root * length))
        wrong = {
            2 * right: "that is the whole aperture; the angle is measured from the axis, so half of it",
            math.degrees(right): "that is in degrees",
            math.asin(k / length): "that is the Euclidean cone, K / |u|; here it is 2 K / (sqrt(c) |x|)",
            math.asin(k / (root * length)): "the factor 2 is missing: the cone is that of the Poincare ball, K (1 - r^2) / r, rewritten",
            math.asin(min(1, 2 * k / (c * length))): "the root is missing: sqrt(c) |x|",
            math.asin(min(1, 2 * k / length)): "the curvature is missing: sqrt(c) |x|",
            2 * k / (root * length): "that is the sine of the angle",
            math.acos(2 * k / (root * length)): "arcsin, not arccos: the farther out, the narrower",
        }  # fmt: skip
        compare(half_aperture(x.clone(), k, c), right, wrong, f"|x| = {length:.3g}, K = {k:g}, c = {c:g}")
    for length in (0.2, 0.1, 1e-3):
        given = as_float(half_aperture(_vector(length, 0.0, 0.0), 0.1, 1.0))
        if math.isnan(given):
            raise NotYet(
                f"NaN for |x| = {length:g} and K = 0.1: near the root the sine would be above 1. Clamp it to 1."
            )
        compare(given, math.pi / 2, {}, f"|x| = {length:g} and K = 0.1, where the cone is a half-space,")
    return "near the root a cone is a half-space; far out it is a needle. A generic caption needs the wide cone."


@exercise
def check_open_gap(open_gap: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> str:
    """Check `open_gap(image [N, D], text [N, D])`.

    It returns embeddings [N, any] whose means are 1 or more apart, at the same -d^2 loss.
    """
    noise = torch.Generator().manual_seed(0)
    image = torch.randn(6, 4, generator=noise, dtype=torch.float64)
    text = image + 0.3 * torch.randn(6, 4, generator=noise, dtype=torch.float64)
    answer = open_gap(image.clone(), text.clone())
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise NotYet("return both embeddings: `return image, text`")
    x, y = (_tensor(side, None) for side in answer)
    if x.shape != y.shape or x.ndim != 2 or len(x) != 6:
        raise NotYet(f"both sides need 6 rows and equally many columns; you return {list(x.shape)} and {list(y.shape)}")
    gap, was = ((a.mean(0) - b.mean(0)).norm().item() for a, b in ((x, y), (image, text)))
    if gap < 1:
        hint = " Moving both sides together moves both means." if abs(gap - was) < 1e-6 else ""
        raise NotYet(f"the means are {gap:.2f} apart, and should be 1 or more.{hint}")
    (before, after), (plain_before, plain_after) = (
        [_loss(a, b, power) for a, b in ((image, text), (x, y))] for power in (2, 1)
    )
    if abs(after - before) > 1e-6:
        raise NotYet(
            f"the means are {gap:.2f} apart, but the loss went from {before:.4f} to {after:.4f}: a shift along a direction in which the "
            "points differ changes some distances more than others. Is there a direction that none of them uses?"
        )
    return (
        f"gap {gap:.1f}, loss {after:.4f} as before: d^2 grew by the same for every pair, and a softmax does not see that. "
        f"Under -d the same shift is not free: {plain_before:.3f} -> {plain_after:.3f}."
    )


@exercise
def check_spearman(spearman: Callable[[Tensor, Tensor], float]) -> str:
    """Check `spearman(radius [N], level [N])`.

    It returns the rank correlation, where equal values share the mean of their ranks.
    """
    noise = torch.Generator().manual_seed(0)
    for level in (torch.arange(6), torch.arange(4).repeat_interleave(3)):
        for _ in range(4):
            level = level[torch.randperm(len(level), generator=noise)]
            radius = (0.4 * level + torch.randn(len(level), generator=noise, dtype=torch.float64)).exp()
            right = float(rank_correlation(radius, level))
            x, y = radius, level.double()
            wrong = {
                _pearson(x, y): "that is the correlation of the numbers themselves; turn both into ranks first",
                _pearson(x.argsort().double(), y.argsort(stable=True).double()): "argsort gives who stands on place k, not the place of k: apply it twice",
                _pearson(_places(x), _places(y)): "equal levels must share the mean of their ranks; in your order the first of them wins",
                -right: "the sign is turned: far out and specific is positive",
                1 - right: "that is one minus it",
            }  # fmt: skip
            ties = "with ties" if len(level) > 6 else "without ties"
            compare(spearman(radius.clone(), level.clone()), right, wrong, f"{len(level)} captions {ties}")
    return "it depends on the order only, so it means the same in every geometry, whatever the unit of its radius."


def _vector(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _say(vector: Tensor) -> str:
    return f"({', '.join(f'{value:.4g}' for value in vector.tolist())})"


def _tensor(answer: Any, shape: tuple[int, ...] | None) -> Tensor:
    """Convert an answer to a float64 tensor. Raises NotYet if it is none."""
    if not isinstance(answer, Tensor):
        raise NotYet(f"return a tensor, not a {type(answer).__name__}")
    if shape is not None and answer.shape != shape:
        raise NotYet(f"return a tensor of shape {list(shape)}; yours has {list(answer.shape)}")
    return answer.detach().double()


def _compare(answer: Any, right: Tensor, wrong: Iterable[tuple[Tensor, str]], case: str) -> None:
    """Compare a vector with the right one; as `compare`."""
    value = _tensor(answer, tuple(right.shape))
    if torch.allclose(value, right, rtol=1e-5, atol=1e-9):
        return
    for known, why in wrong:
        if torch.allclose(value, known, rtol=1e-5, atol=1e-9):
            raise NotYet(f"for {case} you got {_say(value)}, and it should be {_say(right)}: {why}.")
    raise NotYet(f"for {case} you got {_say(value)}, and it should be {_say(right)}.")


def _time(x: Tensor, c: float) -> float:
    """Return the time part of the point with space part x."""
    return math.sqrt(1 / c + (x @ x).item())


def _loss(image: Tensor, text: Tensor, power: int) -> float:
    """Return CLIP's loss of -d^power at temperature 1, d Euclidean."""
    logits = -((image[:, None] - text[None]).norm(dim=-1) ** power)
    own = torch.arange(len(logits))
    return ((cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2).item()


def _pearson(x: Tensor, y: Tensor) -> float:
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


def _places(x: Tensor) -> Tensor:
    """Return ranks, equal values in their order."""
    return x.argsort(stable=True).argsort().double()
