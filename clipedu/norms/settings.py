"""`GroupSettings`: with which settings each watched weight is stepped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipedu.norms.shares import Shares
from clipedu.optim.shrinkage import newest_weight, same_in_group


@dataclass(frozen=True)
class Settings:
    """Of each parameter in one step.

    Attributes:
        groups: names of their groups.
        laws: what decay does to them, of `clipedu.optim.shrinkage.LAWS`.
        shares: what decay took, [parameters].
        rates: lr, weight decay and effective lr, [3, parameters].
    """

    groups: list[str]
    laws: list[str]
    shares: np.ndarray
    rates: np.ndarray


class GroupSettings:
    """Read the settings of an optimizer's steps.

    Args:
        optimizer: any.
        parameters: the weights that are watched.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]):
        self._optimizer, self._parameters = optimizer, parameters
        self._shares = Shares(optimizer, parameters)
        self._sizes: list[int] = []
        self._row: list[int] = []

    def before(self, recorded: bool) -> None:
        """Prepare for a step (`Shares.before`)."""
        self._shares.before(recorded)

    def read(self) -> Settings:
        """Return the settings of the step just made.

        Call it after the step: a hook that sets them (`clipedu.optim.follow`) may run after the monitor's.
        """
        rows = self._rows()
        table = np.array([values for *_, values in rows]).T
        if len(rows) != len(self._parameters):  # one for each group
            rows, table = [rows[k] for k in self._row], table[:, self._row]
        return Settings([group for group, *_ in rows], [law for _, law, _ in rows], table[0], table[1:])

    def _rows(self) -> list[tuple[str, str, tuple[float, ...]]]:
        """Return a row for each parameter, or for each group where a group is all of one kind."""
        groups = self._optimizer.param_groups
        outside = ("not in the optimizer", "none", (0.0, 0.0, 0.0, 0.0))
        sizes = [len(group["params"]) for group in groups]
        if sizes != self._sizes:
            number = {p: n for n, group in enumerate(groups) for p in group["params"]}
            self._sizes, self._row = sizes, [number.get(p, len(groups)) for p in self._parameters]
        if same_in_group(self._optimizer) and len(groups) + 1 < len(self._parameters):
            return [*(self._of(n, next(iter(group["params"]), None)) for n, group in enumerate(groups)), outside]
        return [
            self._of(n, p) if n < len(groups) else outside for n, p in zip(self._row, self._parameters, strict=True)
        ]

    def _of(self, number: int, parameter: Tensor | None) -> tuple[str, str, tuple[float, ...]]:
        if parameter is None:
            return "", "none", (0.0, 0.0, 0.0, 0.0)
        group = self._optimizer.param_groups[number]
        lr, alpha = float(group["lr"]), newest_weight(self._optimizer, group, parameter)
        law, share = self._shares.of(group, parameter)
        effective = lr * ((2 - alpha) / alpha) ** 0.5
        decay = float(group.get("weight_decay") or 0.0)
        return group.get("name", f"group {number}"), law, (share, lr, decay, effective)
