r"""Descent in a landscape of two weights, where each step can be seen.

The optimizers are no toys: `descend` steps with the object that `build_optimizer` makes for CLIP. Only the model is small, a
single weight matrix w = [x, y], and its loss is one of two landscapes, both with their minimum (loss 0) at (2, 1):

    valley    1/2 (k_1 p^2 + k_2 q^2), with (p, q) = w - (2, 1) turned by 30 degrees, k = (1, 8): long and narrow, and
              askew, so that an optimizer that scales x and y apart has no advantage
    bend      (y - 1 - d (1 - d / 8) / 2)^2 + d^2 / 5, with d = x - 2: a valley that is curved

The minimum is not at the origin, so weight decay, which pulls there, can be distinguished from descent. Three
experiments:

    descend("sgd", lr=0.05)                                         which way, how fast?
    descend("adam", lr=0.05, weight_decay=0.1, scale=1 / 50)        a loss 50 times smaller, as SogCLR's beside CLIP's
    descend("adamw", lr=0.05, weight_decay=0.1, decay_law="corrected")

`scale` multiplies the loss and so every gradient. SGD is slowed by it; optimizers that divide by the gradient's size, or take
its sign, are not. L2 that is coupled into the gradient then weighs 1 / scale times as much: SGD and Adam both head for
`coupled_minimum`, near the origin where scale is small, and Adam gets there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.optim import OPTIMIZERS, build_optimizer, learning_rate
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.registry import Registry

MINIMUM = (2.0, 1.0)
START = (-1.5, 0.5)
_ANGLE, _CURVATURES = math.pi / 6, (1.0, 8.0)


def valley(w: Tensor) -> Tensor:
    """Return the loss [...] of the quadratic valley at points w [..., 2]."""
    x, y = (w - torch.tensor(MINIMUM, dtype=w.dtype)).unbind(-1)
    along = math.cos(_ANGLE) * x + math.sin(_ANGLE) * y
    across = math.cos(_ANGLE) * y - math.sin(_ANGLE) * x
    return (_CURVATURES[0] * along**2 + _CURVATURES[1] * across**2) / 2


def bend(w: Tensor) -> Tensor:
    """Return the loss [...] of the curved valley at points w [..., 2]."""
    x, y = (w - torch.tensor(MINIMUM, dtype=w.dtype)).unbind(-1)
    return (y - x * (1 - x / 8) / 2) ** 2 + x**2 / 5


LANDSCAPES = Registry("landscape")
LANDSCAPES.add("valley", valley, "a long quadratic valley, askew")
LANDSCAPES.add("bend", bend, "a curved valley")


def loss_of(landscape: str) -> Callable[[Tensor], Tensor]:
    """Return the loss of a landscape, w [..., 2] -> [...].

    Raises:
        ClipeduError: for an unknown landscape.
    """
    build = LANDSCAPES[landscape].build
    assert build is not None  # every landscape is a function
    return build


@dataclass(frozen=True)
class DescentSettings:
    """What `descend` does, beside the optimizer's name.

    Attributes:
        lr: peak learning rate.
        weight_decay: as in `build_optimizer`.
        decay_law: as in `build_optimizer`; None: the optimizer's default.
        momentum: weight of the past in the optimizer's average, whatever it calls it (`momentum_options`); None: its default.
        scale: > 0, multiplies the loss.
        noise: >= 0, standard deviation of what is added to each entry of the gradient, before it is scaled.
        steps: at least 1.
        schedule: "constant" or "cosine", without a warm-up.
        landscape: a name in `LANDSCAPES`.
        start: w before the first step.
        seed: of the noise.
        options: further options of `build_optimizer`, such as {"nesterov": False}.
    Raises:
        ClipeduError: scale, noise or steps out of range.
        NotFinite: a start that is NaN or infinite.
    """

    lr: float
    weight_decay: float = 0.0
    decay_law: str | None = None
    momentum: float | None = None
    scale: float = 1.0
    noise: float = 0.0
    steps: int = 200
    schedule: str = "constant"
    landscape: str = "valley"
    start: tuple[float, float] = START
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf or not 0 <= self.noise < math.inf or self.steps < 1:
            raise ClipeduError(
                f"scale={self.scale!r} must be above 0, noise={self.noise!r} at least 0, steps={self.steps!r} at least 1"
            )
        if not all(map(math.isfinite, self.start)):
            raise NotFinite(f"start={self.start!r} is not finite: give two numbers")

    def optimizer_options(self, name: str) -> dict[str, Any]:
        """Collect options of `build_optimizer`. Raises ClipeduError."""
        options = dict(self.options)
        if self.decay_law is not None:
            options["decay_law"] = self.decay_law
        return options if self.momentum is None else options | momentum_options(name, self.momentum)


@dataclass(frozen=True)
class Descent:
    """The path of an optimizer through a landscape.

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
        """Return the steps until it stayed this near to the minimum, or None."""
        away = torch.linalg.vector_norm(self.points - torch.tensor(MINIMUM, dtype=self.points.dtype), dim=-1)
        far = ~(away <= distance)  # NaN is far
        steps = int(far.nonzero()[-1]) + 1 if far.any() else 0
        return steps if steps < len(far) else None


