r"""Large batches: losses computed from tiles of S, never from the whole.

At B = 16,384 the matrix S alone is 1 GiB, and softmaxes in both directions with their backward pass keep four such
matrices. Yet what a loss needs of S are sums over rows and sums over columns. So S is computed in square tiles. Each
tile [C, C] is reduced to a few numbers per row and column, which are joined with those of the tiles before, and is
discarded:

    logsumexp of a row:     r_i = log( exp(r_i so far) + sum_j exp(z_ij) )      over j in the tile
    logsumexp of a column:  c_j = log( exp(c_j so far) + sum_i exp(z_ij) )      over i in the tile

The backward pass computes each tile again, passes the gradient of its numbers through it, and discards it again: one
more matrix product for O(B D + C^2) memory instead of O(B^2). Values and gradients are those of the plain form, up to
the order of the sums.

Each loss has in its own file, beside its formula, the reduction of a tile (`streamed`), and the batch size above which
it is used (`stream_above`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clipedu.geometry import Geometry
from clipedu.losses.margins import without_positives

STREAM_ABOVE = 4096  # rows of a batch: up to here S is small, and the plain form is faster
SIDE = {"cpu": 1024, "cuda": 4096}  # rows of a tile, at most; a GPU needs more work per call


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
    """Reduce S tile by tile and join the results, with gradient.

    Args:
        tile: function of two parts of the batch, (a, b), that reduces their tile: rows of a, columns of b.
        kinds: of the tile's outputs. "rows" and "columns": logarithms [C], joined to the log of the sum, [B].
            "positives": [C] of the tiles on the diagonal, None of all others, joined to [B]. "sum": scalars, added.
        image, text: [B, D] each.
        learned: what else needs a gradient: temperature, parameters of the geometry (floats are left out).
        half: only the diagonal and what is above it, for sums over a symmetric matrix.

    Returns:
        One tensor for each of `kinds`.
    """
    parameters = [value for value in learned if isinstance(value, Tensor) and value.requires_grad]
    return _ByTiles.apply(tile, kinds, half, image, text, *parameters)


class _ByTiles(torch.autograd.Function):
    """Tiles with gradient.

    Inputs are kept by reference: `save_for_backward` would refuse them after a clamp in place, even one that changes
    no value.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tile: Callable[[Part, Part], tuple[Tensor | None, ...]],
        kinds: Sequence[str],
        half: bool,
        image: Tensor,
        text: Tensor,
        *learned: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.tile, ctx.kinds, ctx.half, ctx.inputs = tile, kinds, half, (image, text, *learned)
        start = {"rows": -torch.inf, "columns": -torch.inf, "positives": 0.0, "sum": 0.0}
        joined = [image.new_full(() if kind == "sum" else (len(image),), start[kind]) for kind in kinds]
        for a, b in _tiles(image, half):
            parts = tile(Part(a, image[a], text[a]), Part(b, image[b], text[b]))
            for kind, whole, part in zip(kinds, joined, parts, strict=True):
                if part is None:  # no positives off the diagonal
                    continue
                if kind == "sum":
                    whole += part
                elif kind == "positives":
                    whole[a] = part
                else:
                    place = whole[a if kind == "rows" else b]
                    torch.logaddexp(place, part, out=place)
        ctx.save_for_backward(*joined)
        return tuple(joined)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, text, *learned = ctx.inputs
        wanted = ctx.needs_input_grad[3:]
        total = [torch.zeros_like(value) if wants else None for value, wants in zip(ctx.inputs, wanted, strict=True)]
        for a, b in _tiles(image, ctx.half):
            with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
                leaves = [
                    side[rows].detach().requires_grad_(wants)
                    for rows in (a, b)
                    for side, wants in zip((image, text), wanted[:2], strict=True)
                ]
                parts = ctx.tile(Part(a, *leaves[:2]), Part(b, *leaves[2:]))
                joined = zip(ctx.kinds, parts, ctx.saved_tensors, gradients, strict=True)
                outputs = [
                    (part, _share(kind, part, whole, gradient, a, b))
                    for kind, part, whole, gradient in joined
                    if part is not None
                ]
                places = [None if whole is None else whole[rows] for rows in (a, b) for whole in total[:2]] + total[2:]
                sources = zip([*leaves, *learned], places, strict=True)
                inputs = [(source, place) for source, place in sources if place is not None]
                found = torch.autograd.grad(
                    [part for part, _ in outputs],
                    [source for source, _ in inputs],
                    [share for _, share in outputs],
                    allow_unused=True,
                )
            for (_, place), gradient in zip(inputs, found, strict=True):
                if gradient is not None:
                    place += gradient
        return None, None, None, *total


def _tiles(image: Tensor, half: bool) -> Iterator[tuple[slice, slice]]:
    """Cut S into tiles of rows and columns, as equal as possible.

    The cuts are the same in both directions.
    """
    size = len(image)
    count = -(-size // SIDE.get(image.device.type, SIDE["cpu"]))
    cuts = [size * k // count for k in range(count + 1)]
    parts = [slice(first, last) for first, last in zip(cuts[:-1], cuts[1:], strict=True)]
    return ((a, b) for a in parts for b in parts if not half or a.start <= b.start)


def _share(kind: str, part: Tensor, whole: Tensor, gradient: Tensor, a: slice, b: slice) -> Tensor:
    """Return the gradient of one tile's output, from that of the joined one."""
    if kind == "sum":
        return gradient
    if kind == "positives":
        return gradient[a]
    place = a if kind == "rows" else b
    return gradient[place] * torch.exp(part.detach() - whole[place])


def tile_positives(z: Tensor, a: Part, b: Part) -> Tensor | None:
    """Return the positives of a tile, its diagonal; None if it has none.

    Args:
        z: the tile, [C, C].
        a, b: the parts of the batch that are its rows and its columns.
    """
    return z.diagonal() if a.rows == b.rows else None


def tile_negatives(z: Tensor, a: Part, b: Part) -> Tensor:
    """Replace the positives of a tile, if any, so that exp(z) is 0 there.

    Args:
        z: the tile, [C, C].
        a, b: the parts of the batch that are its rows and its columns.
    """
    return without_positives(z) if a.rows == b.rows else z


def negatives_by_tiles(geometry: Geometry, image: Tensor, text: Tensor, tau: float | Tensor) -> tuple[Tensor, Tensor]:
    """Compute `log_sum_negatives` of S / tau and the positives, by tiles.

    The results are [2, B] and [B].

    Args:
        geometry: computes S.
        image, text: [B, D] each.
        tau: temperature.
    """

    def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:
        similarity = geometry.similarity(a.image, b.text)
        z = tile_negatives(similarity / tau, a, b)
        return z.logsumexp(1), z.logsumexp(0), tile_positives(similarity, a, b)

    kinds = ("rows", "columns", "positives")
    rows, columns, positives = by_tiles(tile, kinds, image, text, (tau, *geometry.parameters()))
    return torch.stack([rows, columns]) - positives / tau, positives
