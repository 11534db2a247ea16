"""`Registry`: the names a user can choose from, each with a builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clipedu.utils.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One choice in a registry: how to build it, and its description.

    Attributes:
        name: its key in the registry.
        build: makes one; what its arguments are is the registry's convention.
        description: one line.
        paper, formula: where there are any.
        defaults: arguments of `build` that a user can change.
    """

    name: str
    build: Callable[..., Any]
    description: str
    paper: str = ""
    formula: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


class Registry(dict[str, Entry]):
    """A dict from name to `Entry`.

    `registry[name]` raises a helpful `ClipeduError` for an unknown name.

    >>> LOSSES = Registry("loss")
    >>> LOSSES.add("clip", dict, "symmetric InfoNCE")  # any callable that builds one
    >>> LOSSES["clip"].description
    'symmetric InfoNCE'
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, build: Callable[..., Any], description: str, **details: Any) -> None:
        """Add an entry.

        Args:
            name: its key.
            build: makes one.
            description: one line for menus and `--help`.
            details: paper, formula and defaults, as of `Entry`.
        """
        self[name] = Entry(name, build, description, **details)

    def __getitem__(self, name: str) -> Entry:
        if not isinstance(name, str):  # a list, for instance, has no hash to look it up by
            raise unknown_name(self.kind, name, self)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)
