"""Where lr, weight decay and schedule say that norms should be.

Two numbers for each layer that is decayed (`optimizer_steady_state.py` has the theory):

    balance    where ||w|| would settle at the peak of the lr, if the run went on there for long enough
    end        where the recipe ends: the schedule is followed step by step, from the norm at the start

`end` needs to know how many steps there were. It also needs the norm at the start, of whose square the share
prod (1 - s_t)^2 is left, s_t the share that decay takes in step t. Where less than 1 % is left the start does not matter.

Both are of layers whose contributions do not depend on the weight: of those that a normalisation follows. Others have a length that
the loss wants, and an output layer has no balance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clipedu.norms.equilibrium import predicted_norms
from clipedu.norms.layers import watched_layers
from clipedu.norms.optimizer_steady_state import SteadyState, steady_state
from clipedu.optim import build_optimizer, learning_rate
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.shrinkage import shrink
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import pandas

FORGOTTEN = 0.01  # share of the start's squared norm, below which the start does not matter
NOT_DECAYED = "not decayed"
TABLE = "a table: how many of its rows ever got a gradient is not known, so this is the most that it can be"
_GRID = 129  # learning rates at which the shrink is asked for; between them it is interpolated


@dataclass(frozen=True)
class TrainingRecipe:
    """How a model was trained, as far as its norms depend on it.

    Attributes:
        optimizer: one of `clipedu.optim.OPTIMIZERS`.
        lr: of the peak.
        weight_decay: lambda at the peak.
        options: further arguments of `build_optimizer`.
        rates: lr of each step, [steps]; None where the steps are not known.
        schedule: how lr went, in words.
        lr_scales: factor of lr by parameter, of `tower_scales`; 1 for those that are missing.
    """

    optimizer: str
    lr: float
    weight_decay: float
    options: Mapping[str, Any] = field(default_factory=dict)
    rates: np.ndarray | None = None
    schedule: str = "unknown"
    lr_scales: Mapping[str, float] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The recipe in one line."""
        more = "".join(f", {key} {value}" for key, value in self.options.items())
        more += ", lr by tower or layer" if self.lr_scales else ""
        steps = (
            "a number of steps that is not known"
            if self.rates is None
            else f"{len(self.rates):,} steps, schedule {self.schedule}"
        )
        return f"{self.optimizer}, peak lr {self.lr:g}, weight decay {self.weight_decay:g}{more}, {steps}"


def scheduled_rates(steps: int, lr: float, *, schedule: str = "cosine", warmup: float = 0.0) -> np.ndarray:
    """Return the lr of each step: [steps].

    Args:
        steps: of the run.
        lr: of the peak.
        schedule: one of `clipedu.optim.schedule.SCHEDULES`.
        warmup: share of the steps in which lr rises, in [0, 1].
    Raises:
        ClipeduError: an unknown schedule.
    """
    rising = round(warmup * steps)
    shared: dict[str, Any] = {"peak": lr, "total": steps, "warmup": rising, "schedule": schedule}
    return np.array([learning_rate(step, **shared) for step in range(steps)])


