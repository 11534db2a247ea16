"""The balance of decay and growth: closed forms, recursions and equilibria against tables made elsewhere."""

import math

import numpy as np
import pytest

from clipedu.norms import predicted_norms
from clipedu.norms.equilibrium import (
    adamw_norm,
    balance,
    balance_with_momentum,
    lion_norm,
    mean_alignment,
    mean_cosine,
    rotation,
    sgdm_norm,
    time_constant,
)
from clipedu.optim import learning_rate
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.scion import effective_step
from clipedu.utils.errors import ClipeduError

# lr, lambda, C, n_0, then ||w||^2 after 1, 10, 100, 1000 steps and in the end, its first order, the time constant
WALKS = [
    (0.1, 0.1, 1, 0, (0.01, 0.09150405146, 0.435186093, 0.5025125619, 0.5025125628), 0.5, 49.7496),
    (0.1, 1.0, 16, 4, (3.4, 1.226031541, 0.8421052654, 0.8421052632, 0.8421052632), 0.8, 4.74561),
    (0.02, 0.5, 64, 64, (62.752, 52.58029438, 9.688775589, 1.286432278, 1.286432161), 1.28, 49.7496),
    (0.01, 0.1, 64, 64, (63.878464, 62.7955147, 52.97413914, 11.42153984, 3.2016008), 3.2, 499.75),
    (0.001, 0.1, 384, 0, (0.000384, 0.003836546015, 0.03802233047, 0.3480700782, 1.920096005), 1.92, 4999.75),
]

# steps, lr_max, lambda, C, law, then ||w||^2 at the start, T/4, T/2, 3T/4, .9T, T
COSINES = [
    (2000, 0.02, 0.5, 64, "constant", (1.2864322, 1.1342855, 0.7302818, 0.35888436, 0.26773022, 0.25965461)),
    (2000, 0.02, 0.5, 64, "corrected", (1.2864322, 1.2850433, 1.282418, 1.2813641, 1.2813088, 1.2813082)),
    (2000, 0.02, 0.5, 64, "corrected-exact", (1.2864322,) * 6),
    (2000, 0.02, 2, 64, "constant", (0.32653061, 0.28053568, 0.16785938, 0.060384687, 0.030023863, 0.026887212)),
    (2000, 0.02, 2, 64, "corrected", (0.32653061, 0.32483655, 0.32184673, 0.32055679, 0.32047934, 0.32047841)),
    (20000, 0.001, 0.1, 384, "constant", (1.920096, 1.8500626, 1.5816191, 1.3308736, 1.2784669, 1.2743777)),
    (112603, 0.001, 0.1, 384, "constant", (1.920096, 1.7267391, 1.1749867, 0.67601421, 0.56053248, 0.55080721)),
    (112603, 0.001, 0.1, 384, "corrected", (1.920096, 1.9200785, 1.9200433, 1.9200295, 1.9200288, 1.9200288)),
]

# lr, lambda, law, then n / n_ss at T/4, T/2, 3T/4, T from .25, 1 and 4, and Lambda; warm-up 200 of 5000 steps, cosine
PLANS = [
    (1e-3, 0.1, "constant", ".387 .444 .438 .433", ".988 .945 .899 .888", "3.39 2.95 2.74 2.71", 0.50),
    (1e-3, 0.1, "corrected", ".391 .467 .483 .484", "1 1 1 1", "3.44 3.13 3.07 3.06", 0.37),
    (1e-3, 1.0, "constant", ".862 .715 .505 .453", ".944 .728 .511 .458", "1.27 .781 .534 .479", 5.00),
    (1e-3, 1.0, "corrected", ".906 .975 .982 .982", "1 1 1 1", "1.37 1.10 1.07 1.07", 3.74),
    (3e-3, 1.0, "constant", ".917 .618 .325 .247", ".918 .618 .325 .247", ".922 .618 .325 .247", 15.0),
    (3e-3, 1.0, "corrected", ".998 .999 .999 .999", "1 .999 .999 .999", "1.01 .999 .999 .999", 11.2),
]


def shrinks(rates, law, lr_max, weight_decay):
    return np.array([rate * coefficient(law, rate, lr_max=lr_max, weight_decay=weight_decay) for rate in rates])


@pytest.mark.parametrize("lr, weight_decay, c, start, expected, first_order, tau", WALKS)
def test_memoryless_walks(lr, weight_decay, c, start, expected, first_order, tau):
    curve = predicted_norms(math.sqrt(start), np.full(1000, lr), lr * weight_decay, c) ** 2
    assert curve[[0, 9, 99, 999]] == pytest.approx(expected[:4], rel=2e-9)
    assert balance(lr, lr * weight_decay, c) == pytest.approx(expected[4], rel=2e-9)
    assert c * balance_with_momentum(lr, weight_decay) == pytest.approx(expected[4], rel=2e-9)
    assert c * balance_with_momentum(lr, weight_decay, exact=False) == pytest.approx(first_order)
    assert time_constant(lr * weight_decay) == pytest.approx(tau, rel=2e-6)


