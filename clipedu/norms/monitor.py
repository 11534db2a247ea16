"""`NormMonitor`: how large weights, gradients and updates are, at every step of any optimizer.

    weight    ||w||        after the step
    gradient  ||g||        before clipping
    update    ||w' - w||   what the step really changed, weight decay included

Each is the Euclidean norm over all tensors of a part of the model: "all", and one for each word that the model's
top-level names start with ("image", "text" for a `DualEncoder`). The monitor hooks into `optimizer.step` and knows
nothing of its internals. It runs foreach kernels over the tensors and keeps small results on the device: numbers reach
the host when `latest` or `frame` is asked for. It holds one extra copy of the trained weights.

    with NormMonitor(model, optimizer) as monitor:
        ...                       # the usual loop
    monitor.frame()               # a tidy pandas frame: step, part, weight, gradient, update
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clipedu.registry import ClipeduError

QUANTITIES = ("weight", "gradient", "update")


class NormMonitor:
    """Norms per part and step, measured around an optimizer's step.

    Args:
        model: its parameters that require a gradient are watched, but for scalars (a curvature has a value, not a norm).
        optimizer: any torch optimizer; the monitor registers a hook before and one after its `step`.

    Attributes:
        parts: names of the parts, "all" first.
        first_step: number given to the first step seen; set it when a run is resumed.
    Raises:
        ClipeduError: no parameter requires a gradient.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and p.ndim > 0]
        if not named:
            raise ClipeduError(f"nothing to watch: no parameter of this {type(model).__name__} requires a gradient")
        part_of = [name.split(".")[0].split("_")[0] for name, _ in named]
        self.parts = ["all", *dict.fromkeys(part_of)]
        self.first_step = 0
        self._parameters = [p for _, p in named]
        device = self._parameters[0].device
        self._membership = torch.tensor(
            [[part in ("all", own) for own in part_of] for part in self.parts],
            dtype=torch.float64 if device.type != "mps" else torch.float32,
            device=device,
        )
        self._before: list[Tensor] = [torch.empty_like(p) for p in self._parameters]
        self._gradient: Tensor | None = None
        self._steps: list[Tensor] = []
        self._hooks = [optimizer.register_step_pre_hook(self._pre), optimizer.register_step_post_hook(self._post)]

    def __enter__(self) -> NormMonitor:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Take the hooks off the optimizer; what was measured stays."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def observe_gradients(self) -> None:
        """Measure the gradients now; call it before clipping. Without it they are measured when the step begins."""
        self._gradient = self._norms([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters])

    @property
    def latest(self) -> Tensor:
        """Norms of the last step, on the device: [3, parts] in the order of `QUANTITIES` and `parts`."""
        return self._steps[-1]

    def frame(self):
        """Everything measured, as a tidy pandas frame with columns step, part, weight, gradient, update."""
        import pandas as pd

        if not self._steps:
            return pd.DataFrame(columns=["step", "part", *QUANTITIES])
        values = torch.stack(self._steps).cpu()  # [steps, 3, parts]
        steps, _, parts = values.shape
        columns = {name: values[:, k].flatten().numpy() for k, name in enumerate(QUANTITIES)}
        return pd.DataFrame(
            {
                "step": torch.arange(self.first_step, self.first_step + steps).repeat_interleave(parts).numpy(),
                "part": self.parts * steps,
                **columns,
            }
        )

    @torch.no_grad()
    def _pre(self, *_) -> None:
        if self._gradient is None:
            self.observe_gradients()
        torch._foreach_copy_(self._before, self._parameters)

    @torch.no_grad()
    def _post(self, *_) -> None:
        torch._foreach_sub_(self._before, self._parameters)
        update, weight = self._norms(self._before), self._norms(self._parameters)
        self._steps.append(torch.stack([weight, self._gradient, update]))
        self._gradient = None

    def _norms(self, tensors: list[Tensor]) -> Tensor:
        """Norm of each part, [parts], from one norm a tensor."""
        each = torch.stack(torch._foreach_norm(tensors)).to(self._membership.dtype)
        return (self._membership @ each.square()).sqrt()
