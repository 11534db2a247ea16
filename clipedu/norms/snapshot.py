"""`Snapshot`: what a step did to many tensors, as four sums each.

With w the weight before a step, w' after, and d = w' - w:

    A = ||w||^2      B = <w, d>      D = ||d||^2      A' = ||w'||^2 = A + 2 B + D

All that the monitor reports follows from these and from the shrink, on the host, later. They take a copy of the weights and
two passes over memory, and memory traffic is the cost, not arithmetic. So on a CPU large tensors go block by block: while a
block is in the cache, everything is done with it, and d is never written back. Small ones, and all on a GPU, are done many at
once by foreach kernels, and B is (A' - A - D) / 2.

Precision. A float32 sum of two million squares, all positive, drifts by some 1e-5. Here rows of 1,024 numbers are
summed in float32 and the rows in float64 (by foreach all in float64, on mps all in float32), which is good to 1e-7. What
no sum can repair: float32 weights are rounded to 6e-8 of themselves at each step, 1 - s to a multiple of 6e-8, and so a
cosine is off by some 1e-7 / (||d|| / ||w||): nothing for a relative update of 1e-3, a tenth for 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ROW, _BLOCK = 2**10, 2**20  # numbers: of a sum in float32; of a block that fits into a cache
_SMALL = 2**13  # numbers: below, calls cost more than memory


def wide(device: torch.device) -> torch.dtype:
    """Return the dtype of sums: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


@torch.no_grad()
def squares(tensors: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """Return the squared norm of each tensor, [n] on `device`; 0 for None.

    The dtype is `wide`. The host does not wait.
    """
    many = [t for t in tensors if t is not None and not _by_blocks(t)]
    norms = iter(_foreach_squares(many, device))
    zero = torch.zeros((), dtype=wide(device), device=device)
    return torch.stack(
        [zero if t is None else zero + _square(_flat(t)) if _by_blocks(t) else next(norms) for t in tensors]
    )


class Snapshot:
    """A copy of parameters, taken before a step, compared after it.

    Args:
        parameters: all on one device. Their shapes stay as they are; their values are read, never written.
    Attributes:
        copies: the weights of `take`, [n] each in the order of their memory, until `compare` uses them up.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        self._parameters = parameters
        self.device = parameters[0].device
        self.copies = [torch.empty_like(_flat(p)) for p in parameters]
        self._scratch: dict[torch.dtype, Tensor] = {}
        self._large = [k for k, p in enumerate(parameters) if _by_blocks(p)]
        self._rest = [k for k, p in enumerate(parameters) if not _by_blocks(p)]

    @torch.no_grad()
    def take(self) -> None:
        """Copy the weights as they are now."""
        for k in self._large:
            self.copies[k].copy_(_flat(self._parameters[k]))
        if self._rest:
            torch._foreach_copy_([self.copies[k] for k in self._rest], [_flat(self._parameters[k]) for k in self._rest])

    @torch.no_grad()
    def compare(self, whole: bool = True) -> tuple[Tensor, ...]:
        """Return the sums of the step since `take`: A', D, and if `whole` A and B.

        They are [parameters] each, on the device, in `wide`.

        The copy is used up.
        """
        if not self._large:
            return self._foreach_sums(whole).unbind()
        sums = torch.empty(4 if whole else 2, len(self.copies), dtype=torch.float64)
        if self._rest:
            sums[:, self._rest] = self._foreach_sums(whole)
        blocks = [self._block_sums(self.copies[k], _flat(self._parameters[k]), whole) for k in self._large]
        sums[:, self._large] = torch.tensor(blocks, dtype=torch.float64).T
        return sums.unbind()

    def _foreach_sums(self, whole: bool) -> Tensor:
        """Compute the sums of all tensors but the large ones, at once."""
        old = [_at_least_float32(self.copies[k]) for k in self._rest]
        new = [_at_least_float32(_flat(self._parameters[k])) for k in self._rest]
        after = _foreach_squares(new, self.device)
        before = _foreach_squares(old, self.device) if whole else after
        torch._foreach_sub_(old, new)  # -d
        change = _foreach_squares(old, self.device)
        if not whole:
            return torch.stack([after, change])
        along = (after - before - change) / 2
        if along.dtype is torch.float32:  # too few digits for a difference
            along = -torch.stack([n @ d for n, d in zip(new, old, strict=True)]) - change
        return torch.stack([after, change, before, along])

    def _block_sums(self, before: Tensor, after: Tensor, whole: bool) -> tuple[float, ...]:
        """Compute the sums of one large tensor [n], block by block."""
        a = b = d = a_after = 0.0
        for old, new in zip(before.split(_BLOCK), after.split(_BLOCK), strict=True):
            old, new = _at_least_float32(old), _at_least_float32(new)
            change = torch.sub(new, old, out=self._scratch_like(new))
            a_after += _square(new)
            d += _square(change)
            if whole:
                a += _square(old)
                b += torch.dot(old, change).item()
        return (a_after, d, a, b) if whole else (a_after, d)

    def _scratch_like(self, like: Tensor) -> Tensor:
        if like.dtype not in self._scratch:
            self._scratch[like.dtype] = torch.empty(_BLOCK, dtype=like.dtype)
        return self._scratch[like.dtype][: len(like)]


def _by_blocks(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() > _SMALL


def _foreach_squares(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Return the squared norm of each tensor, [n], with foreach kernels.

    One kernel computes many where there is one; each sum is `wide`.
    """
    if not tensors:
        return torch.empty(0, dtype=wide(device), device=device)
    return torch.stack(torch._foreach_norm(tensors, 2, wide(device))).square()


def _flat(tensor: Tensor) -> Tensor:
    """Return all numbers of a tensor as [n].

    They are in the order of its memory where that is possible: then it is no copy.
    """
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1)
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True)).reshape(-1)


def _square(x: Tensor) -> float:
    """Sum of squares of a large [n]."""
    x = _at_least_float32(x)
    whole = len(x) // _ROW * _ROW
    rows = torch.linalg.vector_norm(x[:whole].view(-1, _ROW), dim=1).double()
    rest = torch.linalg.vector_norm(x[whole:]).item() if whole < len(x) else 0.0
    return torch.dot(rows, rows).item() + rest * rest


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
