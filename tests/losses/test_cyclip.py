import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, temperature, answer",
    [
        ("A", 0.07, "5.486515274 5.038238879 6.84034585 -6.489831831 3.823738325 2.555819364 7.362221696"),
        ("A", 0.01, "36.99172748 33.47771193 48.79291361 -43.77364205 31.78826021 16.74553579 48.16395747"),
        ("A6", 0.07, "14.42290957 9.029969519 8.68650001 4.2640016 -0.3158499359 2.978971189 2.466986151"),
        ("A6", 0.01, "90.97227411 56.08955317 53.83637194 28.46609429 -0.8119894355 19.10190876 15.83502105"),
        ("C", 0.07, "0.1718877485 0.5998643072 0.651271909 -0.1142557811 0.1956287853 0.4420776762 0.4188273977"),
        ("C", 0.01, "0.1675142357 0.5950227679 0.6116672509 -0.1379554965 0.1793095147 0.4360090264 0.3878684005"),
    ],
)
def test_value_and_gradients(data, temperature, answer):
    x, y = oracle_set(data)
    assert_close(Probe("cyclip", temperature=temperature).step(x, y, torch.arange(len(x))), numbers(answer))


def test_pair_weights_are_clip_plus_mirror_pairs():
    batch = (*oracle_set("A"), ROWS)
    extra = build_loss("cyclip", temperature=0.07).pair_weights(*batch) - build_loss(
        "clip", temperature=0.07
    ).pair_weights(*batch)
    answer = torch.zeros(4, 4, dtype=torch.float64)
    upper = "0.0010318171 0.1917430584 0.072511062 0.0516119174 -0.0076635441 0.0193429959"
    answer[tuple(torch.triu_indices(4, 4, 1))] = torch.tensor(numbers(upper), dtype=torch.float64)
    assert_close(extra, answer - answer.T, rtol=0, atol=1e-10)


def test_collapse_costs_log_b():
    assert build_loss("cyclip")(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(math.log(4), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    s, xx, yy, size = cosines(x, y), cosines(x, x), cosines(y, y), 5
    cross = in_modal = 0.0
    for j in range(size):
        for k in range(size):
            cross += (s[j][k] - s[k][j]) ** 2
            in_modal += (xx[j][k] - yy[j][k]) ** 2
    terms = build_loss("cyclip", temperature=0.2, cross=0.5, in_modal=2.0)(x, y, torch.arange(size)).terms
    assert_close(terms["cross"], 0.5 * cross / size, rtol=1e-12)
    assert_close(terms["in_modal"], 2.0 * in_modal / size, rtol=1e-12)
    assert_close(terms["clip"], build_loss("clip", temperature=0.2)(x, y, torch.arange(size)).total, rtol=1e-12)


def test_consistent_towers_cost_nothing_extra():
    x, _ = random_pairs(0)
    rotated = x @ torch.linalg.qr(random_pairs(1, size=3)[0]).Q  # the same distances among themselves
    assert build_loss("cyclip")(x, rotated, torch.arange(5)).terms["in_modal"] < 1e-28
    assert build_loss("cyclip")(x, 3 * x, torch.arange(5)).terms["cross"] < 1e-28


def test_negative_weight_is_refused():
    with pytest.raises(ClipeduError, match="cross must be a number >= 0, got -1"):
        build_loss("cyclip", cross=-1)
