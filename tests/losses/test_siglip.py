import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, temperature, bias, answer",
    [
        ("A", 0.1, -10, "6.191691055 3.413984555 3.791336775 -2.984769699 4.042472509 1.660900952 2.635709123"),
        ("A", 0.07, 0, "12.50915532 8.106302887 8.062269912 -5.071774391 0.9591123429 3.125106499 4.73735062"),
        ("A6", 0.1, -10, "10.45633264 4.404324291 4.141115054 1.320408183 -0.2708290475 1.865116592 1.545845222"),
        ("C", 0.1, -10, "0.907824463 2.594698682 2.609452183 0.9308291749 1.536894429 0.5747595483 0.5633184504"),
    ],
)
def test_value_and_gradients(data, temperature, bias, answer):
    probe = Probe("siglip", temperature=temperature, bias=bias)
    for loss in probe.both:  # the start in float64 digits
        loss.logit_scale.data.fill_(-math.log(temperature))
    x, y = oracle_set(data)
    assert_close(probe.step(x, y, torch.arange(len(x))), numbers(answer))


def test_pair_weights_of_the_heat_map():
    loss = build_loss("siglip").double()
    loss.logit_scale.data.fill_(math.log(10))
    weights = loss.pair_weights(*oracle_set("A"), ROWS)
    assert_close(weights.diagonal(), [-2.155098447, -2.178342388, -2.499999983, -1.472125115])
    assert_close([weights[0, 1], weights[1, 0], weights[0, 2]], [1.012208517, 0.9874473127, 9.110028546e-03])
    assert loss.logit_scale.grad is None and loss.bias.grad is None


def test_collapse_costs_b_log_2():
    assert build_loss("siglip")(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(4 * math.log(2), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    s, size = cosines(x, y), 5
    loss = build_loss("siglip", bias=-3.0).double()
    loss.logit_scale.data.fill_(math.log(4.0))
    positives = sum(math.log(1 + math.exp(-(4 * s[i][i] - 3))) for i in range(size))
    negatives = sum(math.log(1 + math.exp(4 * s[i][j] - 3)) for i in range(size) for j in range(size) if i != j)
    terms = loss(x, y, torch.arange(size)).terms
    assert_close([terms["positives"], terms["negatives"]], [positives / size, negatives / size], rtol=1e-12)


def test_scale_and_bias_learn():
    x, y = random_pairs(0)
    loss = build_loss("siglip").double()
    before = loss(x, y, torch.arange(5)).total
    before.backward()
    assert len(list(loss.parameters())) == 2
    for parameter in loss.parameters():
        assert parameter.grad.abs() > 1e-3
        parameter.data -= 1e-3 * parameter.grad
    assert loss(x, y, torch.arange(5)).total < before


def test_bias_must_be_a_number():
    with pytest.raises(ClipeduError, match="bias must be a number, got 'low'"):
        build_loss("siglip", bias="low")
