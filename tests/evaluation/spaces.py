"""What the tests of embedding spaces share: three geometries, vectors, and pairs of which nothing is known."""

import pytest
import torch

from clipedu.data.pairs import Pairs

FLAT, CURVED, ROUND = "euclidean-squared", "lorentz", "cosine"
seeds = pytest.mark.parametrize("seed", range(3))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vectors(*rows):
    return torch.tensor(rows, dtype=torch.float64)


class Ungraded(Pairs):
    """Scenes of which nothing is known but pixels and captions, as of photographs."""

    def __init__(self, scenes):
        self.name, self.split, self.image_size, self.scenes = scenes.name, scenes.split, scenes.image_size, scenes

    def __len__(self):
        return len(self.scenes)

    def pixels(self, index):
        return self.scenes.pixels(index)

    def captions(self, row):
        return self.scenes.captions(row)
