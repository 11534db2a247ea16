"""Ranges and kinds of options."""

from __future__ import annotations

import math

import pytest

from clipedu.optim.option_checks import RANGES, check_heads, check_kinds, check_ranges, refused
from tests.helpers.errors import message_of


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-9])
@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_range(name, value):
    assert message_of(check_ranges, {name: value}).startswith(f"{name} must be a number")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_any_number_is_finite(value):
    assert message_of(check_ranges, {"anything": value}) == f"anything must be a finite number, got {value}"


def test_a_step_that_would_take_minutes_is_refused():
    assert message_of(check_ranges, {"ns_steps": 100_000}) == "ns_steps must be a number >= 1 and <= 100, got 100000"


def test_kinds_are_those_of_the_defaults():
    check_kinds(
        "adamw",
        {"betas": (0, 1), "eps": 1, "other": "x", "foreach": None},
        {"betas": [0.9, 0.99], "eps": 1e-8, "foreach": True},
    )
    assert message_of(check_kinds, "adamw", {"eps": True}, {"eps": 1e-8}).endswith(
        "eps=True must be a number, as 1e-08, its default"
    )


@pytest.mark.parametrize("value", [5, 0, "x", []])
@pytest.mark.parametrize("name", ["foreach", "fused"])
def test_flags_without_a_default_are_flags(name, value):
    check_kinds("adamw", {name: None}, {name: None})
    check_kinds("adamw", {name: False}, {name: None})
    assert message_of(check_kinds, "adamw", {name: value}, {name: None}) == (
        f"optimizer 'adamw': {name}={value!r} must be true, false or none, as none, its default"
    )


@pytest.mark.parametrize("heads", [3, "image_projection", [3], {"a": 1}])
def test_heads_are_names(heads):
    check_heads(None), check_heads(()), check_heads(["a"])
    assert "must be a list of names" in message_of(check_heads, heads)


def test_a_refusal_is_short_whatever_an_optimizer_says():
    assert len(str(refused("adamw", {"x": "y" * 9999}, ValueError("a" * 9999 + "\n" + "b" * 9999)))) < 600
    assert str(refused("adamw", {"x": 1}, AssertionError())) == "optimizer 'adamw' does not take x=1: AssertionError"


def test_none_where_a_number_is_needed_is_not_told_in_pythons_words():
    error = TypeError("'<=' not supported between instances of 'float' and 'NoneType'")
    assert str(refused("adamw", {"lr": 0.1, "eps": None}, error)) == (
        "optimizer 'adamw' does not take eps=none: give a value, or leave it out"
    )
    assert "lr=0.1" in str(refused("adamw", {"lr": 0.1}, error))