@pytest.mark.parametrize("steps, lr_max, weight_decay, c, law, expected", COSINES)
def test_cosines_from_the_balance(steps, lr_max, weight_decay, c, law, expected):
    rates = lr_max * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    start = balance(lr_max, lr_max * weight_decay, c)
    curve = predicted_norms(math.sqrt(start), rates, shrinks(rates, law, lr_max, weight_decay), c) ** 2
    at = [steps // 4, steps // 2, 3 * steps // 4, 9 * steps // 10, steps]
    assert [start, *curve[np.array(at) - 1]] == pytest.approx(expected, rel=4e-8)


@pytest.mark.parametrize("lr, weight_decay, law, low, middle, high, total", PLANS)
def test_planning_table(lr, weight_decay, law, low, middle, high, total):
    rates = np.array([learning_rate(t, peak=lr, total=5000, warmup=200) for t in range(5000)])
    taken = shrinks(rates, law, lr, weight_decay)
    assert 2 * taken.sum() == pytest.approx(total, rel=0.015)
    settled = balance(lr, lr * weight_decay)
    for start, text in ((0.25, low), (1, middle), (4, high)):
        curve = predicted_norms(math.sqrt(start * settled), rates, taken, 1.0) ** 2 / settled
        for measured, digits in zip(curve[[1249, 2499, 3749, 4999]], text.split(), strict=True):
            assert measured == pytest.approx(float(digits), abs=8e-4 if digits.startswith(".") else 6e-3)


def test_gradients_surge_under_a_constant_lambda_and_not_under_a_corrected_one():
    rates = 0.1 * (1 + np.cos(np.pi * np.arange(2000) / 2000)) / 2
    start = balance(0.1, 0.1 * 0.05) ** 0.25  # ||w||^4 is what balances
    norms = predicted_norms(start, rates, rates * 0.05, 1.0, scale_invariant=True)
    assert 1 / start == pytest.approx(0.9994, abs=5e-5)
    assert 1 / norms[[999, 1499, 1999]] == pytest.approx([1.151, 1.375, 1.490], abs=6e-4)
    norms = predicted_norms(start, rates, rates**2 * 0.5, 1.0, scale_invariant=True)
    assert (1 / norms).min() > 0.99935 and (1 / norms).max() < 0.99995


# lr, lambda, alpha, then n / C exact and to first order, E<w, u> / C, mean cosine
MOMENTA = [
    (0.01, 0.5, 1, 0.01003, 0.01, 0, 0),
    (0.01, 0.5, 0.5, 0.02988, 0.03, -0.00995, -0.0576),
    (0.01, 0.5, 0.1, 0.18184, 0.19, -0.08612, -0.2020),
    (0.002, 0.5, 0.02, 0.18875, 0.198, -0.09342, -0.2150),
    (0.01, 0.08, 0.1, 1.17904, 1.1875, -0.08936, -0.0823),
]


@pytest.mark.parametrize("lr, weight_decay, alpha, exact, first_order, alignment, cosine", MOMENTA)
def test_balance_with_momentum(lr, weight_decay, alpha, exact, first_order, alignment, cosine):
    assert balance_with_momentum(lr, weight_decay, alpha) == pytest.approx(exact, abs=6e-6)
    assert balance_with_momentum(lr, weight_decay, alpha, exact=False) == pytest.approx(first_order, rel=2e-5)
    assert mean_alignment(lr, weight_decay, alpha) == pytest.approx(alignment, abs=6e-6)
    assert mean_cosine(lr, weight_decay, alpha) == pytest.approx(cosine, abs=6e-5)


@pytest.mark.parametrize(
    "alpha, exact", [(1, 1.00063), (0.5, 0.99896), (0.2, 0.99509), (0.1, 0.98891), (0.02, 0.94229)]
)
def test_equal_effective_steps_settle_nearly_alike(alpha, exact):
    lr = 0.05 / effective_step(1.0, alpha)
    weight_decay = 0.00125 / lr
    assert balance_with_momentum(lr, weight_decay, alpha) == pytest.approx(exact, abs=6e-5)
    assert balance_with_momentum(lr, weight_decay, alpha, exact=False) == pytest.approx(1)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 0.02])
