"""Schemas: the first field that does not fit is named, with what was found and what is expected."""

import math

import pytest

from clipedu.utils.schema import Anything, Choice, Items, Number, Object, Text, misfit, shown

RUN = Object(
    {"rows": Number(at_least=1, whole=True), "name": Text()},
    {"share": Number(at_least=0, at_most=1, optional=True), "state": Text(("on", "off")), "words": Items(Text())},
)


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({}, None),
        ({"share": None, "state": "off", "words": [], "more": object()}, None),
        ({"rows": 0}, "field 'rows' is 0, expected a whole number >= 1"),
        ({"rows": 1.5}, "field 'rows' is 1.5, expected a whole number >= 1"),
        ({"rows": True}, "field 'rows' is true, expected a whole number >= 1"),
        ({"rows": "3"}, "field 'rows' is '3', expected a whole number >= 1"),
        ({"rows": 10**400}, f"field 'rows' is 1{'0' * 56}..., expected a whole number >= 1"),
        ({"share": math.nan}, "field 'share' is NaN, expected a number >= 0 and <= 1 or null"),
        ({"share": math.inf}, "field 'share' is Infinity, expected a number >= 0 and <= 1 or null"),
        ({"share": 1.1}, "field 'share' is 1.1, expected a number >= 0 and <= 1 or null"),
        ({"name": None}, "field 'name' is null, expected a text"),
        ({"name": "\ud800"}, "field 'name' is '\\ud800', which is not Unicode text"),
        ({"state": "of"}, "field 'state' is 'of', expected one of on, off"),
        ({"words": "ab"}, "field 'words' is 'ab', expected a list"),
        ({"words": ["a", 2]}, "field 'words.1' is 2, expected a text"),
    ],
)
def test_fields(changes, fault):
    assert misfit(RUN, {"rows": 2, "name": "x", **changes}) == fault


def test_what_is_missing_and_what_is_no_object():
    assert misfit(RUN, {"rows": 1}) == "the field 'name' is missing"
    assert misfit(Object({"a": RUN}), {"a": {"name": ""}}) == "the field 'a.rows' is missing"
    for value, words in ((None, "null"), ([1], "a list of 1"), ("x", "'x'"), (2, "2"), (b"", "a bytes")):
        assert misfit(RUN, value) == f"the whole is {words}, expected an object"
    assert misfit(Items(Number(), 2), [1]) == "the whole is a list of 1, expected a list of 2"
    assert (
        misfit(Items(Object({"a": Choice((True, False))})), [{"a": True}, {"a": 1}])
        == "field '1.a' is 1, expected one of true, false"
    )


def test_other_fields():
    assert misfit(Object(others=Number(at_most=1)), {"a": 1, "b": 2}) == "field 'b' is 2, expected a number <= 1"


def test_anything_is_what_can_be_shown():
    assert misfit(Anything(), {"a": [1, None, "ü", {"b": True}]}) is None
    assert misfit(Anything(), {"a": [1, math.nan]}) == "field 'a.1' is NaN, expected a number"
    assert "not Unicode text" in misfit(Anything(), {"\udcff": 1})
    assert "expected a value of JSON" in misfit(Anything(), [set()])
    deep: list = []
    for _ in range(100):
        deep = [deep]
    assert "is nested more than 20 deep" in misfit(Anything(), deep)


def test_a_message_is_short_whatever_was_found():
    assert len(shown("x" * 10_000)) == 60 and len(misfit(Text(("a",)), {str(n): n for n in range(999)})) < 100
