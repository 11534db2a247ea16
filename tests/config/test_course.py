import math

import pytest
from scipy.stats import spearmanr

from clipedu.config.course import course_benchmarks, course_table, display_name, in_course_order, rank_correlation


def averages():
    table = course_table()
    return dict(zip(zip(table["loss"], table["optimizer"], strict=True), table["average"], strict=True))


def test_the_table_is_five_losses_by_three_optimizers_in_the_published_order():
    table = course_table()
    assert len(table) == 15 and not table.duplicated(["loss", "optimizer"]).any()
    assert list(table["optimizer"].unique()) == ["adamw", "sgd", "adam"]
    assert list(table["loss"][:5]) == ["sogclr", "clip", "cyclip", "vicreg", "onlineclr"]


def test_exactly_the_two_wrong_averages_are_corrected():
    table = course_table().set_index(["optimizer", "loss"])
    wrong = table[table["corrected"]]
    assert set(wrong.index) == {("adamw", "sogclr"), ("adamw", "clip")}
    assert wrong["printed"].to_dict() == {("adamw", "sogclr"): 16.68, ("adamw", "clip"): 14.81}
    assert wrong["average"].round(2).to_dict() == {("adamw", "sogclr"): 16.01, ("adamw", "clip"): 14.15}


def test_all_other_printed_averages_follow_from_their_row():
    right = course_table()[~course_table()["corrected"]]
    assert (right["average"] - right["printed"]).abs().max() < 0.0051
    assert not course_benchmarks()["corrected"].any()


def test_every_average_is_the_mean_of_its_three_scores():
    for row in course_table().itertuples():
        assert row.average == pytest.approx((row[3] + row[4] + row[5]) / 3, abs=1e-12)
    assert averages()[("onlineclr", "adam")] == pytest.approx((0.02 + 0.02 + 0.1) / 3)  # a constant model's scores


def test_the_correction_leaves_the_ranking_as_it_was():
    table = course_table()
    assert list(table.sort_values("average").index) == list(table.sort_values("printed").index)


def test_only_cyclip_passes_the_better_benchmark():
    table, best = course_table(), course_benchmarks()["average"].max()
    assert list(table[table["average"] > best]["loss"]) == ["cyclip"]


def test_rank_correlation_sees_order_alone():
    same = averages()
    assert rank_correlation(same) == (pytest.approx(1.0), 15)
    assert rank_correlation({cell: math.exp(value) for cell, value in same.items()})[0] == pytest.approx(1.0)
    assert rank_correlation({cell: -value for cell, value in same.items()})[0] == pytest.approx(-1.0)


def test_rank_correlation_equals_scipy_with_ties_and_missing_and_foreign_cells():
    theirs = averages()
    ours = {cell: float((7 * place) % 5) for place, cell in enumerate(theirs)}  # many ties
    ours.pop(("clip", "sgd"))
    shared = list(ours)
    expected = spearmanr([ours[cell] for cell in shared], [theirs[cell] for cell in shared]).statistic
    ours |= {("siglip", "adamw"): 99.0, ("clip", "sgd"): math.nan}
    rho, cells = rank_correlation(ours)
    assert cells == 14 and rho == pytest.approx(expected, abs=1e-12) and abs(rho) < 0.99


@pytest.mark.parametrize("ours", [{}, {("clip", "adamw"): 3.0}, {("clip", "adamw"): 3.0, ("clip", "sgd"): 3.0}])
def test_no_order_no_correlation(ours):
    rho, cells = rank_correlation(ours)
    assert math.isnan(rho) and cells == len(ours)


def test_names_and_order():
    assert [display_name(name) for name in ("cyclip", "sgd", "siglip")] == ["CyCLIP", "SGD", "siglip"]
    assert in_course_order(["zzz", "clip", "abc", "sogclr", "clip"]) == ["sogclr", "clip", "abc", "zzz"]
    assert in_course_order(["adam", "lion", "sgd", "adamw"]) == ["adamw", "sgd", "adam", "lion"]
