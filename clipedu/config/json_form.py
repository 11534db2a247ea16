"""Settings of an experiment as JSON, with the version of their form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json

FORMAT = 3  # of the JSON; it grows when a field gets another meaning, so that older versions refuse what they misread
ROOTED = ("euclidean", "lorentz")  # beginnings of names of geometries that have a root


def write_settings(settings: Mapping[str, Any]) -> str:
    """Return settings as a JSON object; "format" is its version."""
    return json.dumps({"format": FORMAT, **settings}, indent=2)


def read_settings(text: str) -> dict[str, Any]:
    """Return the settings that `write_settings` wrote, unchecked.

    A text without a "format" was written before there were any. Settings that were not there yet are as `as_before` says.

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
    return as_before(settings, form)


def as_before(settings: Mapping[str, Any], form: int = 0) -> dict[str, Any]:
    """Return settings, with those that an older form did not have.

    Of these it has the ones whose value was not what is their default now: projections had a bias before format 2; before
    format 3 `seed` drew the data too, and geometries with a root started with alpha = 1 / sqrt(D).

    Args:
        settings: by name, unchecked.
        form: their format; 0 for settings of which only what they lack says how old they are.
    """
    was: dict[str, Any] = {}
    if form < 2:
        was["projection_bias"] = True
    if form < 3 and "data_seed" not in settings:
        was["data_seed"] = settings.get("seed", 0)
        if str(settings.get("geometry")).startswith(ROOTED):
            settings = {**settings, "geometry_options": {"start_length": None, **settings.get("geometry_options", {})}}
    return {**was, **settings}
