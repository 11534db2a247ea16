"""Share, tilt and peak of planted surfaces, for which the answer is known."""

import math

import numpy as np
import pytest

from clipedu.studies.surfaces import peak, share_near_best, tilt

RATES, DECAYS = np.geomspace(1e-4, 1, 81), np.geomspace(1e-6, 1, 101)


def grid(x=RATES, y=DECAYS):
    at_y, at_x = np.meshgrid(np.log(y), np.log(x), indexing="ij")
    return at_x - np.log(x).mean(), at_y - np.log(y).mean()


def test_share_counts_what_is_within_nine_tenths():
    assert share_near_best([[10.0, 9.0], [8.99, np.nan]]) == 0.5
    assert share_near_best([10.0, 9.0], best=20.0) == 0.0
    assert math.isnan(share_near_best([0.0, np.nan]))


def test_a_product_has_no_tilt_whatever_its_factors():
    noise = np.random.default_rng(0)
    for _ in range(5):
        f, g = noise.uniform(0, 30, 7), noise.uniform(0, 30, 5)
        assert tilt(np.outer(g, f), np.geomspace(1e-3, 1, 7), [1e-5, 1e-3, 1e-2, 0.5, 7.0]) == pytest.approx(
            0, abs=1e-12
        )


@pytest.mark.parametrize("correlation", [-0.9, -0.4, 0.0, 0.6])
def test_tilt_of_a_log_quadratic_surface_is_its_correlation(correlation):
    x, y = grid()
    x, y = x / 1.0, y / 1.5
    form = (x**2 - 2 * correlation * x * y + y**2) / (1 - correlation**2)
    assert tilt(20 * np.exp(-form / 2), RATES, DECAYS) == pytest.approx(correlation, abs=0.01)


def test_where_the_product_alone_counts_the_tilt_is_negative():
    x, y = grid()
    band = np.exp(-((x + y) ** 2) / 2)  # a band to the ends of the grid
    assert tilt(band, RATES, DECAYS) < -0.95
    assert tilt(band[:, ::-1], RATES, DECAYS) > 0.95


def test_tilt_does_not_depend_on_units_or_on_which_axis_is_which():
    scores = np.random.default_rng(1).uniform(0, 10, (4, 6))
    x, y = np.geomspace(1e-3, 1, 6), np.geomspace(1e-5, 1e-1, 4)
    first = tilt(scores, x, y)
    assert tilt(3 * scores, 10 * x, y**2) == pytest.approx(first) and tilt(scores.T, y, x) == pytest.approx(first)
    weight = scores**4 / (scores**4).sum()
    pairs = np.array([(np.log(a), np.log(b)) for b in y for a in x])
    covariance = np.cov(pairs.T, aweights=weight.ravel(), ddof=0)
    assert first == pytest.approx(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))


def test_tilt_of_one_row_or_of_nothing_is_unknown():
    assert math.isnan(tilt([[1.0, 2.0]], [1, 2], [1])) and math.isnan(tilt([[np.nan, 0.0]], [1, 2], [1]))


def test_peak_of_a_parabola_is_its_top():
    x = np.array([0.001, 0.002, 0.004, 0.008, 0.016])
    for top in (0.0021, 0.004, 0.0075):
        found = peak(x, 30 - np.log(x / top) ** 2)
        assert found.at == pytest.approx(top) and found.inside
    uneven = [0.001, 0.002, 0.01, 0.02]
    assert peak(uneven, [30 - math.log(value / 0.003) ** 2 for value in uneven]).at == pytest.approx(0.003)


def test_peak_at_an_end_says_so_and_failed_runs_are_the_worst():
    assert peak([1, 2, 4], [3.0, 2.0, 1.0]) == peak([1, 2, 4], [3.0, 2.0, np.nan])
    assert peak([1, 2, 4], [3.0, 2.0, 1.0]).at == 1 and not peak([1, 2, 4], [1.0, 2.0, 3.0]).inside
    assert math.isnan(peak([1, 2, 4], [np.nan] * 3).at)
    assert peak([1, 2, 4], [5.0, 5.0, 5.0]).at == 1
    assert 2 < peak([1, 2, 4, 8], [np.nan, 4.0, 5.0, 4.0]).at <= 4.001
