"""The learning rate at every corner of a run."""

from __future__ import annotations

import math

import pytest

from clipedu.optim.schedule import learning_rate
from clipedu.utils.errors import ClipeduError


def rates(**settings) -> list[float]:
    return [learning_rate(step, **settings) for step in range(settings["total"])]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_warm_up_is_a_straight_line_that_ends_at_the_peak(schedule):
    assert rates(peak=8.0, total=10, warmup=4, schedule=schedule)[:4] == [2.0, 4.0, 6.0, 8.0]


def test_cosine_by_hand():
    # a quarter, half and three quarters of the way from the peak (step 1) to 0 (step 5, which is not taken)
    root = math.sqrt(0.5)
    assert rates(peak=2.0, total=5, warmup=2) == pytest.approx([1.0, 2.0, 1 + root, 1.0, 1 - root], abs=1e-12)


def test_cosine_without_warm_up_by_hand():
    assert rates(peak=1.0, total=2, warmup=0) == pytest.approx([0.75, 0.25], abs=1e-12)


def test_constant():
    assert rates(peak=3.0, total=4, warmup=0, schedule="constant") == [3.0] * 4
    assert rates(peak=3.0, total=4, warmup=1, schedule="constant") == [3.0] * 4


@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_rises_to_the_peak_then_falls_and_every_step_moves(total, share):
    warmup = round(share * total)
    got = rates(peak=0.3, total=total, warmup=warmup)
    up, down = got[:warmup], got[max(0, warmup - 1) :]
    assert all(a < b for a, b in zip(up, up[1:], strict=False))
    assert all(a > b for a, b in zip(down, down[1:], strict=False))
    assert min(got) > 0 and max(got) <= 0.3
    assert warmup == 0 or max(got) == 0.3


def test_half_of_the_area_is_left_under_the_cosine():
    got = rates(peak=1.0, total=10_000, warmup=0)
    assert sum(got) / len(got) == pytest.approx(0.5, abs=1e-3)


def test_an_unknown_schedule():
    with pytest.raises(
        ClipeduError, match="unknown schedule 'cosin'. Did you mean 'cosine'. Allowed: cosine, constant"
    ):
        learning_rate(0, peak=1, total=1, warmup=0, schedule="cosin")
