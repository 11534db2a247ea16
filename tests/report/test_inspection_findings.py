"""What stands out in a model, in sentences."""

import pytest

from clipedu.report.inspection_findings import by_kind, findings, matrices
from clipedu.workflow.opening import Scale
from tests.report.inspected import inspected


def test_the_table_by_kind():
    rows = by_kind(inspected())
    assert rows == [
        ["a normalisation follows", "1", "0.91", "0.91", "0.91", "1 of 1"],
        ["no normalisation follows", "1", "1.82", "1.82", "1.82", "0 of 1"],
        ["output layer", "1", "2.73", "2.73", "2.73", "0 of 1"],
        ["not measured", "1", "4.55", "4.55", "4.55", "0 of 1"],
    ]
    assert len(matrices(inspected())) == 5


def test_each_finding():
    said = findings(inspected())
    for words in (
        "Λ = 2 Σ(lr λ) is 0.7: 50 % of the squared norms at the start is left. The run is too short",
        "Of 1 layer that a normalisation follows, 1 has a norm within 10 %",
        "Of 1 layer in all, 0 have",
        "The farthest from it is image_encoder.new.weight, at 4.55",
        "with the bias -10: at the largest that is allowed, 100. The loss would have it larger still.",
        "25 % of the squared distance of a pair is the gap",
        "8.3 % of the patches are outliers after block 1, the largest of 9.0 medians",
    ):
        assert any(words in line for line in said), words


@pytest.mark.parametrize(
    ("turns", "left", "words"),
    [(3.0, 0.05, "some time to set the norms, but they still depend"), (9.0, 1e-4, "whatever they were at the start")],
)
def test_how_long_a_run_was(turns, left, words):
    found = inspected()
    found.layers = found.layers.assign(turns=turns, left=left)
    assert words in findings(found)[0]


def test_scales_at_an_end_and_in_between():
    assert any("smallest that is allowed, 1" in line for line in findings(inspected(scale=Scale(1.0, learned=True))))
    assert "The logit scale is 20 (temperature 0.05), fixed." in findings(inspected(scale=Scale(20.0)))


def test_nothing_is_said_of_what_is_not_known():
    found = inspected(scale=None, scores={}, tokens=None)
    found.layers = found.layers.assign(turns=float("nan"), ratio=float("nan"))
    assert findings(found) == [] and by_kind(found) == []


def test_a_model_without_artifacts():
    found = inspected()
    found.tokens.table["outliers"] = 0.0
    assert any("No patch is an outlier" in line for line in findings(found))
