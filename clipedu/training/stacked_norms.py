"""`StackedNorms`: norms of the steps of R runs, and what changed them.

What it measures is what `NormMonitor` does around the step of one run, here of all rows at once: the sums of each step by
layer, and the rows of `layers.csv` each `every` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipedu.norms.layers import watched_layers
from clipedu.norms.minibatch import minibatches
from clipedu.norms.settings import GroupSettings
from clipedu.norms.snapshot import wide
from clipedu.norms.table import add_contributions, layer_table
from clipedu.optim.shrinkage import way_of_decay
from clipedu.training.stacked_weights import StackedWeights

if TYPE_CHECKING:
    import pandas

    from clipedu.training.trainer import Trainer

SMALL = 2**13  # numbers of a layer


class StackedNorms:
    """Measure steps of a stack: `before`, the step, `after`.

    Args:
        trainers: of the runs, R.
        stacked: their weights, which the parameters of the trainers are views of.
        every: rows of layers each so many steps.
    Attributes:
        parts: of the model, "all" first.
        gradients: squared norms of the last step's gradients before clipping, [R, layers].
    """

    def __init__(self, trainers: Sequence[Trainer], stacked: StackedWeights, every: int):
        self._trainers, self._stacked, self._every = trainers, stacked, every
        layers = [watched_layers(trainer.model) for trainer in trainers]
        self._layers, self._names = layers, [layer.name for layer in layers[0]]
        slices = {one.name: one for one in stacked.slices}
        self._slices = [slices[name] for name in self._names]
        self.parts = ["all", *dict.fromkeys(layer.part for layer in layers[0])]
        self._members = np.array([[part in ("all", layer.part) for layer in layers[0]] for part in self.parts], float).T
        self._settings = [
            GroupSettings(trainer.optimizer, [layer.parameter for layer in own])
            for trainer, own in zip(trainers, layers, strict=True)
        ]
        self._old, self._wide = torch.empty_like(stacked.weights), wide(stacked.weights.device)
        self._lambda = np.zeros((len(trainers), len(self._names)))
        self.gradients = np.zeros_like(self._lambda)
        self._steps: list[int] = []
        self._rows: list[np.ndarray] = []
        self._words: list[list[Any]] = []
        self._contributions: list[np.ndarray] = []

    @torch.no_grad()
    def before(self) -> None:
        """Keep what the step will change."""
        self._old.copy_(self._stacked.weights)
        self.gradients = self._squares(self._stacked.gradients)

    @torch.no_grad()
    def after(self, step: int) -> np.ndarray:
        """Measure the step just made.

        Args:
            step: its number.
        Returns:
            the norms of each run, [R, 3, parts]: weight, gradient, update.
        """
        weights, old = self._stacked.weights, self._old
        after = self._squares(weights)
        recorded = step % self._every == 0
        if recorded:
            before, kept = self._squares(old), old.clone()
        change = torch.sub(weights, old, out=old)
        moved = self._squares(change)
        shares = np.where(moved > 0, self._shares(), 0.0)
        self._lambda += 2 * shares
        if recorded:
            along = self._sums((kept * change).to(self._wide))
            self._rows.append(np.stack([before, along, moved, after, self.gradients, shares, self._lambda], axis=1))
            self._steps.append(step)
            self._words.append([settings.read() for settings in self._settings])
            self._contributions.append(self._contributed(kept))
        with np.errstate(all="ignore"):
            return (np.stack([after, self.gradients, moved], axis=1) @ self._members) ** 0.5

    def state(self, run: int) -> dict[str, Any]:
        """Return what `NormMonitor.state` would, of one run."""
        return {"Lambda": dict(zip(self._names, self._lambda[run].tolist(), strict=True))}

    def frame(self, run: int, before: int) -> pandas.DataFrame:
        """Return the rows of layers of one run, as `NormMonitor.frame` has them.

        Args:
            run: its number in the stack.
            before: rows from this step on are left out.
        """
        count = sum(step < before for step in self._steps)
        words = [of_step[run] for of_step in self._words[:count]]
        layers = self._layers[run]
        rows = np.array([row[run] for row in self._rows[:count]]).reshape(count, 7, len(layers))
        groups, laws, rates = ([getattr(one, name) for one in words] for name in ("groups", "laws", "rates"))
        frame = layer_table(layers, self._steps[:count], rows, groups, laws, rates)
        found = np.array([one[run] for one in self._contributions[:count]]).reshape(count, 5, len(layers))
        add_contributions(frame, found, rows[:, 0])
        return frame

    def _squares(self, array: Tensor) -> np.ndarray:
        """Return the squared norm of each layer of each run, [R, layers]; small ones in float64, as in a single run."""
        norms = [
            torch.linalg.vector_norm(
                array[:, one.columns], dim=1, dtype=self._wide if one.shape.numel() <= SMALL else None
            )
            for one in self._slices
        ]
        return torch.stack([norm.to(self._wide) for norm in norms], dim=1).square().cpu().numpy()

    def _sums(self, array: Tensor) -> np.ndarray:
        return torch.stack([array[:, one.columns].sum(1) for one in self._slices], dim=1).cpu().numpy()

    def _shares(self) -> np.ndarray:
        """Return which share of its weights each layer has lost to decay: [R, layers]."""
        shares = np.zeros_like(self._lambda)
        optimizers = [trainer.optimizer for trainer in self._trainers]
        for number, group in enumerate(optimizers[0].param_groups):
            if way_of_decay(optimizers[0], group) == "decoupled":
                groups = [optimizer.param_groups[number] for optimizer in optimizers]
                share = np.array([float(one["lr"]) * float(one["weight_decay"]) for one in groups])
                shares[:, [one.group == number for one in self._slices]] = share[:, None]
        return shares

    def _contributed(self, old: Tensor) -> np.ndarray:
        """Return what the minibatch contributes, [R, 5, layers] (`clipedu.norms.minibatch`)."""
        self._stacked.give_state()
        found = []
        for run, (trainer, own) in enumerate(zip(self._trainers, self._layers, strict=True)):
            before = [self._stacked.part(old, one)[run] for one in self._slices]
            found.append(
                minibatches(trainer.optimizer, [layer.parameter for layer in own], before, wide(trainer.device))
            )
        return torch.stack(found).cpu().numpy()
