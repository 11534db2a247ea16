r"""`NormMonitor`: what each step does to each layer's norm and angle.

A step takes a weight w to w'. Of w, decay takes the share s (the *shrink*, `clipedu.optim.shrinkage`); the rest of the change is
the optimizer's own update, lr u := (1 - s) w - w'. The squared norm then changes by three things,

    ||w'||^2 - ||w||^2 =  -2 (1 - s) <w, lr u>    alignment    the update points along the weight, or against it
                         + ||lr u||^2             injection    a sideways step leaves the circle: always > 0
                         - s (2 - s) ||w||^2      decay        always <= 0

which is an identity, whatever the optimizer. Where the three cancel on average the norm stands still: a *balance*. With coupled
decay s is 0, and what L2 does is a part of u.

`NormMonitor` hooks into `optimizer.step` and measures before and after:

    with NormMonitor(model, optimizer) as monitor:
        ...                       # the usual loop
    monitor.frame()               # one row a layer and recorded step: norms, angle, alignment, injection, decay, ...
    monitor.totals()              # one row a part of the model and step: weight, gradient, update

Optimizers that sum while they step (`clipedu.optim.step_sums`: adam, adamw and adamc on a CPU) are asked for the sums; around
the steps of others a copy of the trained weights is kept. Results stay on the device, and reach the host when they are
read (or every 256 steps), in one transfer. In `frame()`, with cos and angle of the whole tensor:

    weight ||w'||     gradient ||g|| before clipping     update ||w' - w||, decay included     cosine cos(w, u)
    angle between w and w', radians     relative_update ||lr u|| / ||w||     effective_lr lr sqrt((2 - alpha) / alpha)
    Lambda = 2 * (sum of the shrinks so far): how often decay alone would have divided ||w||^2 by e

The shrink of the optimizers of torch, timm and clipedu is known. Of any other it is measured in each recorded step, by
steps of its own code on copies with and without decay (`clipedu.optim.decay_probe`), which takes time and memory: a
larger `every` saves it. Column `law` says what was found: "decoupled", "coupled" (s = 0), "none", or "not known". Where it is not
known, s and all that needs it is nan: alignment, injection, decay, cosine, relative_update, and Lambda from there on.

effective_lr is the lr that would carry independent updates as far as these, which share their gradients; alpha is the weight
of the newest gradient, 1 - beta. A step that left every number of a layer as it was (no gradient; a loss scaler that
skipped it) has taken no share: its shrink is 0.
Sources: van Laarhoven 2017 (arXiv:1706.05350); Kosson et al. 2023 (arXiv:2305.17212); Chou 2025 (arXiv:2512.08217).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from clipedu.norms.layers import Layer, watched_layers
from clipedu.norms.measure import StepMeasure
from clipedu.norms.settings import GroupSettings
from clipedu.norms.snapshot import wide
from clipedu.norms.spectral import SpectralNorms
from clipedu.norms.table import QUANTITIES, add_contributions, layer_table
from clipedu.optim.param_groups import HEADS
from clipedu.utils.errors import ClipeduError
from clipedu.utils.wrappers import bare_name

if TYPE_CHECKING:
    import pandas

_KEPT_ON_DEVICE = 256  # steps


class NormMonitor:
    """Measure norms, and what changes them, around an optimizer's step.

    They are measured by layer and by part of the model.

    Args:
        model: its parameters that require a gradient now are watched, but for single numbers (`layers.py`).
        optimizer: any torch optimizer; the monitor registers a hook before and one after its `step`.
        every: `frame()` has the steps 0, every, 2 every, ...; `totals()` and Lambda count them all.
        spectral: also follow each layer's largest singular value (two products with each weight, at recorded steps).
        minibatch: also measure, at recorded steps, what each minibatch contributes (`minibatch.py`): columns contribution,
            drift, radial and active. That reads the optimizer's state, and takes about as long as five norms.
        heads: names of modules that are output layers, whose rows are of kind "head".
        parts: {beginning of a parameter's name: part}, as {"visual": "image", "transformer": "text"}; the longest that fits counts, and
            what fits none is part "other". None takes those that an adopted model brings, or else each name's first word.

    Attributes:
        layers: what is watched (`clipedu.norms.layers.Layer`), in the order of `frame()`.
        parts: names of the parts, "all" first.
        first_step: number given to the first step seen; set it when a run is resumed.
        latest_gradients: squared norms of the last step's gradients before clipping, [layers], on the device.
    Raises:
        ClipeduError: no parameter requires a gradient, `every` below 1, a head or a part that is not in the model.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every: int = 1,
        spectral: bool = False,
        minibatch: bool = False,
        heads: Sequence[str] = HEADS,
        parts: Mapping[str, str] | None = None,
    ):
        if every < 1:
            raise ClipeduError(f"every={every!r} must be at least 1: a row for each so many steps")
        self.layers: list[Layer] = watched_layers(model, heads, parts)
        self.parts = ["all", *dict.fromkeys(layer.part for layer in self.layers)]
        self.first_step, self.every = 0, every
        self._optimizer = optimizer
        self._parameters = [layer.parameter for layer in self.layers]
        self._measure = StepMeasure(optimizer, self._parameters, minibatch=minibatch)
        self._group_settings = GroupSettings(optimizer, self._parameters)
        self._device = self._measure.device
        self._spectral = SpectralNorms(self._parameters) if spectral else None
        member = [[part in ("all", layer.part) for layer in self.layers] for part in self.parts]
        self._xp: Any = np if self._measure.on_host else torch  # on the host numpy's calls are much shorter
        self._members = self._array(np.array(member).T)
        self._lambda = self._array(np.zeros(len(self.layers)))
        self.latest_gradients: Any = self._array(np.zeros(len(self.layers)))
        self._seen = self._depth = 0
        self._ending = False
        self._totals, self._rows, self._contributions = _Kept(), _Kept(), _Kept() if minibatch else None
        self._settings: list[tuple[int, list[str], list[str], np.ndarray]] = []
        self._hooks = [optimizer.register_step_pre_hook(self._pre), optimizer.register_step_post_hook(self._post)]

    def __enter__(self) -> NormMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off the optimizer; what was measured stays."""
        for hook in self._hooks:
            hook.remove()
        self._measure.close()

    def observe_gradients(self) -> None:
        """Measure the gradients now; call it before clipping.

        Without it they are measured when the step begins.
        """
        self._measure.observe_gradients()

    @property
    def _recorded(self) -> bool:
        """Whether the step has rows."""
        return (self.first_step + self._seen) % self.every == 0

    @property
    def latest(self) -> Tensor:
        """Norms of the last step, on the device.

        They are [3, parts] in the order of `QUANTITIES` and `parts`.
        """
        return torch.as_tensor(self._totals.last)

    def totals(self) -> pandas.DataFrame:
        """Return the norms of each part as a tidy frame.

        The columns are step, part, weight, gradient, update.
        """
        import pandas as pd

        values = self._totals.all((3, len(self.parts)))  # [steps, 3, parts]
        steps = np.arange(self.first_step, self.first_step + len(values))
        columns = {name: values[:, k].reshape(-1) for k, name in enumerate(QUANTITIES)}
        return pd.DataFrame({"step": steps.repeat(len(self.parts)), "part": self.parts * len(values), **columns})

    def frame(self) -> pandas.DataFrame:
        """Return everything about each layer as a tidy frame.

        The columns are `COLUMNS`, and those switched on besides.
        """
        rows = self._rows.all((8 if self._spectral else 7, len(self.layers)))
        seen, groups, laws, settings = zip(*self._settings, strict=True) if self._settings else ((),) * 4
        frame = layer_table(self.layers, [self.first_step + n for n in seen], rows, groups, laws, settings)
        if self._contributions is not None:
            add_contributions(frame, self._contributions.all((5, len(self.layers))), rows[:, 0])
        return frame

    def take(self) -> pandas.DataFrame:
        """Return the rows of `frame` since the last call, and forget them.

        A long run thus writes each row once, and holds few.
        """
        frame = self.frame()
        self._rows, self._settings = _Kept(), []
        self._contributions = None if self._contributions is None else _Kept()
        return frame

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs besides `first_step`.

        It is Lambda of each layer by name, as plain values.
        """
        names = (layer.name for layer in self.layers)
        values = (None if math.isnan(value) else value for value in self._lambda.tolist())  # not known
        return {"Lambda": dict(zip(names, values, strict=True))}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave; layers missing there begin at 0."""
        before = {bare_name(name): math.nan if v is None else v for name, v in state["Lambda"].items()}
        self._lambda = self._array(np.array([before.get(layer.name, 0.0) for layer in self.layers]))

    def _array(self, values: Any) -> Any:
        """Return numbers as the monitor computes with them: an array on the host, else a tensor on the device."""
        if self._xp is np:
            return np.asarray(values, np.float64)
        return torch.as_tensor(values, dtype=wide(self._device)).to(self._device, non_blocking=True)

    def _pre(self, *_: object) -> None:
        if self._ending:  # fewer ends than beginnings: an earlier step was broken off by an error
            self._depth = 0
        self._depth, self._ending = self._depth + 1, False
        if self._depth > 1:  # an optimizer whose `step` calls that of its parent runs the hooks of both
            return
        hooks = self._optimizer._optimizer_step_post_hooks  # torch has no public way to ask
        self._measure.before(whole=self._recorded, alone=len(hooks) == 1)
        self._group_settings.before(self._recorded)

    @torch.no_grad()
    def _post(self, *_: object) -> None:
        self._depth, self._ending = self._depth - 1, True
        if self._depth > 0:
            return
        recorded = self._recorded
        settings = self._group_settings.read()
        sums = self._measure.after(settings.laws, whole=recorded)
        xp = self._xp
        with np.errstate(all="ignore"):
            shares = xp.where(sums.change > 0, self._array(settings.shares), 0.0)
            self._lambda = self._lambda + 2 * shares
            self._totals.add((xp.stack([sums.after, sums.gradient, sums.change]) @ self._members) ** 0.5)
        if recorded:
            assert sums.before is not None and sums.along is not None
            row = [sums.before, sums.along, sums.change, sums.after, sums.gradient, shares, self._lambda]
            if self._spectral:
                row.append(self._array(self._spectral.measure()))
            self._rows.add(xp.stack(row))
            self._settings.append((self._seen, settings.groups, settings.laws, settings.rates))
            if self._contributions is not None and sums.minibatch is not None:
                self._contributions.add(sums.minibatch)
        self.latest_gradients = sums.gradient
        self._seen += 1


class _Kept:
    """Small tensors, one a step, kept on the device; on the host arrays.

    They are copied to the host when they are read, or when there are many of them.
    """

    last: Any

    def __init__(self) -> None:
        self._on_device: list[Any] = []
        self._on_host: list[np.ndarray] = []

    def add(self, value: Any) -> None:
        self.last = value
        self._on_device.append(value)
        if len(self._on_device) == _KEPT_ON_DEVICE:
            self._flush()

    def all(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return all values: [steps, *shape], float64."""
        self._flush()
        return np.concatenate([np.empty((0, *shape)), *self._on_host])

    def _flush(self) -> None:
        if self._on_device:
            if isinstance(self._on_device[0], Tensor):
                self._on_host.append(torch.stack(self._on_device).cpu().double().numpy())
            else:
                self._on_host.append(np.stack(self._on_device))
            self._on_device = []
