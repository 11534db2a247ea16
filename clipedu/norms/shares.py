"""`Shares`: what decay takes from each watched weight in a step.

It is read where the optimizer is known (`clipedu.optim.shrinkage`), and costs nothing then. Else the recorded steps are measured
(`clipedu.optim.decay_probe`); in the steps between them a share is taken to follow lr * weight_decay from the last measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipedu.optim.decay_probe import NOT_KNOWN, Decay, StepProbe
from clipedu.optim.shrinkage import decay_kind, known_class, shrink


class Shares:
    """The laws and shares of a step: call `before`, step, ask `of`.

    Args:
        optimizer: any.
        parameters: the weights that are watched.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]):
        self._optimizer = optimizer
        self._probe = None if known_class(optimizer) else StepProbe(optimizer, parameters)
        self._measured: dict[Tensor, tuple[Decay, float]] = {}  # the last, and lr * weight_decay of its step
        self._now: dict[Tensor, Decay] | None = None

    def before(self, recorded: bool) -> None:
        """Prepare for a step.

        Args:
            recorded: whether it has rows; others are not measured.
        """
        self._measuring = self._probe is not None and (recorded or not self._measured)
        self._now = None
        if self._probe is not None and self._measuring:
            self._probe.before()

    def of(self, group: dict[str, Any], parameter: Tensor) -> Decay:
        """Return law and share of the step just done.

        Args:
            group: the parameter's group in the optimizer.
            parameter: one of the watched weights.
        """
        law = decay_kind(self._optimizer, group)
        if self._probe is None or law == "none":
            return Decay(law, shrink(self._optimizer, group, parameter))
        if self._measuring and self._now is None:
            self._now = self._probe.after()
        product = float(group["lr"]) * float(group.get("weight_decay") or 0.0)
        if self._now is not None:
            found = self._now.get(parameter, NOT_KNOWN)
            self._measured[parameter] = found, product
            return found
        found, then = self._measured.get(parameter, (NOT_KNOWN, 0.0))
        return Decay(found.law, found.shrink * product / then if then else found.shrink)
