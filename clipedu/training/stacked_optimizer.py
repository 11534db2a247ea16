"""Steps of many optimizers at once: SGD, Adam, Lion and theirs.

The weights of R runs are the rows of one array [R, n], and so are gradients and averages. A step does what the optimizer of one run
does, in the same order of operations; learning rates, betas and decay are columns [R, 1], or plain numbers where all runs
have the same. Each run keeps an optimizer of its own, which says what they are (`clipedu.optim.factory` has built it, with its groups and
its law of decay), but makes no step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Number = float | Tensor  # a tensor is a column [R, 1]


class Block:
    """Weights of one group of R optimizers: arrays [R, k].

    Args:
        weights, gradients: [R, k], changed and read in place.
    Attributes:
        averages: by the name that the optimizer has for it, [R, k] each.
        steps: how many were made.
    """

    def __init__(self, weights: Tensor, gradients: Tensor):
        self.weights, self.gradients = weights, gradients
        self.averages: dict[str, Tensor] = {}
        self.steps = 0
        self._scratch = torch.empty_like(weights)

    def average(self, name: str) -> Tensor:
        """Return an average of the gradients, zero at first."""
        if name not in self.averages:
            self.averages[name] = torch.zeros_like(self.weights)
        return self.averages[name]

    @torch.no_grad()
    def step(self, name: str, groups: Sequence[Mapping[str, Any]]) -> None:
        """Make a step.

        Args:
            name: of the optimizer, one of `STEPS`.
            groups: of each run's optimizer, with the settings of the step, R of them.
        """
        self.steps += 1
        STEPS[name](self, Settings(groups, self.weights), self._scratch)


class Settings:
    """Settings of a group in R optimizers, each [R] in float64."""

    def __init__(self, groups: Sequence[Mapping[str, Any]], like: Tensor):
        self._groups, self._like = groups, like

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array([float(group[name]) for group in self._groups])

    def betas(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = np.array([[float(b) for b in group["betas"]] for group in self._groups]).T
        return first, second

    def flag(self, name: str) -> bool:
        """Return what all have alike."""
        return bool(self._groups[0].get(name))

    def column(self, values: np.ndarray) -> Number:
        """Return numbers [R] as a column, or as one number where they are equal."""
        if (values == values[0]).all():
            return float(values[0])
        return torch.as_tensor(values, dtype=self._like.dtype).to(self._like.device)[:, None]


def _adam(block: Block, of: Settings, scratch: Tensor) -> None:
    w, g, m, v = block.weights, block.gradients, block.average("exp_avg"), block.average("exp_avg_sq")
    lr, decay, (beta1, beta2) = of["lr"], of["weight_decay"], of.betas()
    if of.flag("decoupled_weight_decay"):
        w.mul_(of.column(1 - lr * decay))
    elif decay.any():
        g = _added(g, w, of.column(decay))
    _follow(m, g, of.column(1 - beta1))
    _add_product(v.mul_(of.column(beta2)), g, g, of.column(1 - beta2))
    root, size = (1 - beta2**block.steps) ** 0.5, lr / (1 - beta1**block.steps)
    below = torch.sqrt(v, out=scratch).div_(of.column(root)).add_(of.column(of["eps"]))
    _add_quotient(w, m, below, of.column(-size))


def _sgd(block: Block, of: Settings, scratch: Tensor) -> None:
    w, g, decay = block.weights, block.gradients, of["weight_decay"]
    if decay.any():
        g = _added(g, w, of.column(decay))
    _moved(w, _heavy(block, of, g), of.column(-of["lr"]))


def _sgdw(block: Block, of: Settings, scratch: Tensor) -> None:
    lr = of["lr"]
    block.weights.mul_(of.column(1 - lr * of["weight_decay"]))
    _moved(block.weights, _heavy(block, of, block.gradients), of.column(-lr))


def _lion(block: Block, of: Settings, scratch: Tensor) -> None:
    w, g, m = block.weights, block.gradients, block.average("exp_avg")
    lr, (beta1, beta2) = of["lr"], of.betas()
    w.mul_(of.column(1 - lr * of["weight_decay"]))
    update = scratch.copy_(m)
    _follow(update, g, of.column(1 - beta1))
    _moved(w, update.sign_(), of.column(-lr))
    _follow(m, g, of.column(1 - beta2))


def _heavy(block: Block, of: Settings, g: Tensor) -> Tensor:
    """Return the gradient after momentum."""
    momentum = of["momentum"]
    if not momentum.any():
        return g
    buffer = block.average("momentum_buffer")
    if block.steps == 1:
        buffer.copy_(g)
    else:
        _moved(buffer.mul_(of.column(momentum)), g, of.column(1 - of["dampening"]))
    return _added(g, buffer, of.column(momentum)) if of.flag("nesterov") else buffer


STEPS: dict[str, Callable[[Block, Settings, Tensor], None]] = {
    **dict.fromkeys(("adam", "adamw", "adamc"), _adam),
    "sgd": _sgd,
    **dict.fromkeys(("sgdw", "sgdc"), _sgdw),
    **dict.fromkeys(("lion", "lionc"), _lion),
}
"""The step of each optimizer that stacks have, by its name in `OPTIMIZERS`."""


def _added(x: Tensor, y: Tensor, times: Number) -> Tensor:
    """Return x + times y."""
    return torch.addcmul(x, y, times) if isinstance(times, Tensor) else torch.add(x, y, alpha=times)


def _moved(x: Tensor, y: Tensor, times: Number) -> Tensor:
    """Add times y to x."""
    return x.addcmul_(y, times) if isinstance(times, Tensor) else x.add_(y, alpha=times)


def _follow(average: Tensor, x: Tensor, weight: Number) -> None:
    """Move an average towards x."""
    average.lerp_(x, weight)


def _add_product(x: Tensor, y: Tensor, z: Tensor, times: Number) -> None:
    """Add times y z to x."""
    if isinstance(times, Tensor):
        x.addcmul_(y * times, z)
    else:
        x.addcmul_(y, z, value=times)


def _add_quotient(x: Tensor, y: Tensor, z: Tensor, times: Number) -> None:
    """Add times y / z to x."""
    if isinstance(times, Tensor):
        x.addcdiv_(y * times, z)
    else:
        x.addcdiv_(y, z, value=times)
