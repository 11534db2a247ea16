"""What a tracker is opened with."""

from pathlib import Path

from clipedu.trackers.base import MARKS, Opening


def test_a_log_is_new_unless_something_was_sent():
    opening = Opening(Path("run"), "run-1", {})
    assert (opening.step, opening.sent) == (0, {}) and set(MARKS) == {"history", "validation", "final"}
