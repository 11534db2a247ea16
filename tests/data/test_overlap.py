"""Which rows of a set are in another: by picture and captions together, and by picture."""

from __future__ import annotations

import numpy as np
import pytest

from clipedu.data.overlap import Shared, row_hashes, shared
from clipedu.data.scenes.dataset import Scenes
from clipedu.utils.errors import ClipeduError
from tests.data.test_identity import Own


def test_rows_in_another_set():
    known = row_hashes(Own(8))
    assert known.shape == (8, 2) and known.dtype == np.int64
    assert shared(Own(8), known) == Shared(8, 8)
    assert shared(Own(8, seed=1), known) == Shared(0, 0), "equal captions are no equal pairs"
    part = Own(8, seed=1)
    part.images[2:5] = Own(8).images[2:5]
    assert shared(part, known) == Shared(3, 3)
    part.texts[3] = ["said in other words"]
    assert shared(part, known) == Shared(2, 3)
    moved = Own(8)
    moved.texts = moved.texts[::-1]  # every picture and every caption is there, but not together
    assert shared(moved, known) == Shared(0, 8)


def test_a_subset_and_its_whole():
    few = Own(8)
    few.images, few.texts = few.images[:3], few.texts[:3]
    assert shared(few, row_hashes(Own(8))) == Shared(3, 3) == shared(Own(8), row_hashes(few))


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_of_scenes_have_nothing_in_common(seed):
    """Captions of one object are often equal, pictures are not."""
    known = row_hashes(Scenes("train", 3000, seed=seed))
    assert (
        shared(Scenes("val", 500, seed=seed), known)
        == Shared(0, 0)
        == shared(Scenes("zeroshot", 500, seed=seed), known)
    )
    assert shared(Scenes("train", 100, seed=seed), known) == Shared(100, 100)


def test_what_are_no_hashes_of_rows():
    with pytest.raises(ClipeduError, match=r"must be int64 \[N, 2\], not float64 \[3\]"):
        shared(Own(), np.zeros(3))