def expected_norms(
    model: nn.Module,
    recipe: TrainingRecipe,
    *,
    start: Mapping[str, float] | None = None,
    measured: pandas.DataFrame | None = None,
) -> pandas.DataFrame:
    """Return where a recipe says that the norms of a model should be.

    Args:
        model: its parameters that require a gradient are those that were trained.
        recipe: how.
        start: ||w|| before training, by layer; a layer that is missing began at a length that is not known.
        measured: rows of `NormMonitor.frame()`, as a run keeps them: of embeddings the part that gets gradients is taken from there, and for SGD
            the size of the gradients.
    Returns:
        a row a layer (`watched_layers`), by columns layer, group (of the optimizer), balance, end (NaN where they are not known), left (share of
        the start's squared norm that is left; NaN without steps), turns (Lambda = 2 sum of the shrinks: how often the gap has fallen by e), rotation (radians a step at
        the balance) and why (for what reason there is no balance, or "").
    Raises:
        ClipeduError: an unknown optimizer, or values that it does not take.
    """
    import pandas

    settings: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "lr_scales": recipe.lr_scales}
    optimizer = build_optimizer(model, recipe.optimizer, **settings, **dict(recipe.options))
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    rows_of = {} if measured is None or not len(measured) else dict(tuple(measured.groupby("layer", sort=False)))
    tables = {module.weight for module in model.modules() if isinstance(module, nn.Embedding)}
    sgd = type(optimizer).__name__ in ("SGD", "SGDW")  # its updates follow the gradients' size
    ends = None if recipe.rates is None or sgd else _Ends(optimizer, recipe.rates)
    found = []
    for layer in watched_layers(model):
        group, known = groups[layer.parameter], rows_of.get(layer.name)
        row: dict[str, Any] = {"layer": layer.name, "group": group.get("name", ""), "why": ""}
        try:
            state = steady_state(optimizer, layer.parameter, measured=known if sgd else None)
        except ClipeduError as error:
            found.append(row | {"why": str(error)})
            continue
        if not math.isfinite(state.norm):
            found.append(row | {"why": NOT_DECAYED})
            continue
        share = 1.0
        if layer.parameter in tables:
            if known is None or not known["active"].notna().any():
                row["why"] = TABLE
            else:
                share = float(known["active"].iloc[-1]) / layer.parameter.numel()
        row |= {"balance": state.norm * math.sqrt(share), "rotation": state.rotation}
        if ends is not None:
            row |= ends.of(group, layer.parameter, state, share, None if start is None else start.get(layer.name))
        found.append(row)
    columns = ["layer", "group", "balance", "end", "left", "turns", "rotation", "why"]
    return pandas.DataFrame(found).reindex(columns=columns)


class _Ends:
    """Norms at the end of a schedule; what the layers of a group share is computed once.

    ||w||^2 at the end is left * start^2 + made * TUC: the recursion is linear in both.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rates: np.ndarray):
        self.optimizer, self.rates = optimizer, rates
        self._taken: dict[int, np.ndarray] = {}
        self._made: dict[tuple[int, float], float] = {}

    def of(
        self, group: dict[str, Any], parameter: Tensor, state: SteadyState, share: float, start: float | None
    ) -> dict[str, float]:
        """Return what is left of the start, and the norm at the end where that is known."""
        key = id(group)
        rates = self.rates * group.get("lr_scale", 1.0)
        if key not in self._taken:
            self._taken[key] = shrinks(self.optimizer, group, parameter, rates)
        taken, fade = self._taken[key], round(state.fade, 9)
        if (key, fade) not in self._made:
            self._made[key, fade] = float(predicted_norms(0.0, rates.tolist(), taken.tolist(), 1.0, fade=fade)[-1] ** 2)
        left = float(np.exp(2 * np.log1p(-taken).sum()))
        row = {"left": left, "turns": float(2 * taken.sum())}
        if start is None and left > FORGOTTEN:
            return row
        return row | {"end": math.sqrt(left * (start or 0.0) ** 2 + self._made[key, fade] * state.tuc * share)}


def shrinks(
    optimizer: torch.optim.Optimizer,
    group: dict[str, Any],
    parameter: Tensor,
    rates: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Return the share that decay takes in steps of given learning rates.

    Args:
        optimizer: at its peak; it stays as it is.
        group: of the parameter.
        parameter: any of the group.
        rates: lr of each step, none above the group's.
    Returns:
        [steps], interpolated between 129 learning rates.
    """
    peak = float(group["lr"])
    grid = np.linspace(0, peak, _GRID)
    grid[0] = 1e-9 * peak  # a law may jump at 0, where nothing is taken
    values = []
    try:
        for lr in grid.tolist():
            group["lr"] = lr
            if "weight_decay_max" in group:
                full = group["weight_decay_max"]
                values.append(lr * coefficient(group["decay_law"], lr, lr_max=peak, weight_decay=full))
            else:
                values.append(shrink(optimizer, group, parameter))
    finally:
        group["lr"] = peak
    rates = np.asarray(rates, dtype=float)
    return np.where(rates > 0, np.interp(rates, grid, values), 0.0)
