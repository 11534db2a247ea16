"""Registries: the names a user can choose from.

A registry maps a name to an `Entry`, whose one-line description a menu, a notebook or `--help` can show.
Asking for a name that is not there raises a `ClipeduError` that repeats the name, the nearest one, and all that are allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clipedu.utils.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One choice in a registry: how to build it, and what to tell a person about it.

    `build` is None where a name stands for nothing but `defaults` (an encoder: some builder reads them).
    """

    name: str
    build: Callable[..., Any] | None
    description: str
    paper: str = ""
    formula: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


class Registry(dict[str, Entry]):
    """A dict from name to `Entry`. `registry[name]` raises a helpful `ClipeduError` for an unknown name.

    >>> LOSSES = Registry("loss")
    >>> LOSSES.add("clip", dict, "symmetric InfoNCE")  # any callable that builds one
    >>> LOSSES["clip"].description
    'symmetric InfoNCE'
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def add(self, name: str, build: Callable[..., Any] | None, description: str, **details: Any) -> None:
        self[name] = Entry(name, build, description, **details)

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)
