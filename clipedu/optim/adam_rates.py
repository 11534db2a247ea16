"""`AdamRates`: the step of torch's Adam on one piece of the numbers.

The operations are those of torch's default, in the same order, or torch's own fused kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamRates:
    """What the step of a group multiplies with."""

    decay: float  # decoupled
    kept: float  # of a weight, by it
    coupled: float
    beta1: float
    beta2: float
    eps: float
    root: float
    size: float
    lr: float
    fused: Tensor | None  # number of the step, for torch's fused kernel

    @classmethod
    def of(cls, group: dict[str, Any], step: Tensor) -> AdamRates:
        """Return the rates of step number `step`, from 1."""
        lr, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]
        decoupled = group["decoupled_weight_decay"]
        count = float(step)
        return cls(
            decay=decay if decoupled else 0.0,
            kept=1 - lr * decay if decoupled else 1.0,
            coupled=0.0 if decoupled else decay,
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            root=(1 - beta2**count) ** 0.5,
            size=lr / (1 - beta1**count),
            lr=lr,
            fused=step if group["fused"] else None,
        )

    def update(self, w: Tensor, g: Tensor, m: Tensor, v: Tensor, d: Tensor) -> None:
        """Make the step of a piece, all [n], with `d` to write to."""
        if self.fused is not None:
            self._fused(w, g, m, v)
            return
        if self.coupled != 0:
            g = torch.add(g, w, alpha=self.coupled, out=d)
        if self.kept != 1:
            w.mul_(self.kept)
        m.lerp_(g, 1 - self.beta1)
        v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        w.addcdiv_(m, self.denominator(v, d), value=-self.size)

    def denominator(self, v: Tensor, d: Tensor) -> Tensor:
        """Return what the average gradient is divided by, written to `d`."""
        return torch.sqrt(v, out=d).div_(self.root).add_(self.eps)

    def _fused(self, w: Tensor, g: Tensor, m: Tensor, v: Tensor) -> None:
        tensors: Any = ([w], [g], [m], [v], [], [self.fused])
        kernel = torch._fused_adam_ if self.coupled else torch._fused_adamw_
        kernel(
            *tensors,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.coupled or self.decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
