"""`WeightAverage`: an exponential moving average of what is trained.

After each step every trained weight w of the model moves its average a by a <- d a + (1 - d) w, with the decay d (`ema_decay`); after
the first step a = w. The average of the last 1 / (1 - d) steps or so has less of the noise of single steps, as a smaller learning
rate would. It is PyTorch's (`torch.optim.swa_utils`). Training does not see it: weights are the same with and without it.

Running statistics of batch norm are averaged like the weights they belong to. All other buffers are copied: positions and
masks have no average. Encoders that are not trained are shared with the model.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clipedu.models import DualEncoder
from clipedu.utils.errors import ClipeduError
from clipedu.utils.tensor_files import tensors_misfit


class WeightAverage:
    """The moving average of a model's trained weights.

    Args:
        model: its encoders that are not frozen, projections and geometry are averaged.
        decay: d, above 0 and below 1.
    Raises:
        ClipeduError: an encoder cannot be copied.
    """

    def __init__(self, model: DualEncoder, decay: float):
        self._model, self._ema = model, get_ema_multi_avg_fn(decay)
        frozen = {f"{side}_encoder" for side in model.frozen}
        self._trained = nn.ModuleDict({name: part for name, part in model.named_children() if name not in frozen})
        try:
            self._average = AveragedModel(self._trained, multi_avg_fn=self._ema)
        except Exception as error:  # noqa: BLE001  some modules of timm cannot be copied
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise ClipeduError(
                f"ema_decay={decay:g} needs a copy of the model, which cannot be copied: {why}"
            ) from None
        self._average.requires_grad_(False)
        self._statistics = [
            statistic
            for module in self._average.module.modules()
            if isinstance(module, _NormBase)
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights as they are after a step."""
        before = [statistic.clone() for statistic in self._statistics]
        first = int(self._average.n_averaged) == 0
        self._average.update_parameters(self._trained)  # buffers are copied
        if before and not first:
            self._ema(before, self._statistics, self._average.n_averaged)
            torch._foreach_copy_(self._statistics, before)

    def model(self) -> DualEncoder:
        """Return the model with the averaged weights in place of its own.

        It is one to be scored, not trained: it shares what is frozen with the model.
        """
        averaged = copy.copy(self._model)
        vars(averaged)["_modules"] = {
            **dict(self._model.named_children()),
            **dict(self._average.module.named_children()),
        }
        return averaged

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged tensors by their names in the model."""
        return self._average.module.state_dict()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs besides `tensors`."""
        return {"steps": int(self._average.n_averaged)}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Go on from what `tensors` and `state` gave.

        Raises:
            ClipeduError: the tensors are of another model.
        """
        if fault := tensors_misfit(tensors, self.tensors()):
            raise ClipeduError(f"the averaged weights do not fit the run's model: {fault}")
        self._average.module.load_state_dict(tensors)
        self._average.n_averaged.fill_(state["steps"])
