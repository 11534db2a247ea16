import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs
from .test_sogclr import IMAGE_ROWS, TEXT_ROWS


def probe_of(num_samples: int) -> Probe:
    probe = Probe("isogclr", temperature=0.03, num_samples=num_samples)
    for loss in probe.both:
        loss.tau.fill_(0.03)  # in float64 digits
    return probe


def forget_first_visits(log_u: torch.Tensor) -> None:
    """What the course's code does after epoch 0: a row that was never seen counts as seen with an average of 0."""
    log_u[log_u == -math.inf] = -1e30


def test_three_steps_with_one_index():
    probe = probe_of(8)
    answers = [
        "0.3131912848 0.8797531815 1.019290763 -0.6086628834 0.4321578222 0.4346596217 0.6276990187",
        "1.919087624 2.018363399 2.017619553 -0.2801621042 2.3715151 0.9206782247 0.7824052552",
        "3.260139165 2.156941296 2.106559341 0.3317856051 0.664224669 0.702210479 0.6184474828",
    ]
    for step, answer in enumerate(answers):
        assert_close(probe.step(*oracle_set("A", step), torch.tensor(IMAGE_ROWS[step])), numbers(answer))
        for loss in probe.both:
            forget_first_visits(loss.log_u)
    image = ".02875 .0275 .03168793162 .02875 .03 .024375 .03 .031875"
    text = ".02875 .0275 .0325 .02875 .03 .02056992434 .03 .031875"
    assert_close(probe.raw.tau, [numbers(image), numbers(text)])


def test_three_steps_with_separate_image_and_text_rows():
    probe = probe_of(4)
    state = {
        "log_u": torch.full((2, 8), -math.inf),
        "tau": torch.full((2, 8), 0.03).double(),
        "slope": torch.zeros(2, 8),
    }
    state = {name: rows.double() for name, rows in state.items()}
    state["tau"].fill_(0.03)
    answers = [
        "0.3131912848 0.8797531815 1.019290763 -0.6086628834 0.4321578222 0.4346596217 0.6276990187",
        "1.806633013 1.769757955 1.87478417 -0.1829117678 1.753119938 0.6774978923 0.6235463106",
        "3.073313195 2.199598813 2.129694135 0.08238819119 0.7584436927 0.6753050112 0.7656426324",
    ]
    for step, answer in enumerate(answers):
        image, text = torch.tensor(IMAGE_ROWS[step]), torch.tensor(TEXT_ROWS[step])
        for loss in probe.both:
            for name, rows in state.items():
                getattr(loss, name).copy_(torch.stack([rows[0, image], rows[1, text]]))
        assert_close(probe.step(*oracle_set("A", step), ROWS), numbers(answer))
        for name, rows in state.items():
            rows[0, image], rows[1, text] = getattr(probe.raw, name)
        forget_first_visits(state["log_u"])


def test_the_first_slope_is_rho_minus_kl():
    loss = build_loss("isogclr", temperature=0.03, num_samples=4, rho=3.0).double()
    loss.tau.fill_(0.03)
    x, y = oracle_set("A")
    loss(x, y, ROWS)
    s = cosines(x, y)
    for i in range(4):
        z = [(s[i][j] - s[i][i]) / 0.03 for j in range(4) if j != i]
        p = [math.exp(value) / sum(map(math.exp, z)) for value in z]
        kl = sum(q * math.log(3 * q) for q in p if q > 0)
        assert_close(loss.slope[0, i], 0.5 * (3.0 - kl))
        assert_close(loss.tau[0, i], 0.03 - 1e-3 * 0.5 * (3.0 - kl))


@pytest.mark.parametrize("seed", range(4))
def test_without_steps_of_the_temperature_it_is_sogclr(seed):
    iso = build_loss("isogclr", temperature=0.04, num_samples=5, eta=0).double()
    iso.tau.fill_(0.04)
    sog = build_loss("sogclr", temperature=0.04, num_samples=5).double()
    for step in range(3):
        batch = (*random_pairs(10 * seed + step), torch.arange(5))
        assert_close(iso.pair_weights(*batch), sog.pair_weights(*batch), rtol=1e-10)
        assert_close(iso(*batch).total, sog(*batch).total, rtol=1e-10)
        assert_close(iso.log_u, sog.log_u, rtol=1e-10)


def test_temperatures_stay_in_range_and_become_individual():
    loss = build_loss("isogclr", temperature=0.02, num_samples=12, rho=1.0, eta=0.01).double()
    for seed in range(30):
        index = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:6]
        loss(*random_pairs(seed, size=6), index)
    assert loss.tau.min() >= 0.005 - 1e-9 and loss.tau.max() <= 0.05 + 1e-9
    assert loss.tau.std() > 1e-3


def test_collapse_costs_nothing():
    assert build_loss("isogclr", num_samples=4)(COLLAPSED, COLLAPSED, ROWS).total.item() == 0


def test_small_temperature_does_not_overflow():
    loss = build_loss("isogclr", temperature=1e-3, temperature_range=(1e-3, 0.05), num_samples=16)
    for seed in range(4):
        x, y = (z.float().requires_grad_() for z in random_pairs(seed, size=16, dim=4))
        loss(x, y, torch.arange(16)).total.backward()
        assert x.grad.isfinite().all() and y.grad.isfinite().all()
    assert all(buffer.isfinite().all() for buffer in loss.buffers())


def test_temperature_outside_its_range_is_refused():
    with pytest.raises(ClipeduError, match="temperature 0.1 is not within its temperature_range, 0.005 to 0.05"):
        build_loss("isogclr", temperature=0.1, num_samples=4)


@pytest.mark.parametrize(("largest", "expected"), [(5.0, 5.0), (2.5, 2.5), (None, 8.0 - math.log(3))])
def test_the_largest_slope_is_an_option(largest, expected):
    """rho - KL of a batch in which one negative carries all weight: 8 - log 3 where nothing clamps it."""
    loss = build_loss("isogclr", temperature=0.005, num_samples=4, rho=8.0, largest_slope=largest).double()
    loss(*oracle_set("A"), ROWS)
    assert_close(loss.slope[0, 0], 0.5 * expected, rtol=1e-3)
    assert_close(build_loss("isogclr", num_samples=4).largest_slope, 5.0)


@pytest.mark.parametrize("wrong", [0, -1.0, "5", math.inf, True])
def test_a_largest_slope_that_is_none_is_refused(wrong):
    with pytest.raises(ClipeduError, match="largest_slope must be a number > 0, got "):
        build_loss("isogclr", num_samples=4, largest_slope=wrong)
