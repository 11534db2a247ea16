"""Running averages: kept as logarithms, blended with gamma, whose schedule follows the training."""

import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.losses.memory import gamma_at, log_average, zero_with_slope
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


@pytest.mark.parametrize("gamma", [0.2, 0.9, 1.0])
def test_log_average_is_the_average_of_numbers(gamma):
    u, g = (torch.rand(2, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (0, 1))
    assert_close(log_average(u.log(), g.log(), gamma), ((1 - gamma) * u + gamma * g).log(), rtol=1e-12, atol=1e-12)


def test_log_average_does_not_overflow():
    u, g = torch.tensor([-300.0, 0.0, 250.0]), torch.tensor([300.0, 200.0, 250.0])
    expected = [300 + math.log(0.8), 200 + math.log(0.8), 250.0]
    assert log_average(u, g, 0.8).tolist() == pytest.approx(expected)


def test_the_first_value_is_g_or_gamma_g():
    never, g = torch.full((2,), -math.inf), torch.tensor([0.5, 2.0]).log()
    assert log_average(never, g, 0.25).exp().tolist() == pytest.approx([0.5, 2.0])
    assert log_average(never, g, 0.25, first_is_g=False).exp().tolist() == pytest.approx([0.125, 0.5])


def test_a_term_of_value_0_with_a_slope():
    tau, slope = torch.tensor(0.3, requires_grad=True), torch.tensor(-2.5, requires_grad=True)
    term = zero_with_slope(tau, slope)
    assert term.item() == 0
    assert torch.autograd.grad(term, (tau, slope), allow_unused=True) == (-2.5, None)


def test_averages_of_rows_are_buffers_of_images_and_texts():
    loss = build_loss("sogclr", num_samples=5)
    assert loss.log_u.shape == (2, 5) and (loss.log_u == -math.inf).all() and "log_u" in loss.state_dict()
    loss.store(torch.tensor([3, 1]), {"log_u": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
    assert loss.log_u[:, [1, 3]].tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert (loss.log_u[:, [0, 2, 4]] == -math.inf).all()


@pytest.mark.parametrize("first_is_g", [True, False])
def test_gamma_may_be_a_number_of_each_run(first_is_g):
    log_u, log_g = torch.tensor([0.3, -math.inf]), torch.tensor([0.1, 2.0])
    for gamma in (0.2, 0.7, 1.0):
        ours = log_average(log_u, log_g, torch.tensor(gamma), first_is_g)
        torch.testing.assert_close(ours, log_average(log_u, log_g, gamma, first_is_g))
