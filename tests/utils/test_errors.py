"""`ClipeduError` is one line, and unknown names get the nearest known one."""

import pytest

from clipedu.utils.errors import ClipeduError, unknown_name


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
