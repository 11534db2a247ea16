import math

import pytest

from clipedu.plots.style import new_figure
from clipedu.report.document import Picture, Text
from clipedu.report.format import as_text, duration, number, picture
from clipedu.utils.errors import ClipeduError


def test_a_figure_or_the_reason_why_there_is_none():
    block = picture("loss", lambda: new_figure(1, 1), "caption")
    assert isinstance(block, Picture) and block.name == "loss" and block.caption == "caption"
    assert block.png.startswith(b"\x89PNG")

    def missing():
        raise ClipeduError("the run has no steps")

    assert picture("loss", missing, "caption") == Text("No figure here: the run has no steps.")
    with pytest.raises(ZeroDivisionError):  # a bug is not hidden
        picture("loss", lambda: 1 / 0, "caption")


def test_numbers_have_two_decimals_or_are_a_dash():
    assert [number(x) for x in (None, math.nan, 0.0, 12.345, -1.0)] == ["–", "–", "0.00", "12.35", "-1.00"]


def test_settings_as_text():
    assert as_text({"betas": [0.9, 0.98], "eps": 1e-8}) == "betas=[0.9, 0.98], eps=1e-08"
    assert [as_text(x) for x in ({}, None, 0.001, True, "adamw")] == ["none", "none", "0.001", "True", "adamw"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (8.31, "8.3 s"), (59.9, "59.9 s"), (60, "1 min 0 s"), (725.4, "12 min 5 s"),
     (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (13_200, "3 h 40 min")],
)  # fmt: skip
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text
