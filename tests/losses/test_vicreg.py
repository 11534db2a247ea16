import math

import pytest
import torch
from torch.nn.functional import normalize

from clipedu.losses import build_loss
from clipedu.losses.vicreg import covariance, invariance, variance
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, assert_close, checksum, gradients, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, answer",
    [
        ("A", "14.09026542 7.297285975 7.933907851 -8.82447282 10.7139266"),
        ("A6", "32.5134282 8.000294855 8.225581672 0.498382811 -0.9064432511"),
        ("C", "7.128804138 4.559859099 3.857405146 -0.6273176903 1.2157519"),
    ],
)
def test_value_and_gradients_on_raw_rows(data, answer):
    x, y = oracle_set(data)
    total, gx, gy = gradients(build_loss("vicreg"), x, y, torch.arange(len(x)))
    assert_close([total, gx.norm(), gy.norm(), checksum(gx), checksum(gy)], numbers(answer))


@pytest.mark.parametrize(
    "data, answer",
    [
        ("A", "19.3141011 7.869270056 8.284264753 -9.415587256 10.72710953 3.455813804 5.140319728"),
        ("A6", "23.15422796 4.475195298 4.520268482 -0.06612319378 -0.4602256987 1.828627717 1.684527919"),
        ("C", "11.70865616 3.132727227 3.180606076 0.478661298 2.378114581 1.083333651 1.097969043"),
    ],
)
def test_value_and_gradients_on_normalised_rows(data, answer):
    x, y = oracle_set(data)
    index = torch.arange(len(x))
    total, gx, gy = gradients(build_loss("vicreg"), normalize(x), normalize(y), index)
    _, rx, ry = gradients(lambda a, b, i: build_loss("vicreg")(normalize(a), normalize(b), i), x, y, index)
    measured = [total, gx.norm(), gy.norm(), checksum(gx), checksum(gy), rx.norm(), ry.norm()]
    assert_close(measured, numbers(answer))


def test_collapse_costs_24_75():
    assert build_loss("vicreg")(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(24.75, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_terms_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    size, dim = 5, 3
    pull = sum((x[i, d] - y[i, d]).item() ** 2 for i in range(size) for d in range(dim)) / (size * dim)
    hinge, shared = [], []
    for z in (x, y):
        mean = [sum(z[i, d].item() for i in range(size)) / size for d in range(dim)]
        cov = [
            [
                sum((z[i, d].item() - mean[d]) * (z[i, e].item() - mean[e]) for i in range(size)) / (size - 1)
                for e in range(dim)
            ]
            for d in range(dim)
        ]
        hinge.append(sum(max(0.0, 1 - math.sqrt(cov[d][d] + 1e-4)) for d in range(dim)) / dim)
        shared.append(sum(cov[d][e] ** 2 for d in range(dim) for e in range(dim) if d != e) / dim)
    assert_close([invariance(x, y), variance(x), variance(y)], [pull, *hinge], rtol=1e-12)
    assert_close([covariance(x), covariance(y)], shared, rtol=1e-12)
    terms = build_loss("vicreg", invariance=3, variance=5, covariance=7)(x, y, torch.arange(size)).terms
    assert_close(terms["invariance"], 3 * pull, rtol=1e-12)
    assert_close(terms["variance"], 5 * sum(hinge) / 2, rtol=1e-12)
    assert_close(terms["covariance"], 7 * sum(shared), rtol=1e-12)


def test_a_common_shift_of_both_sides_changes_nothing():
    x, y = random_pairs(0)
    shift = torch.tensor([5.0, -2.0, 0.5], dtype=torch.float64)
    loss = build_loss("vicreg")
    before, after = loss(x, y, torch.arange(5)).total, loss(x + shift, y + shift, torch.arange(5)).total
    assert_close(before, after, rtol=1e-12)


def test_length_matters_since_rows_are_raw():
    x, y = random_pairs(0)
    loss = build_loss("vicreg")
    assert loss(x, y, torch.arange(5)).total != loss(2 * x, y, torch.arange(5)).total


def test_pair_weights_say_why_there_are_none():
    with pytest.raises(ClipeduError, match="never compares image i with text j.*covariance"):
        build_loss("vicreg").pair_weights(*oracle_set("A"), ROWS)
