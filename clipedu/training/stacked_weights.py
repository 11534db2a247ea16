"""`StackedWeights`: what R runs train, as rows of one array.

A run's parameters stay what they are to its model and its optimizer: from `StackedWeights` on they are views of a row, and so are
their gradients. So the optimizer's step is one of arrays [R, n], and yet each model can be scored as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipedu.training.stacked_optimizer import Block


@dataclass(frozen=True)
class Slice:
    """Where a parameter is in a row.

    Attributes:
        name: of the parameter, as the optimizer's groups have it.
        group: number of its group.
        columns: of the array.
        shape: of the parameter.
    """

    name: str
    group: int
    columns: slice
    shape: torch.Size


class StackedWeights:
    """The trained weights of R runs and their gradients, [R, n] each.

    Args:
        optimizers: of the runs, alike in groups and shapes; none has stepped yet.
    Attributes:
        weights, gradients: [R, n].
        slices: in the order of the row, group by group.
        leaves: by the parameter's name, [R, ...]; they require a gradient, and are views of `weights`.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]):
        self._optimizers = optimizers
        self._parameters = [[p for group in one.param_groups for p in group["params"]] for one in optimizers]
        self.slices: list[Slice] = []
        start = 0
        for number, group in enumerate(optimizers[0].param_groups):
            for name, p in zip(group["param_names"], group["params"], strict=True):
                self.slices.append(Slice(name, number, slice(start, start + p.numel()), p.shape))
                start += p.numel()
        rows = [torch.cat([p.detach().reshape(-1) for p in run]) for run in self._parameters]
        self.weights = torch.stack(rows)
        self.gradients = torch.zeros_like(self.weights)
        self.leaves = {one.name: self.part(self.weights, one).requires_grad_() for one in self.slices}
        self._blocks: list[Block] = []
        for number in range(len(optimizers[0].param_groups)):
            own = [one.columns for one in self.slices if one.group == number]
            columns = slice(own[0].start, own[-1].stop)
            self._blocks.append(Block(self.weights[:, columns], self.gradients[:, columns]))
        for row, run in enumerate(self._parameters):
            for one, p in zip(self.slices, run, strict=True):
                p.data = self.part(self.weights, one)[row]
                p.grad = self.part(self.gradients, one)[row]

    @staticmethod
    def part(array: Tensor, one: Slice) -> Tensor:
        """Return a parameter's columns of an array [R, n] as [R, ...]."""
        return array.detach()[:, one.columns].view(-1, *one.shape)

    def backward(self, losses: Tensor) -> None:
        """Compute the gradients of the losses [R], each of its own run."""
        found = torch.autograd.grad(losses.sum(), list(self.leaves.values()))
        for one, gradient in zip(self.slices, found, strict=True):
            self.part(self.gradients, one).copy_(gradient)

    @torch.no_grad()
    def clip(self, largest: Sequence[float | None]) -> None:
        """Clip the gradients of each model.

        It is done as `torch.nn.utils.clip_grad_norm_` does.

        Args:
            largest: norm of each run, None for no clipping.
        """
        own = [one for one in self.slices if not one.name.startswith("loss.")]
        norms = torch.stack([torch.linalg.vector_norm(self.gradients[:, one.columns], dim=1) for one in own], dim=1)
        total = torch.linalg.vector_norm(norms, dim=1)
        most = torch.tensor([torch.inf if value is None else value for value in largest]).to(total)
        times = (most / (total + 1e-6)).clamp(max=1.0)
        self.gradients[:, : own[-1].columns.stop].mul_(times[:, None])

    def step(self, name: str) -> None:
        """Make a step of the optimizer called `name`.

        The settings are those of each run's groups.
        """
        for number, block in enumerate(self._blocks):
            block.step(name, [one.param_groups[number] for one in self._optimizers])

    def give_state(self) -> None:
        """Give each optimizer its state, as views of the averages."""
        for row, (optimizer, run) in enumerate(zip(self._optimizers, self._parameters, strict=True)):
            for one, p in zip(self.slices, run, strict=True):
                block = self._blocks[one.group]
                start = one.columns.start - self._first(one.group)
                state: dict[str, Any] = optimizer.state[p]
                for name, average in block.averages.items():
                    state[name] = average[row, start : start + p.numel()].view(p.shape)
                if isinstance(optimizer, torch.optim.Adam):
                    state["step"] = torch.tensor(float(block.steps))

    def _first(self, group: int) -> int:
        return next(one.columns.start for one in self.slices if one.group == group)

    def part_ways(self) -> None:
        """Give each run weights and state of its own, copies of its rows."""
        self.give_state()
        for optimizer, run in zip(self._optimizers, self._parameters, strict=True):
            for p in run:
                p.data, p.grad = p.detach().clone(), None
                state = optimizer.state[p]
                for name, value in state.items():
                    state[name] = value.clone()


def projected(leaves: dict[str, Tensor], side: str, features: Tensor) -> Tensor:
    """Return what the projections of a side make of features.

    Args:
        leaves: weights [R, D, F], and biases [R, D] where there are any, by name.
        side: "image" or "text".
        features: [B, F] where all runs have the same, else [R, B, F].
    Returns:
        [R, B, D].
    """
    found = torch.matmul(features, leaves[f"{side}_projection.weight"].mT)
    bias = leaves.get(f"{side}_projection.bias")
    return found if bias is None else found + bias[:, None]
