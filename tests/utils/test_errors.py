"""`ClipeduError` is one line, and unknown names get the nearest known one."""

import pytest

from clipedu.utils.errors import MESSAGE_LIMIT, ClipeduError, shorten, unknown_name, without_trace


def test_a_clipedu_error_is_one_line_whatever_it_repeats():
    assert str(ClipeduError("first\n   second\n\nthird")) == "first second  third"
    assert isinstance(ClipeduError("x"), ValueError)
    assert str(unknown_name("word", "x", [])).startswith("unknown word 'x'.")


@pytest.mark.parametrize(
    "given, hint",
    [
        ("sogclr", " Did you mean 'sogclr'?"),
        ("SOGCLR", " Did you mean 'sogclr'?"),
        ("sogcl", " Did you mean 'sogclr'?"),
        (7, ""),
        ("xyz", ""),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one_if_there_is_one(given, hint):
    message = str(unknown_name("loss", given, iter(["clip", "sogclr"])))
    assert message == f"unknown loss {given!r}.{hint} Allowed: clip, sogclr"


def test_no_message_is_longer_than_a_few_lines():
    message = str(ClipeduError("begins " + "x" * 2_000_000 + " do this"))
    assert len(message) == MESSAGE_LIMIT and message.startswith("begins x") and message.endswith("x do this")
    message = str(unknown_name("loss", "y" * 2_000_000, ["clip", "sogclr"]))
    assert len(message) < 200 and message.endswith("Allowed: clip, sogclr")
    assert str(ClipeduError("x" * MESSAGE_LIMIT)) == "x" * MESSAGE_LIMIT


def test_a_long_value_is_cut_and_is_one_printable_line():
    assert shorten("as it is") == "as it is" and shorten(7) == "7"
    assert shorten("a\tb\nc\x1b[31m\u2028d") == "a b c?[31m d"
    assert len(shorten("x" * 10**6, 40)) == 40 and shorten("abcdefgh", 7) == "ab...gh"


def test_a_trace_of_other_code_is_left_out():
    trace = "bad size (at x.h:75)\nException raised from f at x.h:75 (most recent call first):\nframe #0: c10::Error"
    assert without_trace(RuntimeError(trace)) == "bad size (at x.h:75)"
    assert without_trace(ValueError(" two\nlines ")) == "two\nlines"
