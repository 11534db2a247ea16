"""K, the factor by which memory makes updates count more than once: tables, a naive sum, and real optimizers' memories."""

import math

import pytest
import torch

from clipedu.norms.contribution import Memory, average, contribution_factor, fade_of, heavy_ball, lion, nesterov
from clipedu.optim.scion import effective_step
from clipedu.utils.errors import ClipeduError

MEMORIES = [
    average(0.1),
    average(0.6),
    nesterov(0.9),
    heavy_ball(0.8),
    heavy_ball(0.8, 0.3),
    lion(0.9, 0.99),
    lion(0, 0.9),
]
ALPHAS = (0.5, 0.2, 0.1, 0.05, 0.02)


def weights_of(memory, lags=4000):
    return [memory.newest] + [memory.older * memory.fade**k for k in range(lags)]


@pytest.mark.parametrize(
    "normaliser, shape, factors, within",
    [
        ("vector", None, (3, 9, 19, 39, 99), 1e-12),
        ("adam", None, (3, 9, 19, 39, 99), 1e-12),
        ("sign", None, (2.3072, 6.3886, 13.279, 27.112, 68.672), 5e-5),
        ("polar", (32, 32), (2.457, 6.997, 14.65, 29.99, 76.1), 0.01),
        ("polar", (64, 64), (2.467, 7.035, 14.73, 30.18, 76.5), 0.005),
        ("polar", (128, 128), (2.475, 7.068, 14.81, 30.33, 76.9), 0.007),
        ("polar", (64, 128), (2.762, 8.165, 17.21, 35.31, 89.6), 0.005),
        ("polar", (256, 64), (2.894, 8.630, 18.21, 37.37, 94.8), 0.005),
    ],
)
def test_factors_of_the_table(normaliser, shape, factors, within):
    for alpha, factor in zip(ALPHAS, factors, strict=True):
        assert contribution_factor(average(alpha), normaliser, shape) == pytest.approx(factor, rel=within)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("keep", [1.0, 0.97])
def test_the_factor_is_the_sum_of_correlations(memory, keep):
    weights = weights_of(memory, 400 if memory.fade < 0.95 else 3000)
    size = sum(w * w for w in weights)
    assert memory.squared_size == pytest.approx(size, rel=1e-10)
    assert memory.total == pytest.approx(sum(weights), rel=1e-10)
    plain = signs = 1.0
    for k in range(1, len(weights)):
        rho = sum(a * b for a, b in zip(weights, weights[k:], strict=False)) / size
        plain += 2 * keep**k * rho
        signs += 2 * keep**k * 2 / math.pi * math.asin(rho)
        if rho < 1e-13:
            break
    assert contribution_factor(memory, "vector", keep=keep) == pytest.approx(plain, rel=1e-9)
    assert contribution_factor(memory, "none", keep=keep) == pytest.approx(plain, rel=1e-9)
    assert contribution_factor(memory, "sign", keep=keep) == pytest.approx(signs, rel=1e-9)


@pytest.mark.parametrize("memory", MEMORIES)
def test_unnormalised_contributions_need_no_correlations(memory):
    """TUC of x itself is (sum of all weights)^2: K times the size says the same."""
    assert memory.squared_size * contribution_factor(memory, "none") == pytest.approx(memory.total**2)


def test_an_average_gives_everything_in_the_end():
    for memory in (average(0.3), nesterov(0.7), lion(0.9, 0.99)):
        assert memory.total == pytest.approx(1)
    assert heavy_ball(0.9).total == pytest.approx(10) == heavy_ball(0.9, nesterov=True).total
    assert heavy_ball(0.9, 0.9).total == pytest.approx(1)
    assert average(1.0) == Memory(1.0)


def steps_after_one_gradient(optimizer, parameter, steps=6):
    """What the weight moves by, step by step, if only the first gradient is 1 and lr is 1."""
    moved = []
    for t in range(steps):
        parameter.grad = torch.full_like(parameter, 1.0 if t == 0 else 0.0)
        before = parameter.detach().clone()
        optimizer.step()
        moved.append((before - parameter.detach()).item())
    return moved


