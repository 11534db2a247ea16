"""Rank correlation against scipy, share of wins against scikit-learn, and Student's interval by hand and by what it promises."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from clipedu.utils.statistics import geometric_interval, interval, rank_correlation, share_of_wins, student_ends


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_scipys_with_ties_and_along_the_last_axis(seed):
    noise = np.random.default_rng(seed)
    x = (2 * noise.normal(size=(5, 12))).round()  # many ties
    y = (x + noise.normal(size=(5, 12))).round()
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(rank_correlation(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(rank_correlation(x, np.exp(x)), 1)
    np.testing.assert_allclose(rank_correlation(x, -x), -1)


def test_rank_correlation_of_no_order_is_zero():
    assert rank_correlation(np.ones(6), np.arange(6)) == 0
    assert rank_correlation(np.arange(6), np.zeros(6)) == 0


def test_rank_correlation_takes_tensors():
    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])
    np.testing.assert_allclose(rank_correlation(x, torch.arange(3).expand(2, 3)), [1.0, 0.5])


@pytest.mark.parametrize("digits", [0, 6], ids=["many ties", "few ties"])
def test_share_of_wins_is_the_area_under_the_roc_curve(digits):
    noise = np.random.default_rng(0)
    one, other = (noise.normal(mean, size=size).round(digits) for mean, size in ((0.5, 30), (0, 70)))
    expected = roc_auc_score(np.repeat([1, 0], [30, 70]), np.concatenate([one, other]))
    assert share_of_wins(one, other) == pytest.approx(expected, abs=1e-12)
    assert share_of_wins(other, one) == pytest.approx(1 - expected, abs=1e-12)


def test_interval_typed_out():
    mean, half = interval([1.0, 2.0, 6.0])
    assert mean == 3.0 and half == pytest.approx(4.302653 * math.sqrt(7.0) / math.sqrt(3), rel=1e-6)
    assert interval([5.0])[0] == 5.0 and math.isnan(interval([5.0])[1])
    assert interval([2.0, 2.0, 2.0]) == (2.0, 0.0)


def test_interval_holds_the_truth_in_nineteen_of_twenty():
    noise = np.random.default_rng(0)
    hits = [abs(mean) <= half for mean, half in (interval(noise.normal(size=3)) for _ in range(2000))]
    assert 0.935 < np.mean(hits) < 0.965


def test_interval_of_nothing():
    assert all(math.isnan(value) for value in interval([]))


def test_ends_of_the_interval():
    mean, half = interval([1.0, 2.0, 4.0])
    assert student_ends(pd.Series([1.0, 2.0, 4.0])) == pytest.approx((mean - half, mean + half))
    assert student_ends(pd.Series([3.0])) == (3.0, 3.0)


def test_a_geometric_interval_is_that_of_the_logarithms():
    middle, low, high = geometric_interval([0.5, 1.0, 8.0])
    mean, half = interval(np.log([0.5, 1.0, 8.0]).tolist())
    assert middle == pytest.approx(4 ** (1 / 3)) and (low, high) == pytest.approx(
        (math.exp(mean - half), math.exp(mean + half))
    )
    assert geometric_interval([2.0])[0] == pytest.approx(2) and math.isnan(geometric_interval([2.0])[1])
