"""The balance with drift, and the contribution of a minibatch: against a walk typed out, and against the optimizers."""

import math

import pytest
import torch

from clipedu.norms import predicted_norms
from clipedu.norms.drift import norm_with_drift, predicted_with_drift
from clipedu.utils.errors import ClipeduError

LR, SHRINK, SIZE = 0.02, 0.01, 400


def walk(drift: float, steps: int = 2000, chains: int = 100) -> float:
    """Root mean square of ||w|| of chains whose contributions have this cosine with w, over the last half of the steps."""
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(chains, SIZE, generator=generator, dtype=torch.float64) * norm_with_drift(LR, SHRINK, SIZE, drift)
    w /= math.sqrt(SIZE)
    squares = []
    for step in range(steps):
        noise = torch.randn(chains, SIZE, generator=generator, dtype=torch.float64)
        unit = w / w.norm(dim=1, keepdim=True)
        q = math.sqrt(1 - drift**2) * noise + drift * math.sqrt(SIZE) * unit
        w = (1 - SHRINK) * w - LR * q
        if step >= steps // 2:
            squares.append(w.square().sum(dim=1).mean().item())
    return math.sqrt(sum(squares) / len(squares))


@pytest.mark.parametrize("drift", [-0.1, -0.03, 0.0, 0.05, 0.2])
def test_a_walk_with_drift_settles_where_it_is_said(drift):
    assert walk(drift) == pytest.approx(norm_with_drift(LR, SHRINK, SIZE, drift), rel=0.01)


def test_without_drift_it_is_the_plain_balance():
    assert norm_with_drift(0.1, 0.01, 1.0) ** 2 == pytest.approx(0.5025125628, rel=1e-9)  # lr 0.1, lambda 0.1, C 1


def test_the_root_solves_the_balance():
    for drift in (-0.9, -0.01, 1e-9, 0.3, 1.0):
        x = norm_with_drift(0.3, 0.05, 7.0, drift)
        left = 0.05 * 1.95 * x**2 + 2 * 0.3 * 0.95 * drift * math.sqrt(7) * x
        assert left == pytest.approx(0.3**2 * 7, rel=1e-10)


def test_drift_alone_can_hold_a_weight_and_nothing_cannot():
    lone = norm_with_drift(0.1, 0.0, 4.0, 0.05)
    assert 2 * 0.1 * 0.05 * 2 * lone == pytest.approx(0.1**2 * 4)
    assert norm_with_drift(0.1, 0.0, 4.0, 0.0) == math.inf and norm_with_drift(0.1, 0.0, 4.0, -0.1) == math.inf
    assert norm_with_drift(0.1, 0.01, 4.0, -0.1) > norm_with_drift(0.1, 0.01, 4.0, 0.0)


def test_the_curve_ends_at_the_balance_and_begins_at_the_start():
    for drift in (-0.02, 0.0, 0.1):
        curve = predicted_with_drift(3.0, [LR] * 3000, SHRINK, SIZE, drift)
        assert curve[-1] == pytest.approx(norm_with_drift(LR, SHRINK, SIZE, drift), rel=1e-6)
    first = (1 - SHRINK) ** 2 * 9 + LR**2 * SIZE - 2 * LR * (1 - SHRINK) * 0.1 * 3 * math.sqrt(SIZE)
    assert curve[0] == pytest.approx(math.sqrt(first))
    one = predicted_with_drift(0.1, [1.0, 0.0], 0.0, 0.01, 1.0)  # a step that would overshoot 0
    assert one[0] == one[1] == pytest.approx(0.0, abs=1e-8)


def test_the_curve_with_memory_is_that_of_slow_arrival_in_the_end():
    slow = predicted_norms(3.0, [LR] * 3000, SHRINK, SIZE, fade=0.9)
    late = predicted_with_drift(3.0, [LR] * 3000, SHRINK, SIZE, alpha=0.1)
    plain = predicted_with_drift(3.0, [LR] * 3000, SHRINK, SIZE)
    assert late[-1] == pytest.approx(slow[-1], rel=1e-6)
    assert late[-1] / plain[-1] == pytest.approx(1 - SHRINK / 0.1 / 2, abs=0.007)


@pytest.mark.parametrize("wrong", [{"shrink": 1.0}, {"shrink": -0.1}, {"drift": 1.1}])
def test_out_of_range(wrong):
    with pytest.raises(ClipeduError, match="must be in"):
        norm_with_drift(**{"lr": 0.1, "shrink": 0.01, "tuc": 1.0, **wrong})
