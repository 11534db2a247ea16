"""Overlap: which rows of a set are in another set too, by content."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs


class Shared(NamedTuple):
    """Rows of a set that are in another set too.

    Attributes:
        pairs: rows whose picture and captions are both there, in one row.
        pictures: rows whose picture is there.
    """

    pairs: int
    pictures: int


def row_hashes(pairs: Pairs) -> np.ndarray:
    """Return two numbers a row that say whether another set has it.

    Args:
        pairs: N rows.
    Returns:
        int64 [N, 2], the first 8 bytes of the digests of the picture and of the captions.
    """
    both = [digests[:, :8] for digests in (pairs.picture_digests(), pairs.caption_digests())]
    return np.concatenate(both, 1).reshape(-1).view("<i8").reshape(-1, 2)


def shared(pairs: Pairs, known: np.ndarray) -> Shared:
    """Count the rows of a set that are in another set too.

    Pictures are the same if all decoded pixels are, so that a picture that was compressed again is another one.

    Args:
        pairs: N rows.
        known: `row_hashes` of the other set, int64 [M, 2].
    Raises:
        ClipeduError: `known` is no array of that shape.
    """
    if known.ndim != 2 or known.shape[1] != 2 or known.dtype != np.dtype("<i8"):
        raise ClipeduError(f"hashes of rows must be int64 [N, 2], not {known.dtype} {list(known.shape)}")
    rows = row_hashes(pairs)
    pictures = np.isin(rows[:, 0], known[:, 0])
    there = set(map(tuple, known[np.isin(known[:, 0], rows[:, 0])].tolist()))
    return Shared(sum(tuple(row) in there for row in rows[pictures].tolist()), int(pictures.sum()))
