"""Random numbers from a key: the same key gives the same numbers, and neighbouring keys unrelated ones."""

from __future__ import annotations

import numpy as np
import torch


def seeded(*key: int) -> torch.Generator:
    """A generator on the CPU whose seed mixes several non-negative numbers, e.g. (seed of the run, step, purpose)."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
