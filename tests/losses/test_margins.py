"""Negatives and margins against loops over pairs, in float64."""

import math

import pytest
import torch

from clipedu.losses.margins import log_mean_exp, log_sum_negatives, margins, off_diagonal, without_positives

from .oracle import assert_close


def matrix(seed: int, size: int = 5) -> torch.Tensor:
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_off_diagonal_keeps_the_order():
    m = matrix(0, size=4)
    expected = [[m[i, j].item() for j in range(4) if j != i] for i in range(4)]
    assert off_diagonal(m).tolist() == expected
    assert off_diagonal(torch.stack([m, 2 * m])).tolist() == [expected, [[2 * v for v in row] for row in expected]]
    assert off_diagonal(m[:2, :2]).shape == (2, 1)


def test_margins_of_images_and_of_texts():
    s = matrix(1)
    others = [[j for j in range(5) if j != i] for i in range(5)]
    images = [[(s[i, j] - s[i, i]).item() for j in others[i]] for i in range(5)]
    texts = [[(s[j, i] - s[i, i]).item() for j in others[i]] for i in range(5)]
    assert_close(margins(s), [images, texts], rtol=1e-15)


@pytest.mark.parametrize("scale", [1.0, 100.0, 5000.0])
def test_log_sum_of_negatives(scale):
    """Without a copy of the margins, and far beyond what exp can take."""
    z = scale * matrix(2)
    assert_close(log_sum_negatives(z), margins(z).logsumexp(-1), rtol=1e-12)
    if scale == 1:
        first = math.log(sum(math.exp(z[0, j] - z[0, 0]) for j in range(1, 5)))
        assert log_sum_negatives(z)[0, 0].item() == pytest.approx(first, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positives_are_left_out_of_sums_of_exponentials(dtype):
    z = matrix(3).to(dtype).requires_grad_()
    masked = without_positives(z)
    assert (masked.exp().diagonal() == 0).all() and torch.equal(off_diagonal(masked), off_diagonal(z))
    (gradient,) = torch.autograd.grad(masked.sum(), z)
    assert torch.equal(gradient, 1 - torch.eye(5, dtype=dtype))


def test_log_mean_exp():
    z = matrix(4)
    assert_close(log_mean_exp(z), z.exp().mean(-1).log(), rtol=1e-12)
    assert_close(log_mean_exp(z + 1000), log_mean_exp(z) + 1000, rtol=1e-12)