def test_the_recursion_with_fade_is_the_double_sum(alpha):
    """E||w_t||^2 by adding up all pairs of updates, with a schedule."""
    steps, r, start = 60, 1 - alpha, 0.7
    rates = 0.05 * np.cos(np.arange(steps) / steps)
    taken = 0.4 * rates
    curve = predicted_norms(math.sqrt(start), rates, taken, (2 - alpha) / alpha, fade=r) ** 2
    for t in (1, 2, 17, steps):
        kept = [np.prod(1 - taken[j + 1 : t]) * rates[j] for j in range(t)]
        pairs = sum(kept[i] * kept[j] * r ** abs(i - j) for i in range(t) for j in range(t))
        assert curve[t - 1] == pytest.approx(start * np.prod(1 - taken[:t]) ** 2 + pairs)


def test_the_recursion_settles_at_the_balance():
    curve = predicted_norms(0.0, np.full(4000, 0.01), 0.005, 19.0, fade=0.9) ** 2
    assert curve[-1] == pytest.approx(balance_with_momentum(0.01, 0.5, 0.1), rel=1e-12)
    curve = predicted_norms(1.0, 0.1, np.full(4000, 0.005), 1.0, scale_invariant=True)
    assert curve[-1] ** 4 == pytest.approx(balance(0.1, 0.005), rel=1e-12)


def test_the_gap_closes_by_e_in_a_time_constant():
    lr, shrink = 0.01, 1 / 400
    curve = predicted_norms(0.0, np.full(400, lr), shrink, 1.0) ** 2
    gap = balance(lr, shrink) - curve
    assert gap[399] / gap[0] == pytest.approx(math.exp(-399 / time_constant(shrink)), rel=1e-9)
    settled = balance(lr, shrink) ** 0.25
    invariant = predicted_norms(1.001 * settled, np.full(400, lr), shrink, 1.0, scale_invariant=True) ** 2 - settled**2
    assert invariant[399] / invariant[0] == pytest.approx(math.exp(-399 / (time_constant(shrink) / 2)), rel=0.01)


def test_adamw_and_lion_and_sgd():
    assert adamw_norm(1e-3, 1, 4096) == pytest.approx(64 * 0.022361, rel=3e-5)
    assert adamw_norm(1e-3, 0.1, 1) == pytest.approx(0.070711, rel=1e-5)
    assert adamw_norm(1e-2, 0.5, 1) == pytest.approx(0.1)
    for lr, weight_decay, beta1, line, exact in [
        (1e-3, 1, 0.9, 0.150409, 0.144704),
        (1e-3, 0.2, 0.9, 0.336324, 0.335613),
        (1e-3, 1, 0, 0.017841, 0.022366),
    ]:
        assert lion_norm(lr, weight_decay, 100, beta1, exact=False) == pytest.approx(10 * line, rel=2e-5)
        assert lion_norm(lr, weight_decay, 100, beta1) == pytest.approx(10 * exact, rel=2e-5)
    g = math.sqrt(255)  # 256 numbers of size 1, but one direction is along w
    assert sgdm_norm(0.1, 5e-3, 0.0, g) == pytest.approx(7.1062, abs=1e-4)
    assert sgdm_norm(0.1, 5e-3, 0.9, g) == pytest.approx(12.637, abs=1e-3)
    assert sgdm_norm(0.1, 5e-4, 0.9, g) == pytest.approx(22.472, abs=1e-3)


def test_rotation_is_the_angle_of_the_triangle():
    w, shrink, size, cosine = np.array([2.0, 0.0]), 0.1, 0.3, -0.4
    u = size * 2 * np.array([cosine, math.sqrt(1 - cosine**2)])
    after = (1 - shrink) * w - u
    assert rotation(shrink, size, cosine) == pytest.approx(math.acos(after @ w / np.linalg.norm(after) / 2))
    assert rotation(0.5e-4, 1e-2) == pytest.approx(1e-2, rel=1e-4)


def test_no_decay_has_no_balance():
    assert math.isinf(balance(0.1, 0.0)) and math.isinf(time_constant(0.0))
    assert math.isinf(balance_with_momentum(0.1, 0.0, 0.1)) and math.isinf(balance_with_momentum(0.1, 0, exact=False))
    assert mean_cosine(0.1, 0.0, 0.1) == 0
    grown = predicted_norms(1.0, np.full(100, 0.1), 0.0, 2.0) ** 2
    assert grown[-1] == pytest.approx(1 + 100 * 0.01 * 2)


def test_a_tiny_shrink_keeps_its_digits():
    assert balance(1e-9, 1e-18) == pytest.approx(0.5)
    assert time_constant(1e-18) == pytest.approx(5e17)


def test_what_cannot_be_is_refused():
    for shrink in (1.0, -0.1, 2.0):
        with pytest.raises(ClipeduError, match="shrink"):
            balance(0.1, shrink)
        with pytest.raises(ClipeduError, match="shrink"):
            time_constant(shrink)
    with pytest.raises(ClipeduError, match="sequence"):
        predicted_norms(1.0, 0.1, 0.1, 1.0)
