r"""Running averages, kept as logarithms: memory of the *CLR losses.

SogCLR and iSogCLR keep them for every row of the data set, OnlineCLR keeps two numbers.

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
from typing import Any

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import SimilarityLoss
from clipedu.utils.checks import checked_choice, checked_number
from clipedu.utils.errors import ClipeduError


def log_average(log_u: Tensor, log_g: Tensor, gamma: float | Tensor, first_is_g: bool = True) -> Tensor:
    """Return the log of (1 - gamma) u + gamma g, elementwise.

    >>> u, g = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 3.0])
    >>> log_average(u.log(), g.log(), gamma=0.5).exp()
    tensor([2., 3.])

    Args:
        log_u: logs of the averages so far, of any shape; -inf = never seen.
        log_g: logs of the newest values, of the same shape.
        gamma: weight of the newest value, in (0, 1]; a scalar tensor where it is another in each of several runs.
        first_is_g: where nothing was seen yet the average is g, instead of gamma g.
    """
    old: float | Tensor
    new: float | Tensor
    if isinstance(gamma, Tensor):
        old, new = torch.log1p(-gamma), torch.log(gamma)
    else:
        old, new = math.log1p(-gamma) if gamma < 1 else -math.inf, math.log(gamma)
    blended = torch.logaddexp(old + log_u, new + log_g)
    return torch.where(log_u == -math.inf, log_g, blended) if first_is_g else blended


def zero_with_slope(tau: Tensor, slope: Tensor) -> Tensor:
    """Return a term of value 0 whose gradient in `tau` is `slope`.

    It is for a surrogate loss that lacks that gradient.
    """
    return slope.detach() * (tau - tau.detach())


def gamma_at(progress: float, gamma: float, schedule: str) -> float:
    """Return gamma, the weight of the newest batch, at this progress.

    "constant" is gamma. "cosine" falls from 1 (no memory, while the model still changes fast) to gamma over the first
    half of the training and stays there (FastCLIP, arXiv:2407.01445, whose code changes it once an epoch).

    >>> [round(gamma_at(progress, 0.2, "cosine"), 3) for progress in (0, 0.25, 0.5, 1)]
    [1.0, 0.6, 0.2, 0.2]

    Args:
        progress: share of the training done, 0 to 1.
        gamma: where the schedule ends, in (0, 1].
        schedule: "constant" or "cosine".
    """
    if schedule == "constant" or progress >= 0.5:
        return gamma
    return gamma + (1 - gamma) * (1 + math.cos(2 * math.pi * progress)) / 2


class MemoryLoss(SimilarityLoss):
    """A similarity loss with running averages.

    Args:
        temperature, geometry, scale, learn_temperature: see `SimilarityLoss`.
        gamma: weight of the newest batch, in (0, 1]; where the schedule ends. May be set between steps.
        gamma_schedule: "constant", or "cosine": from 1 to gamma over the first half of the training (see `gamma_at`).
    """

    def __init__(
        self,
        temperature: float,
        geometry: Geometry | None,
        scale: str,
        gamma: float,
        gamma_schedule: str,
        learn_temperature: bool = False,
    ):
        super().__init__(temperature, geometry, scale, learn_temperature)
        self.gamma = checked_number("gamma", gamma, above=0, at_most=1)
        self.gamma_schedule = checked_choice("gamma_schedule", gamma_schedule, ("constant", "cosine"))

    @property
    def current_gamma(self) -> float:
        """gamma at this point of the training."""
        return gamma_at(self.progress, self.gamma, self.gamma_schedule)

    def watched(self) -> dict[str, Tensor]:
        watched = super().watched()
        if self.gamma_schedule != "constant":
            watched["gamma"] = next(self.buffers()).new_zeros(()) + self.current_gamma
        return watched


class PerSampleLoss(MemoryLoss):
    """A loss with running averages for every row of the data set.

    They are kept in buffers [2, num_samples].

    Args:
        *args: those of `MemoryLoss`.
        num_samples: N, rows of the data set that `index` counts in: 0 <= index < N.

    Raises:
        ClipeduError: a missing or impossible `num_samples`.
    """

    def __init__(self, *args: Any, num_samples: int | None):
        super().__init__(*args)
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
        """Check a batch and its row numbers, and bring it to one dtype.

        Args and Returns as in `Loss.prepare`.

        Raises:
            ClipeduError: as there, and for a row number outside 0 to `num_samples` - 1.
        """
        prepared = super().prepare(image, text, index)
        unknown = index[(index < 0) | (index >= self.num_samples)]
        if len(unknown):
            allowed = f"num_samples={self.num_samples} allows 0 to {self.num_samples - 1}"
            raise ClipeduError(f"index has row {unknown[0].item()}, but {allowed}")
        return prepared

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Write the rows `index` of each buffer.

        Of a row that comes twice the larger value is kept, in every process.
        """
        for name, buffer in self.named_buffers(recurse=False):
            rows = memory[name]
            buffer.scatter_reduce_(1, index.expand(2, -1), rows.to(buffer.dtype), "amax", include_self=False)
