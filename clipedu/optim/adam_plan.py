"""`Plan`: into which pieces the weights of an optimizer are divided.

It is made once, and holds as long as all tensors stay where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipedu.optim.adam_pieces import ALIGN, AVERAGES, Large, Packed
from clipedu.optim.adam_rates import AdamRates
from clipedu.optim.step_sums import StepSums

BLOCK = 2**16  # numbers a thread: several arrays of them fit into a core's cache
SMALL = 2**16  # numbers: smaller tensors are put side by side


def plain(group: dict[str, Any]) -> bool:
    """Return whether a step by blocks is written for a group's settings."""
    numbers = (group["lr"], group["eps"], group["weight_decay"], *group["betas"])
    other = ("amsgrad", "maximize", "capturable", "differentiable", "foreach")
    return (
        not any([group[key] for key in other]) and not any([isinstance(x, Tensor) for x in numbers]) and numbers[1] > 0
    )


class Plan:
    """Which pieces a step has, as long as all tensors stay where they are.

    Args:
        optimizer: whose steps they are; its state is arranged for them.
        groups: of each group the parameters that have a gradient, at least one altogether.
        count: steps made so far.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, groups: list[list[Tensor]], count: float):
        self._threads = torch.get_num_threads()
        self._state = optimizer.state
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self.parameters = [p for group in groups for p in group]
        without = {p for group in optimizer.param_groups for p in group["params"]} - set(self.parameters)
        self._without: list[Tensor] = list(without)
        states: dict[Tensor, dict[str, Tensor]] = {p: optimizer.state[p] for p in self.parameters}
        self._steps = torch.full((len(states),), count, dtype=next(iter(states.values()))["step"].dtype)
        for state, step in zip(states.values(), self._steps.unbind(), strict=True):
            state["step"] = step
        scratch = torch.empty(2, BLOCK * self._threads)
        self._packs: list[tuple[Packed, list[int]]] = []
        self._large: list[tuple[Large, int]] = []
        number = {p: k for k, p in enumerate(self.parameters)}
        order: list[Tensor] = []
        first: list[int] = []
        row = 0
        for group, parameters in enumerate(groups):
            small = [p for p in parameters if p.numel() < SMALL]
            for some in portions(small, scratch.shape[1]):
                pack = Packed(group, some, [states[p] for p in some], row, scratch)
                self._packs.append((pack, [number[p] for p in some]))
                order += some
                first += pack.starts.tolist()
                row = pack.rows[1]
            for p in parameters:
                if p.numel() >= SMALL:
                    large = Large(group, p, states[p], row, scratch, fresh=count == 0)
                    self._large.append((large, number[p]))
                    order.append(p)
                    first.append(row)
                    row = large.pieces[-1].rows[1]
        self._rows, self._first = row, np.array(first)
        self._found = {p: k for k, p in enumerate(order)}
        self._places = [p.data_ptr() for p in self.parameters]
        self._kept: list[tuple[Any, ...]] = [
            (state, *(state[name] for name in ("step", *AVERAGES))) for state in states.values()
        ]

    def holds(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the coming step has these pieces."""
        gradients = [p.grad for p in self.parameters]
        return (
            optimizer.state is self._state
            and self._threads == torch.get_num_threads()
            and self._sizes == [len(group["params"]) for group in optimizer.param_groups]
            and all([g is not None and g.layout is torch.strided for g in gradients])
            and not any([p.grad is not None for p in self._without])
            and self._places == [p.data_ptr() for p in self.parameters]
            and all([s["step"] is t and s["exp_avg"] is m and s["exp_avg_sq"] is v for s, t, m, v in self._kept])
            and all(map(plain, optimizer.param_groups))
        )

    def run(self, groups: list[dict[str, Any]], sums: StepSums | None) -> None:
        """Make a step.

        Args:
            groups: of the optimizer, with the settings of the step.
            sums: what to measure with, if at all.
        """
        self._steps += 1
        gradients: Any = [p.grad for p in self.parameters]
        rates = [AdamRates.of(group, self._steps[0]) for group in groups]
        rows = None if sums is None else sums.begin(self._rows)
        for pack, members in self._packs:
            pack.run(rates[pack.group], [gradients[k] for k in members], rows)
        for large, k in self._large:
            large.run(rates[large.group], gradients[k], rows)
        if sums is not None:
            sums.end(self._found, self._first)


def portions(tensors: list[Tensor], most: int) -> list[list[Tensor]]:
    """Divide small tensors into portions of at most `most` numbers each.

    Padding to a multiple of `ALIGN` is included.
    """
    portions: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        padded = -(-tensor.numel() // ALIGN) * ALIGN
        if padded > room:
            portions.append([])
            room = most
        portions[-1].append(tensor)
        room -= padded
    return portions
