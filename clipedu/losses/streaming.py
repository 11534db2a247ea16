r"""Large batches: S has B x B cells, but no one has to hold them all at once.

At B = 16,384 the matrix S alone is 1 GiB, and softmaxes in both directions with their backward pass keep four such
matrices. Yet what a loss needs of S are sums over rows and sums over columns. So S is walked through in square tiles.
From each tile [C, C] the loss takes a few numbers a row and a column, which are joined with those of the tiles before,
and the tile is thrown away:

    logsumexp of a row:     r_i = log( exp(r_i so far) + sum_j exp(z_ij) )      over j in the tile
    logsumexp of a column:  c_j = log( exp(c_j so far) + sum_i exp(z_ij) )      over i in the tile

The backward pass computes each tile again, passes the gradient of its numbers through it, and throws it away again: one
more matrix product for O(B D + C^2) memory instead of O(B^2). Values and gradients are those of the plain form, up to
the order of the sums.

Each loss says in its own file, beside its formula, what it takes from a tile (`streamed`), and from which batch size on
(`stream_above`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clipedu.geometry import Geometry
from clipedu.losses.margins import without_own

STREAM_ABOVE = 4096  # rows of a batch: up to here S is small, and the plain form is faster
SIDE = {"cpu": 1024, "cuda": 4096}  # of a tile, at most; a GPU wants more work a call


class Part(NamedTuple):
    """Some rows of the batch: their numbers, and their embeddings [C, D]."""

    rows: slice
    image: Tensor
    text: Tensor


def by_tiles(
    tile: Callable[[Part, Part], tuple[Tensor | None, ...]],
    kinds: Sequence[str],
    image: Tensor,
    text: Tensor,
    learned: Iterable[Tensor | float],
    half: bool = False,
) -> tuple[Tensor, ...]:
    """What `tile(a, b)` says of one tile after the other, joined. Its rows are those of part a, its columns those of b.

    Args:
        kinds: of the tile's outputs. "rows" and "columns": logarithms [C], joined to the log of the sum, [B]. "own": [C]
            of the tiles on the diagonal, None of all others, joined to [B]. "sum": scalars, added.
        image, text: [B, D] each.
        learned: what a gradient has to reach besides: temperature, parameters of the geometry (floats are left out).
        half: only the diagonal and what is above it, for sums over a symmetric matrix.
    """
    parameters = [value for value in learned if isinstance(value, Tensor) and value.requires_grad]
    return _ByTiles.apply(tile, kinds, half, image, text, *parameters)


class _ByTiles(torch.autograd.Function):
    """Inputs are kept by reference, not by `save_for_backward`: a clamp in place, which changes no value, would trip it."""

    @staticmethod
    def forward(ctx, tile, kinds, half, image, text, *learned):
        ctx.tile, ctx.kinds, ctx.half, ctx.inputs = tile, kinds, half, (image, text, *learned)
        start = {"rows": -torch.inf, "columns": -torch.inf, "own": 0.0, "sum": 0.0}
        joined = [image.new_full(() if kind == "sum" else (len(image),), start[kind]) for kind in kinds]
        for a, b in _tiles(image, half):
            parts = tile(Part(a, image[a], text[a]), Part(b, image[b], text[b]))
            for kind, whole, part in zip(kinds, joined, parts, strict=True):
                if kind == "sum":
                    whole += part
                elif kind == "own" and part is not None:
                    whole[a] = part
                elif kind != "own":
                    place = whole[a if kind == "rows" else b]
                    torch.logaddexp(place, part, out=place)
        ctx.save_for_backward(*joined)
        return tuple(joined)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        image, text, *learned = ctx.inputs
        wanted = ctx.needs_input_grad[3:]
        total = [torch.zeros_like(value) if wants else None for value, wants in zip(ctx.inputs, wanted, strict=True)]
        for a, b in _tiles(image, ctx.half):
            with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
                leaves = [
                    side[rows].detach().requires_grad_(wants)
                    for rows in (a, b)
                    for side, wants in zip((image, text), wanted, strict=False)
                ]
                parts = ctx.tile(Part(a, *leaves[:2]), Part(b, *leaves[2:]))
                outputs = zip(ctx.kinds, parts, ctx.saved_tensors, gradients, strict=True)
                said = [(part, _share(kind, part, *rest, a, b)) for kind, part, *rest in outputs if part is not None]
                places = [None if whole is None else whole[rows] for rows in (a, b) for whole in total[:2]] + total[2:]
                asked = [pair for pair in zip([*leaves, *learned], places, strict=True) if pair[1] is not None]
                found = torch.autograd.grad(
                    [part for part, _ in said],
                    [source for source, _ in asked],
                    [share for _, share in said],
                    allow_unused=True,
                )
            for (_, place), gradient in zip(asked, found, strict=True):
                if gradient is not None:
                    place += gradient
        return None, None, None, *total


def _tiles(image: Tensor, half: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile: as equal as can be, and the same cuts in both directions."""
    size = len(image)
    count = -(-size // SIDE.get(image.device.type, SIDE["cpu"]))
    cuts = [size * k // count for k in range(count + 1)]
    parts = [slice(first, last) for first, last in zip(cuts[:-1], cuts[1:], strict=True)]
    return ((a, b) for a in parts for b in parts if not half or a.start <= b.start)


def _share(kind: str, part: Tensor, whole: Tensor, gradient: Tensor, a: slice, b: slice) -> Tensor:
    """The gradient of what one tile said, from the gradient of what all said together."""
    if kind == "sum":
        return gradient
    if kind == "own":
        return gradient[a]
    place = a if kind == "rows" else b
    return gradient[place] * torch.exp(part.detach() - whole[place])


def own_pairs(z: Tensor, a: Part, b: Part) -> Tensor | None:
    """The pairs that belong together, [C], of a tile z [C, C]; None off the diagonal, where there are none."""
    return z.diagonal() if a.rows == b.rows else None


def negatives(z: Tensor, a: Part, b: Part) -> Tensor:
    """A tile z [C, C] with its own pairs, if any, so far down that exp(z) is 0 there."""
    return without_own(z) if a.rows == b.rows else z


def negatives_by_tiles(geometry: Geometry, image: Tensor, text: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """`log_sum_negatives` of S / tau, [2, B], and the diagonal of S, [B]: by tiles."""

    def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:
        similarity = geometry.similarity(a.image, b.text)
        z = negatives(similarity / tau, a, b)
        return z.logsumexp(1), z.logsumexp(0), own_pairs(similarity, a, b)

    kinds = ("rows", "columns", "own")
    rows, columns, own = by_tiles(tile, kinds, image, text, (tau, *geometry.parameters()))
    return torch.stack([rows, columns]) - own / tau, own
