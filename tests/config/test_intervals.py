"""Intervals: steps, epochs and minutes, in one form."""

import pytest

from clipedu import ClipeduError, Experiment
from clipedu.config.experiment import HOW
from clipedu.config.intervals import Interval, interval_word, parse_interval


@pytest.mark.parametrize(
    ("value", "interval", "word"),
    [
        (200, Interval(200, "step"), 200),
        (" 200 steps", Interval(200, "step"), 200),
        ("1min", Interval(1.0, "min"), "1min"),
        ("30 S", Interval(0.5, "min"), "30s"),
        ("1.5h", Interval(90.0, "min"), "1.5h"),
        ("2epochs", Interval(2.0, "epoch"), "2epochs"),
    ],
)
def test_what_is_read_and_kept(value, interval, word):
    assert parse_interval(value, ("time", "epoch")) == interval and interval_word(value) == word
    assert parse_interval(word, ("time", "epoch")) == interval


@pytest.mark.parametrize("value", ["", "0min", "-1", "1.5", "1e3", "inf", "nan min", "1 week", "²", "1epoch", "9" * 20])
def test_what_is_none(value):
    with pytest.raises(ValueError, match=r"must be a number of steps \(200\) or minutes \(1min"):
        parse_interval(value, ("time",))


def test_in_steps():
    assert parse_interval("0.5epoch", ("epoch",)).steps(9) == 4
    assert parse_interval("0.01epoch", ("epoch",)).steps(9) == 1
    assert parse_interval(7, ()).steps(9) == 7 and parse_interval("1s", ("time",)).steps(9) is None


def test_as_settings():
    assert Experiment(checkpoint_every="200") == Experiment(checkpoint_every=200)
    assert Experiment(evaluate_every="1 epoch").evaluate_every == "1epoch"
    for wrong in ({"checkpoint_every": "1epoch"}, {"evaluate_every": "1min"}, {"checkpoint_every": 1.5}):
        with pytest.raises(ClipeduError, match=f"{next(iter(wrong))}=.* must be a"):
            Experiment(**wrong)
    assert {"checkpoint_every", "keep_checkpoints", "evaluate_every", "norms_every", "track"} == set(HOW)
