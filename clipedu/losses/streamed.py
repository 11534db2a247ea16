r"""Large batches: S has B x B cells, but no one has to hold them all at once.

At B = 16,384 the matrix S alone is 1 GiB, and softmaxes in both directions with their backward pass keep four such
matrices or more. Yet what a loss needs of S are sums over rows and sums over columns. So S is walked through in blocks of
rows. From each block [C, B] the loss takes what it needs, [C] and [B] numbers, and the block is thrown away:

    rows      are finished at once:       r_i = log sum_j exp(z_ij)                   over j in the block's row
    columns   are summed up bit by bit:   c_j = log (exp(c_j so far) + sum_i exp(z_ij))     over i in the block

The backward pass computes each block again, passes the gradient of the numbers through it, and throws it away again: one
more matrix product for O(C B) memory instead of O(B^2). Values and gradients are those of the plain form, up to the
order of the sums.

Each loss says in its own file, beside its formula, what it takes from a block (`streamed`), and from which batch size on
(`stream_above`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clipedu.geometry import Geometry
from clipedu.losses.margins import without_own

STREAM_ABOVE = 2048  # rows of a batch: up to here S is small, and the plain form is faster
CELLS = {"cpu": 2**22, "cuda": 2**25}  # of S in a block; a GPU wants longer calls


def by_rows(
    block: Callable[..., tuple[Tensor, ...]],
    kinds: Sequence[str],
    matrices: Sequence[Tensor],
    others: Iterable[Tensor | float],
) -> tuple[Tensor, ...]:
    """What `block(first, *rows)` says of one block of rows after the other, joined.

    Args:
        block: `rows` are the same C rows of all `matrices`, `first` the number of the first. The block's own pairs,
            (k, first + k), are `.diagonal(first)` of its part of S.
        kinds: of the block's outputs. "rows": [C], joined to [B]. "columns": [B] logarithms, joined to the log of the
            sum. "sum": scalars, added.
        matrices: [B, D] each.
        others: all that `block` uses besides, and that a gradient has to reach: embeddings, temperature, parameters of
            the geometry.
    """
    learned = [value for value in others if isinstance(value, Tensor) and value.requires_grad]
    return _ByRows.apply(block, kinds, len(matrices), *matrices, *learned)


class _ByRows(torch.autograd.Function):
    """Inputs are kept by reference, not by `save_for_backward`: a clamp in place, which changes no value, would trip it."""

    @staticmethod
    def forward(ctx, block, kinds, count, *inputs):
        ctx.block, ctx.kinds, ctx.matrices, ctx.others = block, kinds, inputs[:count], inputs[count:]
        size = len(inputs[0])
        joined: list[Tensor | None] = [None] * len(kinds)
        for rows in _blocks(inputs[0]):
            for k, part in enumerate(block(rows.start, *(matrix[rows] for matrix in ctx.matrices))):
                if joined[k] is None:  # all room is made before the second block: memory stays in one piece
                    joined[k] = part.new_empty(size) if kinds[k] == "rows" else part.clone()
                    if kinds[k] != "rows":
                        continue
                if kinds[k] == "rows":
                    joined[k][rows] = part
                elif kinds[k] == "columns":
                    torch.logaddexp(joined[k], part, out=joined[k])
                else:
                    joined[k] += part
        ctx.save_for_backward(*joined)
        return tuple(joined)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        wanted = ctx.needs_input_grad[3:]
        inputs = ctx.matrices + ctx.others
        total = [torch.zeros_like(value) if wants else None for value, wants in zip(inputs, wanted, strict=True)]
        count = len(ctx.matrices)
        for rows in _blocks(inputs[0]):
            with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
                leaves = [
                    matrix[rows].detach().requires_grad_(wants)
                    for matrix, wants in zip(ctx.matrices, wanted, strict=False)
                ]
                parts = ctx.block(rows.start, *leaves)
            incoming = [
                _share(kind, part, whole, gradient, rows)
                for kind, part, whole, gradient in zip(ctx.kinds, parts, ctx.saved_tensors, gradients, strict=True)
            ]
            sources = [value for value, wants in zip((*leaves, *ctx.others), wanted, strict=True) if wants]
            found = iter(torch.autograd.grad(parts, sources, incoming, allow_unused=True))
            for k, wants in enumerate(wanted):
                gradient = next(found) if wants else None
                if gradient is not None:
                    (total[k][rows] if k < count else total[k]).add_(gradient)
            del parts, gradient  # or this block would live on beside the next
        return None, None, None, *total


def _blocks(matrix: Tensor) -> Iterator[slice]:
    size = len(matrix)
    step = max(1, CELLS.get(matrix.device.type, CELLS["cpu"]) // size)
    return (slice(first, min(first + step, size)) for first in range(0, size, step))


def _share(kind: str, part: Tensor, whole: Tensor, gradient: Tensor, rows: slice) -> Tensor:
    """The gradient of what one block said, from the gradient of what all said together."""
    if kind == "rows":
        return gradient[rows]
    return gradient * torch.exp(part.detach() - whole) if kind == "columns" else gradient


def negatives_by_rows(geometry: Geometry, image: Tensor, text: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """`log_sum_negatives` and the diagonal of S, [2, B] and [B]: by rows."""

    def block(first: int, image_rows: Tensor) -> tuple[Tensor, ...]:
        similarity = geometry.similarity(image_rows, text)
        z = without_own(similarity / tau, first)
        return z.logsumexp(1), z.logsumexp(0), similarity.diagonal(first)

    others = (text, tau, *geometry.parameters())
    rows, columns, own = by_rows(block, ("rows", "columns", "rows"), [image], others)
    return torch.stack([rows, columns]) - own / tau, own
