"""Names a user can choose from, and the one kind of error a user can mend.

A registry maps a name to an `Entry`, whose one-line description a menu, a notebook or `--help` can show.
Asking for a name that is not there raises a `ClipeduError` that repeats the name, the nearest one, and all that are allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


class ClipeduError(ValueError):
    """Something the user gave cannot work. The message is one line: what was given, and what is allowed or to be done.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: object):
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


@dataclass(frozen=True)
class Entry:
    """One choice in a registry: how to build it, and what to tell a person about it."""

    name: str
    build: Callable[..., Any]
    description: str
    paper: str = ""
    formula: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)


class Registry(dict[str, Entry]):
    """A dict from name to `Entry`. `registry[name]` raises a helpful `ClipeduError` for an unknown name.

    >>> LOSSES = Registry("loss")
    >>> LOSSES.add("clip", build_clip, "symmetric InfoNCE")
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def add(self, name: str, build: Callable[..., Any], description: str, **details: Any) -> None:
        self[name] = Entry(name, build, description, **details)

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)


def unknown_name(kind: str, given: object, allowed: Iterable[str]) -> ClipeduError:
    """The error for a name that is not among `allowed`: repeats it, suggests the nearest, lists them all."""
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ClipeduError(f"unknown {kind} {given!r}.{hint} Allowed: {', '.join(allowed)}")
