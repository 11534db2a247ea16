"""A sweep in a TOML file.

preset = "tiny"
trials = 20
seeds = [0, 1, 2]

[vary]
lr = "1e-4..1e-2:log"
weight_decay = [0, 0.05, 0.1]
optimizer_options.betas = [[0.9, 0.95], [0.9, 0.99]]

[variants]
loss = ["clip", "sogclr"]

[settings]
epochs = 2
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError, quoted, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = ("vary", "variants", "settings")
_KINDS: dict[str, tuple[type, str]] = {
    "preset": (str, "a text"),
    "folder": (str, "a text"),
    "storage": (str, "a text"),
    "seeds": (list, "a list of whole numbers"),
    "trials": (int, "a whole number"),
    "sampler": (str, "a text"),
    "pruner": (str, "a text"),
    "holdout": (float, "a number with a point, above 0 and below 1"),
    "metric": (str, "a text"),
}


def read_sweep_file(path: Path) -> dict[str, Any]:
    """Read a sweep from a TOML file.

    Args:
        path: of the file.
    Returns:
        what it gives: "vary", "variants" and "settings", each a dict, and options of `clipedu sweep` by name.
    Raises:
        ClipeduError: it cannot be read, is not TOML, or has an entry that is unknown or of a wrong kind.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise ClipeduError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ClipeduError(f"{path} is not a TOML file: {error}") from None
    for name, value in found.items():
        if name not in (*TABLES, *_KINDS):
            raise ClipeduError(f"{path}: {unknown_name('entry', name, [*_KINDS, *TABLES])}")
        kind, words = (dict, f"a table: write [{name}], and below it NAME = VALUES") if name in TABLES else _KINDS[name]
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if name == "seeds" and fits:
            fits = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in value)
        if not fits:
            raise ClipeduError(f"{path}: {name} = {quoted(value)} is not {words}")
    for table in TABLES:
        found[table] = _flat(found.get(table, {}), settings=table == "settings")
    return found


def _flat(table: dict[str, Any], *, settings: bool) -> dict[str, Any]:
    """Write items of tables below as NAME.ITEM, as TOML itself reads optimizer_options.eps without quotes."""
    if settings:
        return table
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= {f"{name}.{item}": of for item, of in value.items()}
        else:
            found[name] = value
    return found
