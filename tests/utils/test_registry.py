"""Names and their errors, and the package's public names."""

from __future__ import annotations

import pytest

from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry


def colours() -> Registry:
    registry = Registry("colour")
    registry.add("red", lambda: 1, "like a tomato", paper="p", formula="f", defaults={"hue": 0})
    registry.add("green", lambda: 2, "like a frog")
    return registry


def test_an_entry_keeps_what_it_was_given():
    entry = colours()["red"]
    assert (entry.name, entry.build(), entry.description, entry.paper, entry.formula) == (
        "red",
        1,
        "like a tomato",
        "p",
        "f",
    )
    assert entry.defaults == {"hue": 0} and colours()["green"].defaults == {}
    assert list(colours()) == ["red", "green"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gren", "unknown colour 'gren'. Did you mean 'green'? Allowed: red, green"),
        ("GREEN", "unknown colour 'GREEN'. Did you mean 'green'? Allowed: red, green"),
        ("zzz", "unknown colour 'zzz'. Allowed: red, green"),
        (None, "unknown colour None. Allowed: red, green"),
        (3, "unknown colour 3. Allowed: red, green"),
        ("a\nb", "unknown colour 'a\\nb'. Allowed: red, green"),
    ],
)
def test_an_unknown_name_is_repeated_with_the_nearest_and_all_allowed(given, message):
    with pytest.raises(ClipeduError) as caught:
        colours()[given]
    assert str(caught.value) == message


def test_looking_does_not_raise():
    assert "gren" not in colours() and colours().get("gren") is None
