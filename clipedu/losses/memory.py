r"""Running averages, kept as logarithms: the memory of SogCLR, iSogCLR and OnlineCLR.

The averages u are means of exp(h / tau). At tau = 0.01 that spans e^-200 to e^200, far beyond float32 (e^88), so what
is stored is log u, with -inf for "never seen", and the step u <- (1 - gamma) u + gamma g becomes

$$ \log u \leftarrow \mathrm{logaddexp}\big( \log(1-\gamma) + \log u,\; \log\gamma + \log g \big) $$

An average that starts at 0 would be gamma times g at its first step, and weights 1 / u would be 1 / gamma too big; so
the first step takes g itself.

Per-sample averages are buffers of shape [2, N]: row 0 for images as anchors, row 1 for texts, N rows of the data set.
Being buffers they follow `.to(device)` and are in `state_dict`, so a resumed run continues exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import SimilarityLoss
from clipedu.registry import ClipeduError


def log_average(log_u: Tensor, log_g: Tensor, gamma: float, first_is_g: bool = True) -> Tensor:
    """log of (1 - gamma) u + gamma g, elementwise. Where log u is -inf (never seen) it is log g if `first_is_g`."""
    old = math.log1p(-gamma) if gamma < 1 else -math.inf
    blended = torch.logaddexp(old + log_u, math.log(gamma) + log_g)
    return torch.where(log_u == -math.inf, log_g, blended) if first_is_g else blended


class PerSampleLoss(SimilarityLoss):
    """A similarity loss with running averages for every row of the data set, in buffers [2, num_samples].

    Args:
        num_samples: N, rows of the data set that `index` counts in: 0 <= index < N.
    """

    def __init__(self, temperature: float, num_samples: int | None, geometry: Geometry | None, scale: str):
        super().__init__(temperature, geometry, scale)
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
            name = type(self).__name__.lower()
            raise ClipeduError(
                f"{name} keeps averages for every row of the data set: pass num_samples=len(pairs); got {num_samples!r}"
            )
        self.num_samples = num_samples

    def per_sample(self, name: str, value: float) -> None:
        """Register buffer `name` [2, N], filled with `value`."""
        self.register_buffer(name, torch.full((2, self.num_samples), value))

    def prepare(self, image: Tensor, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prepared = super().prepare(image, text, index)
        unknown = index[(index < 0) | (index >= self.num_samples)]
        if len(unknown):
            allowed = f"num_samples={self.num_samples} allows 0 to {self.num_samples - 1}"
            raise ClipeduError(f"index has row {unknown[0].item()}, but {allowed}")
        return prepared

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Write the rows `index` of each buffer. If a row comes twice, the larger value stays, in every process."""
        for name, buffer in self.named_buffers(recurse=False):
            rows = memory[name]
            buffer.scatter_reduce_(1, index.expand(2, -1), rows.to(buffer.dtype), "amax", include_self=False)
