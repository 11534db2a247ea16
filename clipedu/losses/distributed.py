"""Gather the batch of all processes, for the loss of one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All-gather rows, with gradient.

    Backward returns the gradient of the process's own rows, times the number of processes.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        own = grad.chunk(dist.get_world_size())[dist.get_rank()]
        return own * dist.get_world_size()


def gather(image: Tensor, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gather the batch of all W processes, with gradient, by rank.

    Every process must hold the same number of rows. Each then computes the *same* loss of the *whole* batch, and
    updates the same memory in the same way, so that nothing else has to be exchanged. With one process the batch is
    returned as it is.

    The factor W: `DistributedDataParallel` averages gradients, i.e. divides their sum over the processes by W, while
    each process contributes the path through its own rows only. So the backward of this function multiplies by W, and
    the averaged gradient of the encoders is that of one process with the whole batch. (Parameters of the loss itself,
    such as a learned temperature, get the whole gradient in every process; averaging leaves it as it is.)

    Args:
        image, text: embeddings of this process, [B / W, D].
        index: their row numbers, int64 [B / W].

    Returns:
        The same three of the whole batch: [B, D], [B, D], [B].
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return image, text, index
    rows = [torch.empty_like(index) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, index.contiguous())
    return _Gather.apply(image), _Gather.apply(text), torch.cat(rows)
