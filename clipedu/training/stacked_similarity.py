"""Similarities of all pairs in R runs, with the gradient of a single run.

`x @ y.T` of one run has the gradients G y and G^T x. torch's product of stacks computes the second as (x^T G)^T, whose sums are in
another order. Here both are computed as in a single run, and in most losses its numbers are found again to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.geometry.numerics import unit

MAPS: dict[str, Callable[[Tensor], Tensor]] = {"cosine": unit, "euclidean-inner": lambda x: x}
"""Geometries whose similarity is an inner product of embeddings, and of which ones."""


class AllPairs(torch.autograd.Function):
    """Inner products of rows; `torch.vmap` can map it.

    x [..., A, D] and y [..., B, D] -> [..., A, B].
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return x @ y.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return gradient @ y, gradient.mT @ x

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        x, y = (
            rows.expand(info.batch_size, *rows.shape) if dim is None else rows.movedim(dim, 0)
            for rows, dim in zip((x, y), in_dims, strict=True)
        )
        return AllPairs.apply(x, y), 0


@contextmanager
def similarity_by_stacks(geometry: Geometry) -> Iterator[None]:
    """Let a geometry compute its similarities by `AllPairs` inside.

    Args:
        geometry: one of `MAPS`.
    """
    change = MAPS[geometry.name]

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        return AllPairs.apply(change(x), change(y))

    vars(geometry)["similarity"] = similarity
    try:
        yield
    finally:
        del vars(geometry)["similarity"]
