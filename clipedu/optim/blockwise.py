"""`BlockAdam`, `BlockAdamW`: torch's Adam on a CPU, bit by bit, faster.

torch's own step makes eight passes over each tensor, one for each operation; of a large tensor each pass comes from memory
and goes back, of a small one each is a call. Here the same operations, in the same order, are done with one piece after
the other: a block of a large tensor that fits into the cache, or many small tensors side by side in one array. Every
operation is elementwise, so each number is what torch's default gives, to the last bit. With `fused=True` torch's fused
kernel makes the step of each piece: faster still, and rounded otherwise (its square roots are right to the last bit, those of
`torch.sqrt` by MKL are not).

While a piece is in the cache it can be measured at little cost: `StepSums` (`step_sums.py`), which `NormMonitor` sets.

A block of which no number has had a gradient so far is only decayed: all else would leave it as it is. So rows of a word
embedding that never occurred cost little.

What is not float32 on a CPU, and options such as amsgrad, go torch's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from clipedu.optim.adam_pieces import in_memory
from clipedu.optim.adam_plan import Plan, plain
from clipedu.optim.step_sums import StepSums

Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class _ByBlocks(torch.optim.Adam):
    """What both classes share: a `step` by blocks where that is possible.

    Attributes:
        sums: measures the steps; None measures nothing.
    """

    sums: StepSums | None = None
    _plan: Plan | None = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step, as torch's Adam does.

        Args:
            closure: computes the loss again, as torch's optimizers have it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if self._plan is None or not self._plan.holds(self):
                self._plan = self._made_plan()
            if self._plan is not None:
                self._plan.run(self.param_groups, self.sums)
        return loss

    def _made_plan(self) -> Plan | None:
        """Return how to step by blocks; None after a step made in torch's way, where that is not possible."""
        members: list[tuple[dict[str, Any], Lists, bool]] = []
        for group in self.param_groups:
            lists: Lists = ([], [], [], [], [], [])
            members.append((group, lists, self._init_group(group, *lists)))
        counts = {float(t) for _, lists, _ in members for t in lists[5]}
        if len(counts) == 1 and all(_possible(group, lists) for group, lists, _ in members):
            return Plan(self, [lists[0] for _, lists, _ in members], counts.pop())
        if self.sums is not None:
            self.sums.elsewhere()
        if any(group["differentiable"] for group, *_ in members):
            raise ValueError("differentiable=True cannot be: the step changes the weights in place")
        for group, lists, has_complex in members:
            _as_torch(self, group, lists, has_complex)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key not in ("sums", "_plan")}


class BlockAdam(_ByBlocks):
    """`torch.optim.Adam` by blocks."""


class BlockAdamW(_ByBlocks, torch.optim.AdamW):
    """`torch.optim.AdamW` by blocks."""


def _possible(group: dict[str, Any], lists: Lists) -> bool:
    """Return whether a group's step can go by blocks."""
    return (
        plain(group)
        and all(p.numel() and p.dtype is torch.float32 and p.device.type == "cpu" and _is_dense(p) for p in lists[0])
        and all(g.dtype is torch.float32 and g.layout is torch.strided for g in lists[1])
    )


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and (tensor.is_contiguous() or in_memory(tensor).is_contiguous())


def _as_torch(optimizer: torch.optim.Optimizer, group: dict[str, Any], lists: Lists, has_complex: bool) -> None:
    """Make the step of a group as torch's Adam would."""
    same = ("amsgrad", "weight_decay", "eps", "maximize", "foreach", "capturable", "differentiable", "fused")
    adam(
        *lists,
        has_complex=has_complex,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        grad_scale=getattr(optimizer, "grad_scale", None),
        found_inf=getattr(optimizer, "found_inf", None),
        decoupled_weight_decay=group["decoupled_weight_decay"],
        **{key: group[key] for key in same},
    )