@pytest.mark.parametrize(
    "options", [{"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}, {"momentum": 0.8, "dampening": 0.3}]
)
def test_heavy_ball_is_torchs_sgd(options):
    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    moved = steps_after_one_gradient(torch.optim.SGD([parameter], lr=1.0, **options), parameter)
    memory = heavy_ball(options["momentum"], options.get("dampening", 0), options.get("nesterov", False))
    if "dampening" in options:  # torch's very first gradient is not dampened
        moved = [0.7 * step for step in moved]
    assert moved == pytest.approx(weights_of(memory, 5))


def test_lion_and_nesterov_as_their_authors_write_them():
    m, looked = 0.0, []
    for g in (1.0, 0, 0, 0):
        looked.append(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    assert looked == pytest.approx(weights_of(lion(0.9, 0.99), 3))
    buffer, ahead = 0.0, []
    for g in (1.0, 0, 0, 0):
        buffer = 0.95 * buffer + 0.05 * g
        ahead.append(0.95 * buffer + 0.05 * g)
    assert ahead == pytest.approx(weights_of(nesterov(0.95), 3))


def test_the_effective_step_is_that_of_scion():
    for alpha in ALPHAS:
        assert math.sqrt(contribution_factor(average(alpha))) == pytest.approx(effective_step(1.0, alpha))
    assert math.sqrt(contribution_factor(nesterov(0.5))) == pytest.approx(1.309307, abs=1e-6)
    assert math.sqrt(contribution_factor(nesterov(0.9))) == pytest.approx(3.762708, abs=1e-6)


def test_a_polar_factor_is_between_signs_and_vectors():
    for alpha in ALPHAS:
        memory = average(alpha)
        sign, vector = (contribution_factor(memory, name) for name in ("sign", "vector"))
        wider = [contribution_factor(memory, "polar", (12, columns)) for columns in (12, 14, 24, 50, 100, 1000)]
        assert sign < wider[0] and wider == sorted(wider) and wider[-1] < vector
        assert contribution_factor(memory, "polar", (1000, 12)) == wider[-1]
        assert contribution_factor(memory, "polar", (1, 100_000)) == pytest.approx(vector, rel=1e-3)


def test_polar_correlations_by_monte_carlo():
    """Weights of powers against polar factors of correlated matrices."""
    from clipedu.norms.contribution import _POLAR_POWERS, _polar_weights

    torch.manual_seed(0)
    for rows in (32, 16):
        x, z = torch.randn(2, 60, rows, 32, dtype=torch.float64)
        weights = _polar_weights(rows / 32)
        assert sum(weights) == pytest.approx(1)
        for c in (0.3, 0.7, 0.9):
            y = c * x + math.sqrt(1 - c * c) * z
            (a, _, b), (d, _, e) = torch.linalg.svd(x, full_matrices=False), torch.linalg.svd(y, full_matrices=False)
            measured = ((a @ b) * (d @ e)).sum((1, 2)).mean().item() / rows
            fitted = sum(w * c**p for w, p in zip(weights, _POLAR_POWERS, strict=True))
            assert fitted == pytest.approx(measured, abs=0.012)


def test_no_memory_counts_once():
    for normaliser, shape in (("vector", None), ("sign", None), ("polar", (4, 4))):
        assert contribution_factor(average(1.0), normaliser, shape) == 1
    assert contribution_factor(heavy_ball(0.0)) == 1 == contribution_factor(lion(0.0, 0.99), "sign")


def test_fade_is_that_of_an_average():
    assert fade_of(19.0) == pytest.approx(0.9)
    assert fade_of(contribution_factor(average(0.2), keep=0.95), 0.95) == pytest.approx(0.8)


def test_what_cannot_be_is_refused():
    with pytest.raises(ClipeduError, match="vectr.*vector"):
        contribution_factor(average(0.1), "vectr")
    with pytest.raises(ClipeduError, match="shape"):
        contribution_factor(average(0.1), "polar")
    for alpha in (0, 1.1, -0.1):
        with pytest.raises(ClipeduError, match="alpha"):
            average(alpha)
