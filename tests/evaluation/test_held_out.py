"""What is said of test sets that were trained on."""

from types import SimpleNamespace

from clipedu.data.overlap import Shared
from clipedu.evaluation.held_out import trained_counts, trained_lines, trained_lines_of
from clipedu.evaluation.metrics import TRAINED

VAL, ZEROSHOT = SimpleNamespace(split="val"), SimpleNamespace(split="zeroshot")
SIZES = {"retrieval_images": 1000, "zeroshot_images": 50}


def lines(pairs, found):
    return trained_lines(trained_counts(pairs, found) | SIZES)


def test_only_what_was_trained_on_is_counted():
    assert (
        trained_counts(VAL, None) == {} == trained_counts(VAL, Shared(0, 0)) == trained_counts(ZEROSHOT, Shared(0, 0))
    )
    found = trained_counts(VAL, Shared(2, 3)) | trained_counts(ZEROSHOT, Shared(0, 3))
    assert tuple(found) == TRAINED and list(found.values()) == [2, 3, 3]


def test_lines():
    assert lines(VAL, Shared(0, 0)) == [] == trained_lines({})
    assert lines(VAL, Shared(1, 1)) == ["1 of 1,000 pairs to score on is also trained on"]
    assert lines(VAL, Shared(12, 15)) == [
        "12 of 1,000 pairs to score on are also trained on",
        "15 of 1,000 pictures to score on are also trained on",
    ]
    (line,) = lines(VAL, Shared(1000, 1000))
    assert line.startswith("all 1,000 pairs to score on are also trained on: these scores do not tell")
    assert lines(ZEROSHOT, Shared(0, 3)) == ["3 of 50 zero-shot pictures are also trained on"]


def test_lines_of_several_runs():
    def run(name, found):
        return SimpleNamespace(name=name, metrics=trained_counts(VAL, found) | SIZES)

    assert trained_lines_of([run("a", Shared(2, 2)), run("b", Shared(2, 2))]) == lines(VAL, Shared(2, 2))
    assert trained_lines_of([run("a", Shared(2, 2)), run("b", Shared(0, 0))]) == [lines(VAL, Shared(2, 2))[0] + " (a)"]
    assert trained_lines_of([]) == []
