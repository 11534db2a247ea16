"""`Record`: the measurements of one step, read when first looked at.

On a GPU a step is only asked for, and done later. A loop that looks at each loss waits for the device each time, and the device then
waits for the loop. So the numbers of a step leave the device in one transfer that nobody waits for until they are looked at:
`clipedu.fit` looks at them when the next step is under way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from clipedu.losses import LossOutput
from clipedu.norms import QUANTITIES, NormMonitor


class Numbers:
    """The numbers of a step, maybe still on their way to the host.

    Args:
        output: of the step's loss.
        monitor: which has just seen the step.
    Attributes:
        terms, watch: names of the loss's parts, and of what else is watched.
        parts: of the model, whose norms are known.
    """

    def __init__(self, output: LossOutput, monitor: NormMonitor):
        self.terms, self.watch, self.parts = list(output.terms), list(output.watch), monitor.parts
        scalars = [output.total.detach(), *output.terms.values(), *output.watch.values()]
        norms = monitor.latest  # [quantities, parts]
        self._sent: _Sent | None = None
        if norms.device.type == "cpu":  # no transfer: as quick as can be
            self.values = [*map(float, scalars), *norms.flatten().tolist()]
        else:
            self._sent = _Sent(torch.cat([torch.stack(scalars).to(norms.dtype), norms.flatten()]))

    @cached_property
    def values(self) -> list[float]:
        """Loss, terms, what is watched, then norms [quantities, parts].

        The first look waits until they are there.
        """
        assert self._sent is not None
        return self._sent.arrived()

    def wait(self) -> None:
        """Wait until the numbers are there."""
        _ = self.values

    @property
    def are_here(self) -> bool:
        """Whether a look at them does not wait."""
        return "values" in self.__dict__


class _Sent:
    """A tensor on its way to the host."""

    def __init__(self, tensor: Tensor):
        self._tensor, self._event = tensor, None
        if tensor.device.type == "cuda":
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor, self._event = host.copy_(tensor, non_blocking=True), torch.cuda.Event()
            self._event.record()

    def arrived(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return self._tensor.tolist()


@dataclass(frozen=True)
class Record:
    """Measurements of one step.

    Attributes:
        step, epoch: counted from 0.
        steps: of the whole run.
        lr: learning rate of the step.
        loss, terms: value of the loss and of its parts, before the step.
        watch: other values to plot: "image_norm" and "text_norm" (medians over the batch), and what is learned beside
            the weights: "temperature", "curvature", "alpha_image", ...
        norms: part ("all", "image", "text") -> {"weight", "gradient", "update"}, around the step.
        seconds: since the loop began, without the time between records. On a GPU, until the step was asked for.
        pairs_per_second: of this step, with the loading of its batch.
    """

    step: int
    epoch: int
    steps: int
    lr: float
    seconds: float
    pairs_per_second: float
    numbers: Numbers = field(repr=False)

    @property
    def loss(self) -> float:
        return self.numbers.values[0]

    @cached_property
    def terms(self) -> dict[str, float]:
        return dict(zip(self.numbers.terms, self.numbers.values[1:], strict=False))

    @cached_property
    def watch(self) -> dict[str, float]:
        first = 1 + len(self.numbers.terms)
        return dict(zip(self.numbers.watch, self.numbers.values[first:], strict=False))

    @cached_property
    def norms(self) -> dict[str, dict[str, float]]:
        parts = self.numbers.parts
        values = self.numbers.values[1 + len(self.numbers.terms) + len(self.numbers.watch) :]
        return {part: dict(zip(QUANTITIES, values[k :: len(parts)], strict=True)) for k, part in enumerate(parts)}

    @property
    def is_finite(self) -> bool:
        """Whether the loss is, and the norms of the whole model."""
        return math.isfinite(self.loss) and all(map(math.isfinite, self.norms["all"].values()))
