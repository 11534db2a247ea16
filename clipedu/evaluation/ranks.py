"""Ranks of what belongs together, from one pass over similarities.

The rank of an image is how many captions come before the best of its own; that of a caption, how many images come before its
image. Rank 0 is the most similar. Both follow from the matrix of similarities, which is walked once, in tiles:

    captions of   images 0..a   a..b   b..c          1. the tiles on the diagonal hold all similarities of what belongs
      image 0..a      1           2      2              together: the best of each row and of each column
      image a..b      2           1      2           2. in the other tiles, count what is larger than that of its row, and
      image b..c      2           2      1              of its column

Equal similarities are ranked by their order, as a stable sort would put them; NaN is the least similar. An equal one in a tile
before the diagonal is ahead and one behind it is not, so that one comparison a number is enough there.

Each similarity is computed once, so what is compared is the same number in both directions, whatever the rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

TILE = 1 << 20  # similarities held at once
STRIP = 1 << 15  # of those on the diagonal, how many are compared the slow way at once


@dataclass(frozen=True)
class _Block:
    """Neighbouring images, and their captions as columns."""

    rows: slice
    columns: slice


@torch.no_grad()
def ranks_of_own(
    image: Tensor, text: Tensor, owner: Tensor, similarity: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Rank each image's own captions, and each caption's own image.

    Args:
        image: [N, D].
        text: [T, D]; caption t belongs to image `owner[t]`, and every image has at least one.
        owner: int64 [T], 0..N-1.
        similarity: of all pairs, [A, D] and [B, D] -> [A, B], such as `Geometry.similarity`.
    Returns:
        int64 [N], the rank of the best of each image's own captions among all captions, and int64 [T], the rank of each caption's
        image among all images; from 0.
    """
    device = owner.device
    place = torch.argsort(owner, stable=True)  # of each column among the captions
    in_order = bool((owner.diff() >= 0).all())
    if not in_order:
        text, owner = text[place], owner[place]
    dtype = similarity(image[:1], text[:1]).dtype  # of half precision, a geometry makes float32
    best = torch.full((len(image),), -torch.inf, device=device, dtype=dtype)
    best_place = torch.zeros(len(image), dtype=torch.int64, device=device)
    of_own = torch.empty(len(text), device=device, dtype=dtype)
    image_rank, caption_rank = torch.zeros_like(best_place), torch.zeros_like(owner)
    rows = torch.arange(len(image), device=device)
    blocks = _blocks(owner, len(image), TILE)

    def tile(block: _Block, other: _Block) -> Tensor:
        found = similarity(image[block.rows], text[other.columns])
        if not torch.isfinite(found.sum()):
            found = found.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        return found

    def compare(found: Tensor, r: slice, c: slice) -> None:
        """Count who is ahead, with ties by order."""
        of_rows, of_columns = best[r, None], of_own[None, c]
        earlier = place[None, c] < best_place[r, None]
        image_rank[r] += ((found > of_rows) | ((found == of_rows) & earlier)).sum(1)
        earlier = rows[r, None] < owner[None, c]
        caption_rank[c] += ((found > of_columns) | ((found == of_columns) & earlier)).sum(0)

    def compare_apart(found: Tensor, r: slice, c: slice, *, before: bool) -> None:
        """Count who is ahead, where all columns come before those of the rows, or all behind."""
        ahead = torch.empty(found.shape, device=device)  # 0 or 1; sums of float32 are exact up to 2^24
        (torch.ge if before else torch.gt)(found, best[r, None], out=ahead)
        image_rank[r] += ahead.sum(1).long()
        (torch.gt if before else torch.ge)(found, of_own[None, c], out=ahead)
        caption_rank[c] += ahead.sum(0).long()

    for block in blocks:
        found, r, c = tile(block, block), block.rows, block.columns
        of_own[c] = found[owner[c] - r.start, torch.arange(found.shape[1], device=device)]
        best[r] = best[r].scatter_reduce(0, owner[c] - r.start, of_own[c], "amax")
        is_best = of_own[c] == best[owner[c]]
        best_place[r] = best_place[r].scatter_reduce(
            0, owner[c][is_best] - r.start, place[c][is_best], "amin", include_self=False
        )
        if not in_order:
            compare(found, r, c)
            continue
        for strip in _blocks(owner[c] - r.start, r.stop - r.start, STRIP):
            q, own = _moved(strip.rows, r.start), _moved(strip.columns, c.start)
            start, stop = strip.columns.start, strip.columns.stop
            compare_apart(found[strip.rows, :start], q, slice(c.start, own.start), before=True)
            compare(found[strip.rows, start:stop], q, own)
            compare_apart(found[strip.rows, stop:], q, slice(own.stop, c.stop), before=False)

    for block in blocks:
        for other in blocks:
            if block is other:
                continue
            for part in _parts(block.rows, TILE // (other.columns.stop - other.columns.start)):
                found = tile(_Block(part, other.columns), other)
                if in_order:
                    before = other.columns.stop <= block.columns.start
                    compare_apart(found, part, other.columns, before=before)
                else:
                    compare(found, part, other.columns)
    if not in_order:
        caption_rank = torch.empty_like(caption_rank).index_copy_(0, place, caption_rank)
    return image_rank, caption_rank


def _blocks(owner: Tensor, images: int, size: int) -> list[_Block]:
    """Divide the images into blocks of at most `size` similarities with their own captions.

    owner is sorted, int64 [T].
    """
    ends = torch.bincount(owner, minlength=images).cumsum(0).tolist()  # the end of each image's captions
    starts = [0]
    while starts[-1] < images:
        start = starts[-1]
        first = ends[start - 1] if start else 0
        low, high = start + 1, images  # the largest end whose tile is small enough
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if (middle - start) * (ends[middle - 1] - first) <= size else (low, middle - 1)
        starts.append(low)
    if len(starts) > 2:  # of the last two equal parts: a narrow tile may be rounded otherwise than the rest
        starts[-2] = (starts[-3] + starts[-1]) // 2
    columns = [ends[start - 1] if start else 0 for start in starts]
    return [_Block(slice(*rows), slice(*own)) for rows, own in zip(pairwise(starts), pairwise(columns), strict=True)]


def _parts(rows: slice, size: int) -> list[slice]:
    size = max(1, size)
    # an even share each, so that none is a narrow rest
    count = -(-(rows.stop - rows.start) // size)
    step = -(-(rows.stop - rows.start) // count)
    return [slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step)]


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
