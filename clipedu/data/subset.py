"""A part of a set of pairs, and the part that is held out of training.

Settings that are chosen by a score need pairs for it that are neither trained on nor scored in the end: else the score of the
best of many trials is too good, by their number. So a fixed part of the training pairs is held out (`Experiment.holdout`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError
from clipedu.utils.seeding import seeded

HELD_OUT = "held-out"  # the split of the part that is held out
_SEED = 14  # of the rows that are held out: the same for each seed of a run


class Subset(Pairs):
    """Some rows of a set, as a set.

    Args:
        whole: the set.
        rows: which of its rows, in this order: int64 [N].
        split: what to call the part.
    """

    def __init__(self, whole: Pairs, rows: Tensor, split: str):
        self.whole, self.rows = whole, rows
        self.name, self.split, self.image_size = whole.name, split, whole.image_size
        self.labels = None if whole.labels is None else whole.labels[rows]
        self.class_names, self.named_by, self.templates = whole.class_names, whole.named_by, whole.templates
        self.skipped, self.left_out, self.cache = whole.skipped, whole.left_out, whole.cache

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, index: Tensor) -> Tensor:
        """Return the images of rows of the part: uint8 [B, 3, H, W], on the CPU."""
        return self.whole.pixels(self.rows[index])

    def captions(self, row: int) -> list[str]:
        """Return all captions of a row of the part."""
        return self.whole.captions(int(self.rows[row]))

    def foil(self, row: int, choice: int, kinds: Sequence[str], number: int) -> str | None:
        """Return a caption of a row of the part, made false in one thing."""
        return self.whole.foil(int(self.rows[row]), choice, kinds, number)

    def fingerprint(self) -> str:
        """Return a short hash of the whole set's fingerprint and the rows."""
        rows = hashlib.sha256(self.rows.numpy().tobytes()).hexdigest()
        return hashlib.sha256(f"{self.whole.fingerprint()}/{self.split}/{rows}".encode()).hexdigest()[:16]

    def _hash_pictures(self) -> np.ndarray:
        return self.whole.picture_digests()[self.rows.numpy()]


def hold_out(pairs: Pairs, share: float) -> tuple[Subset, Subset]:
    """Cut a set in two: what is trained on, and what is held out.

    Which rows are held out depends on the set and the share alone. A row is an image with all its captions; rows with the same
    picture are on the same side.

    Args:
        pairs: N rows.
        share: of the rows to hold out, 0 < share < 1; a picture that is in many rows may make it a few more.
    Returns:
        the two parts, each in the order of the set.
    Raises:
        ClipeduError: one of the parts would have less than two rows.
    """
    pictures = np.unique(pairs.picture_digests(), axis=0, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(pictures)
    order = torch.randperm(len(sizes), generator=seeded(_SEED)).numpy()
    before = np.cumsum(sizes[order]) - sizes[order]
    chosen = np.zeros(len(sizes), bool)
    chosen[order[before < round(share * len(pairs))]] = True
    held = chosen[pictures]
    if min(held.sum(), (~held).sum()) < 2:
        raise ClipeduError(
            f"holdout={share:g} of {len(pairs)} pairs of {pairs.name}/{pairs.split} leaves {int((~held).sum())} to train on and "
            f"{int(held.sum())} to score on: at least 2 are needed of each"
        )
    rows = torch.arange(len(pairs))
    return Subset(pairs, rows[~held], pairs.split), Subset(pairs, rows[held], HELD_OUT)
