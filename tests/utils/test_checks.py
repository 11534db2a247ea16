import pytest

from clipedu.utils.checks import check_distinct, checked_choice, checked_number, is_finite_number
from clipedu.utils.errors import ClipeduError


def test_a_finite_number_is_an_int_or_a_float():
    assert all(map(is_finite_number, (0, -3, 2.5)))
    assert not any(map(is_finite_number, (True, "2", None, float("inf"), float("nan"), 1j)))


def test_a_number_within_its_limits_comes_back_as_a_float():
    given = checked_number("gamma", 1, above=0, at_most=1)
    assert given == 1 and type(given) is float
    assert checked_number("weight", 0, at_least=0) == 0
    assert checked_number("bias", -1e9) == -1e9


@pytest.mark.parametrize(
    "value, limits, allowed",
    [
        (0, {"above": 0, "at_most": 1}, "> 0 and <= 1"),
        (1.5, {"above": 0, "at_most": 1}, "> 0 and <= 1"),
        (-0.1, {"at_least": 0}, ">= 0"),
        (float("nan"), {"at_least": 0.25}, ">= 0.25"),
        ("1", {"above": 0}, "> 0"),
        (True, {"above": 0}, "> 0"),
        (1, {"at_least": 0, "below": 1}, ">= 0 and < 1"),
    ],
)
def test_any_other_number_is_refused_with_its_limits(value, limits, allowed):
    with pytest.raises(ClipeduError) as error:
        checked_number("gamma", value, **limits)
    assert str(error.value) == f"gamma must be a number {allowed}, got {value!r}"


def test_without_limits_the_message_has_none():
    with pytest.raises(ClipeduError, match="^bias must be a number, got None$"):
        checked_number("bias", None)


def test_a_choice_is_one_of_those_allowed():
    assert checked_choice("form", "log", ("log", "course")) == "log"
    with pytest.raises(ClipeduError, match="unknown form 'loge'. Did you mean 'log'.*Allowed: log, course"):
        checked_choice("form", "loge", ("log", "course"))


def test_an_int_beyond_all_floats_is_no_number():
    with pytest.raises(ClipeduError) as error:
        checked_number("gamma", 10**400)
    assert len(str(error.value)) < 200


def test_a_list_names_nothing_twice():
    check_distinct("seeds", (0, 1, 2))
    check_distinct("options", [{"a": 1}, {"a": 2}, [1], "1", 1])  # what has no hash can be compared too
    for values, said in (
        (["clip", "vicreg", "clip"], "losses: 'clip' is given twice, give each value once"),
        ([0, 1, 0.0], "losses: 0.0 is given twice"),
        ([[1], [1]], r"losses: \[1\] is given twice"),
    ):
        with pytest.raises(ClipeduError, match=said):
            check_distinct("losses", values)
