"""gamma of the running averages over the course of a training."""

import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.losses.memory import gamma_at
from clipedu.utils.errors import ClipeduError

from .oracle import assert_close, random_pairs

WITH_MEMORY = ["isogclr", "onlineclr", "sogclr"]
ROWS = torch.arange(5)


def test_cosine_falls_from_1_to_gamma_over_the_first_half():
    at = [gamma_at(progress, 0.2, "cosine") for progress in (0.0, 0.125, 0.25, 0.375, 0.5, 0.8, 1.0)]
    eighth = math.cos(math.pi / 4)
    assert at == pytest.approx([1, 0.2 + 0.4 * (1 + eighth), 0.6, 0.2 + 0.4 * (1 - eighth), 0.2, 0.2, 0.2])
    assert gamma_at(0.1, 0.2, "constant") == 0.2


@pytest.mark.parametrize(
    "name, options",
    [(name, {}) for name in WITH_MEMORY] + [("sogclr", {"form": "course"}), ("onlineclr", {"form": "course"})],
)
def test_it_is_the_gamma_of_the_step(name, options):
    shared = {"temperature": 0.05, "num_samples": 5, **options}
    scheduled = build_loss(name, gamma=0.2, gamma_schedule="cosine", **shared).double()
    for step, progress in enumerate((0.0, 0.1, 0.3, 0.6)):
        scheduled.progress = progress
        by_hand = build_loss(name, gamma=gamma_at(progress, 0.2, "cosine"), **shared).double()
        by_hand.load_state_dict(scheduled.state_dict())
        batch = (*random_pairs(step), ROWS)
        output = scheduled(*batch)
        assert_close(output.total, by_hand(*batch).total, rtol=1e-12)
        assert output.watch["gamma"].item() == pytest.approx(by_hand.gamma)
        for key, value in scheduled.state_dict().items():
            assert_close(value, by_hand.state_dict()[key], rtol=1e-12)
    assert "gamma" not in by_hand(*batch).watch


def test_at_the_start_there_is_no_memory():
    used, fresh = (
        build_loss("sogclr", temperature=0.05, num_samples=5, gamma_schedule="cosine").double() for _ in range(2)
    )
    used(*random_pairs(0), ROWS)
    assert_close(used(*random_pairs(1), ROWS).total, fresh(*random_pairs(1), ROWS).total, rtol=1e-12)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_an_unknown_schedule_is_refused(name):
    with pytest.raises(ClipeduError, match="unknown gamma_schedule 'cosin'. Did you mean 'cosine'"):
        build_loss(name, num_samples=4, gamma_schedule="cosin")
