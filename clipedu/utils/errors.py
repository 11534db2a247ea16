"""The one kind of error that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClipeduError(ValueError):
    """Something the user gave cannot work. The message is one line: what was given, and what is allowed or to be done.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: object):
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


def unknown_name(kind: str, given: object, allowed: Iterable[str]) -> ClipeduError:
    """The error for a name that is not among `allowed`: repeats it, suggests the nearest, lists them all."""
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ClipeduError(f"unknown {kind} {given!r}.{hint} Allowed: {', '.join(allowed)}")
