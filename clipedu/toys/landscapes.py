r"""Descent: a landscape of two weights, small enough to *see* what an optimizer does.

Nothing here is a toy optimizer: `descend` steps with the very object that `build_optimizer` gives to CLIP. Only the model is
small, a single weight matrix w = [x, y], and its loss is one of two landscapes, both with their minimum (loss 0) at (2, 1):

    valley    1/2 (k_1 p^2 + k_2 q^2), with (p, q) = w - (2, 1) turned by 30 degrees, k = (1, 8): long and narrow, and
              askew, so that an optimizer that scales x and y apart gets no gift
    bend      (y - 1 - d (1 - d / 8) / 2)^2 + d^2 / 5, with d = x - 2: a valley that is curved

The minimum is not at the origin, so weight decay, which pulls there, can be told from descent. Three questions a student
can ask of it:

    descend("sgd", lr=0.05)                                         which way, how fast?
    descend("adam", lr=0.05, weight_decay=0.1, scale=1 / 50)        a loss 50 times smaller, as SogCLR's beside CLIP's
    descend("adamw", lr=0.05, weight_decay=0.1, decay_law="corrected")

`scale` multiplies the loss and so every gradient. SGD is slowed by it; optimizers that divide by the gradient's size, or take
its sign, are not. L2 that is coupled into the gradient then weighs 1 / scale times as much: SGD and Adam both head for
`coupled_minimum`, near the origin where scale is small, and Adam gets there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.optim import OPTIMIZERS, build_optimizer, learning_rate
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry

MINIMUM = (2.0, 1.0)
START = (-1.5, 0.5)
_ANGLE, _CURVATURES = math.pi / 6, (1.0, 8.0)


def valley(w: Tensor) -> Tensor:
    """The quadratic valley at points w [..., 2]: loss [...]."""
    x, y = (w - torch.tensor(MINIMUM, dtype=w.dtype)).unbind(-1)
    along = math.cos(_ANGLE) * x + math.sin(_ANGLE) * y
    across = math.cos(_ANGLE) * y - math.sin(_ANGLE) * x
    return (_CURVATURES[0] * along**2 + _CURVATURES[1] * across**2) / 2


def bend(w: Tensor) -> Tensor:
    """The curved valley at points w [..., 2]: loss [...]."""
    x, y = (w - torch.tensor(MINIMUM, dtype=w.dtype)).unbind(-1)
    return (y - x * (1 - x / 8) / 2) ** 2 + x**2 / 5


LANDSCAPES = Registry("landscape")
LANDSCAPES.add("valley", valley, "a long quadratic valley, askew")
LANDSCAPES.add("bend", bend, "a curved valley")


@dataclass(frozen=True)
class Path:
    """Where an optimizer went.

    Attributes:
        optimizer: its name.
        landscape: name of the landscape.
        points: w before the first step and after each, [steps + 1, 2].
        losses: of these points, without `scale` and noise, [steps + 1].
    """

    optimizer: str
    landscape: str
    points: Tensor
    losses: Tensor

    @property
    def distance(self) -> float:
        """From the last point to the minimum."""
        return math.dist(self.points[-1].tolist(), MINIMUM)

    @property
    def from_origin(self) -> float:
        """From the last point to the origin, where decay pulls."""
        return math.hypot(*self.points[-1].tolist())

    def steps_to(self, distance: float) -> int | None:
        """Steps until it came this near to the minimum and stayed; None if it did not."""
        away = torch.linalg.vector_norm(self.points - torch.tensor(MINIMUM, dtype=self.points.dtype), dim=-1)
        far = ~(away <= distance)  # NaN is far
        steps = int(far.nonzero()[-1]) + 1 if far.any() else 0
        return steps if steps < len(far) else None


def descend(
    name: str,
    *,
    lr: float,
    weight_decay: float = 0.0,
    decay_law: str | None = None,
    momentum: float | None = None,
    scale: float = 1.0,
    noise: float = 0.0,
    steps: int = 200,
    schedule: str = "constant",
    landscape: str = "valley",
    start: tuple[float, float] = START,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Step through a landscape with an optimizer of the library.

    Args:
        name, lr, weight_decay, decay_law, options: as in `build_optimizer`; lr is the peak.
        momentum: weight of the past in the optimizer's average, whatever it calls it (`momentum_options`); None: its default.
        scale: > 0, multiplies the loss.
        noise: >= 0, standard deviation of what is added to each entry of the gradient, before it is scaled.
        schedule: "constant" or "cosine", without a warm-up.
        landscape: a name in `LANDSCAPES`.
    Returns:
        the path; points that overflowed are infinite or NaN.
    Raises:
        ClipeduError: what `build_optimizer` refuses, an unknown landscape, a scale or noise out of range.
    """
    if not 0 < scale < math.inf or not 0 <= noise < math.inf or steps < 1:
        raise ClipeduError(f"scale={scale!r} must be above 0, noise={noise!r} at least 0, steps={steps!r} at least 1")
    loss_of: Callable[[Tensor], Tensor] = LANDSCAPES[landscape].build
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([start], dtype=torch.float64))  # a matrix [1, 2], so that it is decayed
    if decay_law is not None:
        options["decay_law"] = decay_law
    if momentum is not None:
        options |= momentum_options(name, momentum)
    optimizer = build_optimizer(model, name, lr=lr, weight_decay=weight_decay, **options)
    generator = torch.Generator().manual_seed(seed)
    points = [model.w.detach().clone()]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=lr, total=steps, warmup=1, schedule=schedule)
        optimizer.zero_grad()
        (scale * loss_of(model.w).sum()).backward()
        model.w.grad += scale * noise * torch.randn(1, 2, generator=generator, dtype=torch.float64)
        optimizer.step()
        points.append(model.w.detach().clone())
    walked = torch.cat(points)
    return Path(name, landscape, walked, loss_of(walked))


def momentum_options(name: str, momentum: float) -> dict[str, Any]:
    """`momentum` in the words of an optimizer: "momentum", the first of "betas", or Scion's "alpha", which is 1 - momentum.

    Raises:
        ClipeduError: not in [0, 1), or an optimizer that has no such average.
    """
    if not 0 <= momentum < 1:
        raise ClipeduError(f"momentum={momentum!r} must be at least 0 and below 1")
    defaults = OPTIMIZERS[name].defaults
    if name in ("scion", "scionc"):
        return {"alpha": 1 - momentum}
    if "momentum" in defaults:
        return {"momentum": momentum, "nesterov": defaults["nesterov"] and momentum > 0}
    if "betas" in defaults or name in ("lion", "lionc"):
        return {"betas": (momentum, defaults.get("betas", (0.9, 0.99))[1])}
    raise ClipeduError(f"momentum={momentum!r}: {name!r} has none to set, or more than one")


def coupled_minimum(weight_decay: float, scale: float = 1.0) -> tuple[float, float]:
    """Where scale * valley(w) + weight_decay / 2 ||w||^2 is smallest: what L2 in the gradient makes of the minimum."""
    turn = torch.tensor(
        [[math.cos(_ANGLE), math.sin(_ANGLE)], [-math.sin(_ANGLE), math.cos(_ANGLE)]], dtype=torch.float64
    )
    hessian = scale * turn.T @ torch.diag(torch.tensor(_CURVATURES, dtype=torch.float64)) @ turn
    pulled = torch.linalg.solve(
        hessian + weight_decay * torch.eye(2, dtype=torch.float64),
        hessian @ torch.tensor(MINIMUM, dtype=torch.float64),
    )
    x, y = pulled.tolist()
    return x, y
