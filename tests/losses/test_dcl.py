import math

import pytest
import torch

from clipedu.losses import build_loss

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, answer",
    [
        ("A", "2.238009667 6.278900799 7.274897886 -4.324591682 3.089425804 3.099166456 4.462837572"),
        ("A6", "11.99041334 8.188143453 8.09609092 3.927537682 0.1363416797 2.560238303 2.427494615"),
        ("C", "-6.706869369 4.772011422 6.297800296 3.757953916 3.799778655 2.403878549 3.533614869"),
    ],
)
def test_value_and_gradients(data, answer):
    x, y = oracle_set(data)
    assert_close(Probe("dcl", temperature=0.07).step(x, y, torch.arange(len(x))), numbers(answer))


def test_collapse_costs_log_of_the_number_of_negatives():
    assert build_loss("dcl")(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(math.log(3), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    s, size, tau = cosines(x, y), 5, 0.2
    rows = columns = 0.0
    for i in range(size):
        rows -= math.log(math.exp(s[i][i] / tau) / sum(math.exp(s[i][j] / tau) for j in range(size) if j != i))
        columns -= math.log(math.exp(s[i][i] / tau) / sum(math.exp(s[j][i] / tau) for j in range(size) if j != i))
    terms = build_loss("dcl", temperature=tau)(x, y, torch.arange(size)).terms
    assert_close(terms["image_to_text"], rows / (2 * size), rtol=1e-12)
    assert_close(terms["text_to_image"], columns / (2 * size), rtol=1e-12)


def test_won_pairs_keep_their_gradient():
    x, y = oracle_set("C")
    dcl, clip = (build_loss(name, temperature=0.01).pair_weights(x, y, torch.arange(5)) for name in ("dcl", "clip"))
    assert_close(dcl.diagonal(), [-1 / (5 * 0.01)] * 5, rtol=1e-12)
    assert clip.abs().max() < 1e-9
