"""Settings of an experiment as JSON, with the version of their form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json

FORMAT = 2  # of the JSON; it grows when a field gets another meaning, so that older versions refuse what they misread
BEFORE = {"projection_bias": True}  # what settings were before they could be set, where that is not their default


def write_settings(settings: Mapping[str, Any]) -> str:
    """Return settings as a JSON object; "format" is its version."""
    return json.dumps({"format": FORMAT, **settings}, indent=2)


def read_settings(text: str) -> dict[str, Any]:
    """Return the settings that `write_settings` wrote, unchecked.

    A text without a "format" was written before there were any. Settings that were not there yet are what `BEFORE` says.

    Raises:
        ClipeduError: a text that is no object in JSON, or the form of a newer clipedu.
    """
    try:
        settings = parse_json(text)
    except ValueError as error:
        raise ClipeduError(f"this is not an experiment in JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ClipeduError(f"an experiment in JSON is an object of settings, not a {type(settings).__name__}")
    form = settings.pop("format", 0)
    if not isinstance(form, int) or isinstance(form, bool) or form < 0:
        raise ClipeduError(f"format={form!r} must be a whole number: this clipedu writes {FORMAT}")
    if form > FORMAT:
        raise ClipeduError(
            f"format={form} is that of a newer clipedu; this one reads formats up to {FORMAT}: update clipedu"
        )
    return {**(BEFORE if form < FORMAT else {}), **settings}
