"""`seeded`: random generators from keys; neighbours are unrelated."""

from __future__ import annotations

import numpy as np
import torch


def seeded(*key: int) -> torch.Generator:
    """Return a CPU generator seeded by non-negative integers.

    They are, for example, (seed of the run, step, purpose).
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
