"""Scores on corrupted pictures, and their drops."""

import pytest

from clipedu import load_pairs
from clipedu.data.corruptions import corrupted
from clipedu.evaluation.robustness import corruption_scores, mean_drops
from clipedu.evaluation.scoring import evaluate
from clipedu.utils.errors import ClipeduError


@pytest.fixture(scope="module")
def sets():
    return [load_pairs("scenes", "val", size=30), load_pairs("scenes", "zeroshot", size=30)]


@pytest.fixture(scope="module")
def table(model, sets):
    return corruption_scores(model, sets, ["gaussian_noise", "occlusion"], (1, 5))


def test_each_row_is_what_evaluate_gives_for_the_corrupted_sets(table, model, sets):
    assert list(zip(table["corruption"], table["severity"], strict=True)) == [
        ("none", 0), ("gaussian_noise", 1), ("gaussian_noise", 5), ("occlusion", 1), ("occlusion", 5)
    ]  # fmt: skip
    for row, views in (
        (table.iloc[0], sets),
        (table.iloc[2], [corrupted(pairs, "gaussian_noise", 5) for pairs in sets]),
    ):
        right = evaluate(model, views[0]) | evaluate(model, views[1])
        for key in ("tr@1", "ir@1", "top1"):
            assert row[key] == pytest.approx(right[key])
        assert row["average"] == pytest.approx((row["tr@1"] + row["ir@1"] + row["top1"]) / 3)


def test_drops_are_from_the_clean_average(table):
    assert table["drop"][0] == 0
    assert (table["drop"] + table["average"]).tolist() == pytest.approx([table["average"][0]] * 5)
    drops = mean_drops(table).set_index("corruption")
    assert list(drops.index) == ["gaussian_noise", "occlusion", "all"]
    assert drops["drop"]["occlusion"] == pytest.approx(table["drop"][3:].mean())
    assert drops["drop"]["all"] == pytest.approx(table["drop"][1:].mean())
    assert drops["left"]["all"] == pytest.approx(drops["average"]["all"] / table["average"][0])


def test_nothing_is_left_of_nothing(table):
    assert mean_drops(table.assign(average=0.0))["left"].isna().all()


def test_one_set_alone_has_its_own_scores(model, sets):
    table = corruption_scores(model, sets[1:], ["blur"], (3,))
    assert "tr@1" not in table and table["average"].tolist() == table["top1"].tolist()


def test_what_cannot_be_is_said_before_anything_is_embedded(sets):
    for words, message in (
        ((["blur", "fog"], (1,)), "unknown corruption 'fog'"),
        ((["blur"], (7,)), "1 (slight) to 5 (strong), got 7"),
        ((["blur"], (1, 1)), "severities: 1 is given twice"),
        (([], (1,)), "corruptions: give at least one"),
        ((["blur"], ()), "severities: give at least one"),
    ):
        with pytest.raises(ClipeduError) as error:
            corruption_scores(None, sets, *words)
        assert message in str(error.value)
