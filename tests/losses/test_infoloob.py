import math

import pytest
import torch

from clipedu.losses import build_loss

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs


@pytest.mark.parametrize(
    "data, answer",
    [
        ("A", "0.3133213533 0.8790461119 1.018485704 -0.6054428354 0.4325196126 0.4338833039 0.6247972601"),
        ("A6", "1.678657868 1.146340083 1.133452729 0.5498552754 0.01908783515 0.3584333625 0.3398492461"),
        ("C", "-0.9389617117 0.6680815991 0.8816920415 0.5261135482 0.5319690117 0.3365429969 0.4947060817"),
    ],
)
def test_value_and_gradients(data, answer):
    x, y = oracle_set(data)
    assert_close(Probe("infoloob", temperature=0.07).step(x, y, torch.arange(len(x))), numbers(answer))


def test_collapse():
    value = build_loss("infoloob", temperature=0.07)(COLLAPSED, COLLAPSED, ROWS).total.item()
    assert value == pytest.approx(2 * 0.07 * math.log(3), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_against_a_naive_loop(seed):
    x, y = random_pairs(seed)
    s, size, tau = cosines(x, y), 5, 0.2
    rows = sum(
        tau * math.log(sum(math.exp((s[i][j] - s[i][i]) / tau) for j in range(size) if j != i)) for i in range(size)
    )
    columns = sum(
        tau * math.log(sum(math.exp((s[j][i] - s[i][i]) / tau) for j in range(size) if j != i)) for i in range(size)
    )
    terms = build_loss("infoloob", temperature=tau)(x, y, torch.arange(size)).terms
    assert_close([terms["image_to_text"], terms["text_to_image"]], [rows / size, columns / size], rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_three_papers_one_gradient(seed):
    batch = (*random_pairs(seed), torch.arange(5))
    infoloob = build_loss("infoloob", temperature=0.05).pair_weights(*batch)
    assert_close(infoloob, 0.1 * build_loss("dcl", temperature=0.05).pair_weights(*batch), rtol=1e-12)
    assert_close(infoloob, build_loss("sogclr", temperature=0.05, num_samples=5).pair_weights(*batch), rtol=1e-10)
    on_clips_scale = build_loss("infoloob", temperature=0.05, scale="clip").pair_weights(*batch)
    assert_close(on_clips_scale, build_loss("dcl", temperature=0.05).pair_weights(*batch), rtol=1e-12)
