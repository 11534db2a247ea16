import math

import pytest
import torch

from clipedu.losses import build_loss

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, temperature, answer",
    [
        ("A", 0.07, "5.319737483 4.598114365 6.651588037 -6.030511196 4.252769165 2.212264776 6.611746277"),
        ("A", 0.01, "36.82494969 33.05687583 48.64707429 -43.31432142 32.21729105 16.43752673 47.44712502"),
        ("A6", 0.07, "12.92902999 8.009291655 7.593518741 4.210212506 -0.1450941117 2.716534183 2.281154794"),
        ("A6", 0.01, "89.47839453 55.11197225 52.86408993 28.4123052 -0.6412336113 18.84900569 15.7529393"),
        ("C", 0.07, "0.004373512846 0.047361063 0.04775647659 0.02369971542 0.0163192706 0.02309614959 0.03199444965"),
    ],
)
def test_value_and_gradients(data, temperature, answer):
    x, y = oracle_set(data)
    assert_close(Probe("clip", temperature=temperature).step(x, y, torch.arange(len(x))), numbers(answer))


def test_won_pairs_have_no_gradient_left():
    x, y = oracle_set("C")
    measured = Probe("clip", temperature=0.01).step(x, y, torch.arange(5))
    answer = "2.088995643e-13 2.958435608e-11 2.611382529e-11 1.192403722e-11 5.705480204e-12 1.310013976e-11"
    assert_close(measured, numbers(answer + " 1.815128661e-11"), rtol=0, atol=5e-15)


def test_pair_weights_of_the_heat_map():
    weights = build_loss("clip", temperature=0.07).pair_weights(*oracle_set("A"), ROWS)
    answer = [
        [-3.159695945, 3.189106007, 1.776260904, 1.558777722e-10],
        [3.169355563, -3.199672677, 8.317125741e-06, 2.625830950e-12],
        [1.766650967e-03, 2.484347983e-05, -3.571427915, 1.783939511],
        [2.537506106e-12, 3.964888460e-12, 1.035783253e-02, -2.309238425e-05],
    ]
    assert_close(weights, answer)


def test_collapse_costs_log_b():
    assert build_loss("clip")(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(math.log(4), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    s, size, tau = cosines(x, y), 5, 0.2
    rows = columns = 0.0
    for i in range(size):
        rows -= math.log(math.exp(s[i][i] / tau) / sum(math.exp(s[i][j] / tau) for j in range(size)))
        columns -= math.log(math.exp(s[i][i] / tau) / sum(math.exp(s[j][i] / tau) for j in range(size)))
    output = build_loss("clip", temperature=tau)(x, y, torch.arange(size))
    assert_close(output.total, (rows + columns) / (2 * size), rtol=1e-12)
    assert_close(output.terms["image_to_text"], rows / (2 * size), rtol=1e-12)
    assert_close(output.terms["text_to_image"], columns / (2 * size), rtol=1e-12)


def test_a_constant_added_to_every_similarity_changes_nothing():
    loss = build_loss("clip", temperature=0.07)
    similarity = torch.rand(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before, after = loss.objective(similarity), loss.objective(similarity + 0.3)
    for name in before:
        assert_close(before[name], after[name], rtol=1e-12)


def test_push_is_at_most_one_over_temperature():
    x, y = random_pairs(3, size=8)
    weights = build_loss("clip", temperature=0.01).pair_weights(x, -x, torch.arange(8))  # every pair as wrong as can be
    assert weights.clamp(min=0).sum().item() == pytest.approx(100, rel=1e-6)
    assert build_loss("clip", temperature=0.01).pair_weights(x, y, torch.arange(8)).clamp(min=0).sum() < 100