def descend(name: str, settings: DescentSettings | None = None, **changes: Any) -> Descent:
    """Step through a landscape with an optimizer of the library.

    Args:
        name: of the optimizer, as in `build_optimizer`.
        settings: None: the defaults, with `lr` among the changes.
        changes: fields of `DescentSettings`; any other name is an option of `build_optimizer`.
    Returns:
        the path; points that overflowed are infinite or NaN.
    Raises:
        ClipeduError: what `build_optimizer` refuses, an unknown landscape, a scale, noise or number of steps out of range.
    """
    settings = _changed(settings, changes)
    loss = loss_of(settings.landscape)
    model = nn.Module()
    w = nn.Parameter(torch.tensor([settings.start], dtype=torch.float64))  # a matrix [1, 2], so that it is decayed
    model.w = w
    options = settings.optimizer_options(name)
    optimizer = build_optimizer(model, name, lr=settings.lr, weight_decay=settings.weight_decay, **options)
    generator = torch.Generator().manual_seed(settings.seed)
    points = [w.detach().clone()]
    for step in range(settings.steps):
        lr = learning_rate(step, peak=settings.lr, total=settings.steps, warmup=1, schedule=settings.schedule)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        (settings.scale * loss(w).sum()).backward()
        noise = torch.randn(1, 2, generator=generator, dtype=torch.float64)
        assert w.grad is not None
        w.grad += settings.scale * settings.noise * noise
        optimizer.step()
        points.append(w.detach().clone())
    walked = torch.cat(points)
    return Descent(name, settings.landscape, walked, loss(walked))


def _changed(settings: DescentSettings | None, changes: Mapping[str, Any]) -> DescentSettings:
    """Change fields of settings; other names are added to its `options`."""
    names = [one.name for one in fields(DescentSettings)]
    own = {name: value for name, value in changes.items() if name in names}
    kept = own.get("options", settings.options if settings else {})
    own["options"] = {**kept, **{name: value for name, value in changes.items() if name not in names}}
    return DescentSettings(**own) if settings is None else replace(settings, **own)


def momentum_options(name: str, momentum: float) -> dict[str, Any]:
    """Translate `momentum` into an optimizer's own option.

    It is "momentum", the first of "betas", or Scion's "alpha", which is 1 - momentum.

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
    """Find the minimum of scale * valley(w) + weight_decay / 2 ||w||^2.

    That is what L2 in the gradient makes of the valley's minimum.

    Args:
        weight_decay: at least 0.
        scale: above 0.
    Raises:
        ClipeduError: one is out of range, or not finite.
    """
    checked_number("weight_decay", weight_decay, at_least=0)
    checked_number("scale", scale, above=0)
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
