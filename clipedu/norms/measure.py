"""`StepMeasure`: the sums of a step, taken inside it or around it.

An optimizer that can has an attribute `sums` (`clipedu.optim.blockwise`), which is given a `StepSums` to fill. Of all others
the weights are copied before the step and compared after it (`snapshot.py`). The second way is taken too while something
else hooks in after the step, since that may change the weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipedu.norms.minibatch import minibatches
from clipedu.norms.snapshot import Snapshot, squares, wide
from clipedu.optim.step_sums import EACH_STEP, WHOLE, StepSums

_NOTHING: dict[Tensor, int] = {}  # has been stepped


@dataclass(frozen=True)
class Sums:
    """What a step did to each parameter, [parameters] each.

    They are arrays for a CPU, else tensors on the device.

    Attributes:
        gradient: ||g||^2.
        after: ||w'||^2, with w' the weight after the step.
        change: ||w' - w||^2.
        before, along: ||w||^2 and <w, w' - w>; None unless the step is recorded.
        minibatch: of `clipedu.norms.minibatch`, [5, parameters]; None unless wanted.
    """

    gradient: Any
    after: Any
    change: Any
    before: Any = None
    along: Any = None
    minibatch: Any = None


class StepMeasure:
    """Measure steps: `before`, the step, `after`.

    Args:
        optimizer: any.
        parameters: what is measured, all on one device.
        minibatch: also what each minibatch contributes.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], *, minibatch: bool):
        self._optimizer, self._parameters, self._minibatch = optimizer, parameters, minibatch
        self.device = parameters[0].device
        self.on_host = _is_host(self.device)
        self._snapshot: Snapshot | None = None
        self._inside: StepSums | None = None
        if getattr(optimizer, "sums", self) is None:  # it can, and sums for nobody else
            self._inside = StepSums(self._copy)
            optimizer.sums = self._inside  # type: ignore[attr-defined]
        self._gradient: Tensor | None = None
        self._around = True
        self._found: dict[Tensor, int] = {}

    def close(self) -> None:
        """Leave the optimizer as it was."""
        if self._inside is not None:
            self._optimizer.sums = self._inside = None  # type: ignore[attr-defined]

    def observe_gradients(self) -> None:
        """Measure the gradients now, instead of those that the step gets."""
        self._gradient = squares([p.grad for p in self._parameters], self.device)

    def before(self, *, whole: bool, alone: bool) -> None:
        """Prepare for a step.

        Args:
            whole: take all sums.
            alone: nothing else changes weights after the step.
        """
        self._around = False
        if self._inside is not None:
            self._inside.whole, self._inside.found = whole, _NOTHING
            self._optimizer.sums = self._inside if alone else None  # type: ignore[attr-defined]
        if self._inside is None or not alone:
            self._copy()

    def after(self, laws: Sequence[str], *, whole: bool) -> Sums:
        """Return the sums of the step just made.

        Args:
            laws: what decay does to each parameter.
            whole: as it was for `before`.
        """
        sums = self._around_step(whole) if self._around else self._inside_step(whole, laws)
        self._gradient = None
        return sums

    def _copy(self) -> None:
        """Keep the weights, for a step that is measured around."""
        self._around = True
        if self._gradient is None:
            self.observe_gradients()
        if self._snapshot is None:
            self._snapshot = Snapshot(self._parameters)
        self._snapshot.take()

    def _around_step(self, whole: bool) -> Sums:
        assert self._snapshot is not None and self._gradient is not None  # by `_copy`
        sums: list[Any] = []
        if whole and self._minibatch:
            sums = [minibatches(self._optimizer, self._parameters, self._snapshot.copies, wide(self.device))]
        sums = [self._gradient, *self._snapshot.compare(whole=whole), *sums]
        return Sums(*(x.numpy() for x in sums) if self.on_host else sums)

    def _inside_step(self, whole: bool, laws: Sequence[str]) -> Sums:
        inside: Any = self._inside
        if inside.found is not self._found:  # other tensors take part than in the last step
            self._found = inside.found
            self._column = np.array([inside.found.get(p, -1) for p in self._parameters])
            self._still: list[int] = np.flatnonzero(self._column < 0).tolist()
        if not self._still:
            values = inside.values[:, self._column]
        else:
            values = np.empty((WHOLE if whole else EACH_STEP, len(self._column)))
            stepped = np.flatnonzero(self._column >= 0)
            values[:, stepped] = inside.values[: len(values), self._column[stepped]]
            values[:, self._still] = self._of_still(whole)
        gradient, after, change, *more = values
        if self._gradient is not None:
            gradient = self._gradient.numpy()
        if not whole:
            return Sums(gradient, after, change)
        before, contribution, along, along_contribution, along_gradient, active = more
        minibatch = None
        if self._minibatch:
            minibatch = np.stack([contribution, along_contribution, along_gradient, values[0], active])
            minibatch[:2, [law == "coupled" for law in laws]] = np.nan  # no simple form
            if self._still:
                some = [self._parameters[k] for k in self._still]
                minibatch[:, self._still] = minibatches(self._optimizer, some, some, wide(self.device)).numpy()
        return Sums(gradient, after, change, before, along, minibatch)

    def _of_still(self, whole: bool) -> np.ndarray:
        """Return the sums of parameters that took no part: [3 or 9, n]."""
        still = [self._parameters[k] for k in self._still]
        length = squares(still, self.device).numpy()
        gradient = squares([p.grad for p in still], self.device).numpy()
        zero = np.zeros_like(length)
        return np.stack([gradient, length, zero, *([length, zero, zero, zero, zero, zero] if whole else [])])


def _is_host(device: torch.device) -> bool:
    """Return whether tensors of a device are arrays of numpy at no cost."""
    return device.type == "cpu"
