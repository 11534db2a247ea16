"""Chains of noise: updates of mean square 1, whatever makes them, and steps typed out."""

import math

import numpy as np
import pytest
import torch

from clipedu.norms.contribution import NORMALISERS
from clipedu.norms.monte_carlo import NoiseUpdates, walk_chains

CHAINS, MATRIX = 512, (4, 8)


def weights(length: float = 2.0) -> torch.Tensor:
    drawn = torch.randn(CHAINS, math.prod(MATRIX), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return length * drawn / drawn.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("alpha", [1.0, 0.1])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_updates_have_mean_square_one_from_the_first(normaliser, alpha):
    updates = NoiseUpdates(normaliser, alpha, weights(), matrix=MATRIX)
    squares = updates.next(weights()).square().sum(1)
    assert squares.mean().item() == pytest.approx(1, abs=0.05)
    if normaliser in ("vector", "sign", "polar"):
        assert squares.numpy() == pytest.approx(1, abs=1e-6)


def test_polar_updates_have_equal_singular_values():
    u = NoiseUpdates("polar", 0.5, weights(), matrix=MATRIX).next(weights()).view(-1, *MATRIX)
    values = torch.linalg.svdvals(u)
    assert (values.amax(1) / values.amin(1)).median() < 1.4  # five steps leave them near each other, not equal


def test_gradients_of_a_scale_invariant_layer():
    w = weights(length=4.0)
    updates = NoiseUpdates("none", 1.0, w, gradient=1 / 4)
    u = updates.next(w, w.norm(dim=1, keepdim=True))
    assert (u * w).sum(1).abs().max() < 1e-12
    assert u.square().sum(1).mean().item() == pytest.approx(1 / 16, rel=0.05)


def test_align_turns_the_weights_and_keeps_their_lengths():
    w = weights()
    updates = NoiseUpdates("vector", 0.1, w)
    buffer = updates.buffer / updates.buffer.norm(dim=1, keepdim=True)
    updates.align(w, 0.7)
    assert (w * buffer).sum(1).numpy() == pytest.approx(-0.7)
    assert w.norm(dim=1).numpy() == pytest.approx(2.0)


@pytest.mark.parametrize("renormalised", [False, True])
def test_steps_typed_out(renormalised):
    w, lr, shrink = weights(), np.array([0.1, 0.2, 0.3]), np.array([0.01, 0.02, 0.03])
    own, twin = NoiseUpdates("vector", 0.3, w, seed=3), NoiseUpdates("vector", 0.3, w, seed=3)
    squared, cosine = walk_chains(own, w.clone(), lr, shrink, {0, 2}, renormalised=renormalised)
    assert squared.shape == cosine.shape == (2, CHAINS)
    norms, cosines = [], []
    for rate, share in zip(lr, shrink, strict=True):
        u = twin.next(w)
        cosines.append(torch.cosine_similarity(w, u, dim=1))
        after = (1 - share) * w - rate * u
        if renormalised:
            after = after * torch.cosine_similarity(after, w, dim=1)[:, None]
        w = after
        norms.append(w.square().sum(1))
    assert squared == pytest.approx(torch.stack([norms[0], norms[2]]).numpy())
    assert cosine == pytest.approx(torch.stack([cosines[0], cosines[2]]).numpy(), abs=1e-12)
