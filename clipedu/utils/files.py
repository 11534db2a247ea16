"""Small files of a run's folder: written whole or not at all, and read with errors that a person can act on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that it is never half there.

    Raises:
        ClipeduError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with reported(path):
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As `write_text`, a value that JSON can hold."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written becomes one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ClipeduError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, {} if there is no file. Raises ClipeduError for one that is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ClipeduError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ClipeduError(f"{path} cannot be read: it holds a {type(value).__name__}, not an object")
    return value
