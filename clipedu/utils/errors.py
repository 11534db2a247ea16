"""`ClipeduError`: the one kind of error that a user can fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClipeduError(ValueError):
    """Something the user gave cannot work.

    The message is one line: what was given, and what is allowed or to be done.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: object):
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


def unknown_name(kind: str, given: object, allowed: Iterable[str]) -> ClipeduError:
    """Make the error for an unknown name.

    It repeats the name, suggests the nearest and lists all.

    Args:
        kind: what is named, e.g. "loss".
        given: the unknown name.
        allowed: the valid names.
    """
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given).lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ClipeduError(f"unknown {kind} {given!r}.{hint} Allowed: {', '.join(allowed)}")
