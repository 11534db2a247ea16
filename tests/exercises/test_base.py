"""The verdict of a check, and how an answer is compared."""

import math

import pytest
import torch

from clipedu import exercises as ex
from clipedu.exercises.base import NotYet, as_float, as_floats, close, compare, exercise


@exercise
def check_double(double):
    """A check of one number."""
    compare(double(3), 6, {9: "that is the square", 6: "this one is right"}, "3")
    return "twice."


def test_a_check_becomes_a_verdict():
    assert check_double(lambda x: 2 * x) == ex.Verdict(True, "twice.")
    assert check_double(lambda x: x**2) == ex.Verdict(False, "for 3 you got 9, and it should be 6: that is the square.")
    assert check_double(lambda x: x) == ex.Verdict(False, "for 3 you got 3, and it should be 6.")
    assert check_double.__name__ == "check_double" and check_double.__doc__ == "A check of one number."


def test_numbers_of_any_kind_are_one_number():
    for answer in (6, 6.0, torch.tensor(6), torch.tensor([6.0]), "6"):
        assert as_float(answer) == 6.0
    for answer in (None, "six", torch.zeros(2), [1]):
        with pytest.raises(NotYet, match=f"return one number, not a {type(answer).__name__}"):
            as_float(answer)


def test_several_numbers_have_names():
    assert as_floats((1, torch.tensor(2)), "two", "a, b") == as_floats([1, 2], "two", "a, b") == [1.0, 2.0]
    for answer in (1, (1,), (1, 2, 3), torch.zeros(2)):
        with pytest.raises(NotYet, match="return two: `return a, b`"):
            as_floats(answer, "two", "a, b")
    with pytest.raises(NotYet, match="one number"):
        as_floats((1, None), "two", "a, b")


def test_close_forgives_rounding_alone():
    assert close(1.0, 1.0 + 1e-6) and close(0.0, 1e-10)
    assert not close(1.0, 1.0 + 1e-4) and not close(math.nan, math.nan)


def test_stub_error_and_no_function_are_told_apart():
    def stub(similarity):
        raise NotImplementedError("Count the hits.")

    assert ex.check_recall(stub).message == "stub is still the stub. Count the hits."
    assert "ZeroDivisionError: division by zero" in ex.check_recall(lambda s: 1 / 0).message
    assert "give its name alone" in ex.check_recall(12.5).message


def test_a_verdict_shows_itself_in_text_and_html():
    verdict = ex.Verdict(False, "S < T & so on")
    assert repr(verdict) == "Not yet: S < T & so on"
    assert "S &lt; T &amp; so on" in verdict._repr_html_() and "Not yet" in verdict._repr_html_()
    assert "Right" in ex.Verdict(True, "")._repr_html_()
