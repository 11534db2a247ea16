"""The barrier on a line: the lowest point under the straight line between the ends."""

import pytest

from clipedu.evaluation.barrier import Barrier, barrier, barrier_text
from tests.helpers.errors import message_of


def test_the_lowest_point_under_the_line():
    found = barrier([0, 0.25, 0.5, 0.75, 1], [40.0, 44.0, 30.0, 50.0, 60.0])
    assert found == Barrier(height=20.0, t=0.5, score=30.0, line=50.0)


def test_ends_of_different_height_count_by_the_line_not_by_the_lower_end():
    assert barrier([0, 0.5, 1], [0.0, 20.0, 100.0]).height == 30
    assert barrier([0, 0.5, 1], [10.0, 12.0, 10.0]).height == -2  # above the line: no barrier
    assert barrier([0, 0.5, 1], [10.0, 10.0, 10.0]).height == 0


def test_two_points_have_no_barrier():
    assert "2 points have none between the ends" in message_of(barrier, [0, 1], [1.0, 2.0])


@pytest.mark.parametrize(
    ("height", "words"),
    [
        (-1.5, "lies 1.50 points above the line: there is no barrier"),
        (1.0, "none is to be seen"),
        (9.0, "worse than a mean"),
    ],
)
def test_in_words(height, words):
    assert words in barrier_text(Barrier(height, 0.5, 30 - height, 30.0), error=1.0)
