"""The largest singular value of each weight, by power iteration.

One iteration a time follows it through training.

A power iteration v <- W^T W v / ||W^T W v|| turns any vector towards the right singular vector of the largest singular value,
sigma = ||W v||. Weights change little from step to step, so the vector of the last time is a good start, and one
iteration is enough to follow; the first time there are a few more. What comes out is never above the true value (but for
rounding), and close below it: two singular values that nearly agree slow the vector down, but the length of W v hardly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FIRST_ITERATIONS = 30


class SpectralNorms:
    """Follow the largest singular value of each parameter.

    Args:
        parameters: a kernel [out, in, k, k] counts as [out, in k^2], a vector as its length.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        self._parameters = parameters
        self._right: list[Tensor] | None = None

    @torch.no_grad()
    def measure(self) -> Tensor:
        """Iterate once and return the values, [parameters] on the device.

        The first time there are `FIRST_ITERATIONS` iterations.
        """
        matrices = [_matrix(p) for p in self._parameters]
        iterations = 1
        if self._right is None:  # a generator of its own: measuring must not change what is drawn elsewhere
            generator = torch.Generator().manual_seed(0)
            self._right = [_unit(torch.randn(m.shape[1], generator=generator).to(m)) for m in matrices]
            iterations = FIRST_ITERATIONS
        for _ in range(iterations):
            self._right = [_unit((m @ v) @ m, otherwise=v) for m, v in zip(matrices, self._right, strict=True)]
        return torch.stack([torch.linalg.vector_norm(m @ v) for m, v in zip(matrices, self._right, strict=True)])


def _matrix(parameter: Tensor) -> Tensor:
    matrix = parameter.detach().reshape(len(parameter) if parameter.ndim > 1 else 1, -1)
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


def _unit(v: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """Return v at length 1, or `otherwise` where it has no direction.

    A weight that is 0 now may grow, and needs a vector then.
    """
    length = torch.linalg.vector_norm(v)
    unit = v / length.clamp_min(torch.finfo(v.dtype).tiny)
    return unit if otherwise is None else torch.where(length > 0, unit, otherwise)
