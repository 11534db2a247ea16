"""`Registry`: the names a user can choose from, each with a builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clipedu.utils.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One choice in a registry: how to build it, and a line about it.

    `build` is None where a name stands for nothing but `defaults` (an encoder: some builder reads them).
    """

    name: str
    build: Callable[..., Any] | None
    description: str
    paper: str = ""
    formula: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


class Registry(dict[str, Entry]):
    """A dict from name to `Entry`.

    `registry[name]` raises a helpful `ClipeduError` for an unknown name.

    >>> LOSSES = Registry("loss")
    >>> LOSSES.add("clip", build_clip, "symmetric InfoNCE")
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def add(self, name: str, build: Callable[..., Any] | None, description: str, **details: Any) -> None:
        """Add an entry.

        Args:
            name: what a user writes.
            build: makes the thing; None where the name only stands for `defaults`.
            description: one line.
            details: `paper`, `formula` and `defaults` of the `Entry`.
        """
        self[name] = Entry(name, build, description, **details)

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)
