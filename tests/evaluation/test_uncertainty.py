import itertools
import math

import pytest

from clipedu.evaluation.uncertainty import chance_levels, standard_errors

COURSE = {"retrieval_images": 5000, "retrieval_captions": 25009, "zeroshot_images": 50000, "zeroshot_classes": 1000}


def test_chance_of_the_course_is_that_of_its_sheet():
    chance = chance_levels({"tr@1": 13.18, "ir@1": 10.3, "top1": 24.55, "top5": 40.0, "average": 16.01, **COURSE})
    assert chance == pytest.approx({"tr@1": 0.02, "ir@1": 0.02, "top1": 0.1, "top5": 0.5, "average": 0.14 / 3})


def test_chance_of_text_retrieval_counts_all_draws():
    """3 images with 2 captions each: every choice of k of the 6 captions is tried."""
    metrics = {"tr@1": 0.0, "tr@2": 0.0, "tr@3": 0.0, "tr@5": 0.0, "retrieval_images": 3, "retrieval_captions": 6}
    chance = chance_levels(metrics)
    for k in (1, 2, 3, 5):
        draws = list(itertools.combinations(range(6), k))
        assert chance[f"tr@{k}"] == pytest.approx(100 * sum(0 in d or 1 in d for d in draws) / len(draws))


def test_chance_never_exceeds_all():
    counts = {"retrieval_images": 3, "retrieval_captions": 3, "zeroshot_images": 9, "zeroshot_classes": 4}
    assert chance_levels({"tr@10": 0, "ir@10": 0, "top5": 0, **counts}) == {"tr@10": 100, "ir@10": 100, "top5": 100}


def test_average_is_of_what_there_is():
    metrics = {"tr@1": 1.0, "ir@1": 2.0, "average": 1.5, "retrieval_images": 50, "retrieval_captions": 100}
    assert chance_levels(metrics)["average"] == pytest.approx(2.0)
    errors = standard_errors(metrics)
    assert errors["average"] == pytest.approx(math.hypot(errors["tr@1"], errors["ir@1"]) / 2)
    assert "alignment" not in standard_errors({**metrics, "alignment": 0.3, "modality_gap": 0.1})


def test_standard_errors_of_the_course_are_those_of_its_sheet():
    errors = standard_errors({"tr@1": 13.18, "ir@1": 10.3, "top1": 24.55, "average": 16.01, **COURSE})
    assert errors["tr@1"] == pytest.approx(0.478, abs=0.001)
    assert errors["ir@1"] == pytest.approx(0.43, abs=0.01)  # captions of an image stand or fall together
    assert errors["top1"] == pytest.approx(0.19, abs=0.005)
    assert errors["average"] == pytest.approx(0.225, abs=0.005)


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_no_score_is_certain(value):
    errors = standard_errors({"tr@1": value, "retrieval_images": 100, "retrieval_captions": 100})
    assert errors["tr@1"] == pytest.approx(100 * math.sqrt(0.01 * 0.99 / 100))
