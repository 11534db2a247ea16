"""`ClipeduError`: the one kind of error that a user can fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 2000


class ClipeduError(ValueError):
    """Something the user gave cannot work.

    The message is one line: what was given, and what is allowed or to be done.

    The command line prints it without a traceback and exits with code 2. The middle of a line of more than `LONGEST`
    characters is left out.
    """

    def __init__(self, message: object):
        line = " ".join(line.strip() for line in str(message).splitlines())
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


def quoted(given: object, most: int = 120) -> str:
    """Return the repr of what a user gave, with its middle left out if long.

    >>> quoted("x" * 1000, most=20)
    "'xxxxxxxxx...xxxxxxxx'"

    Args:
        given: anything.
        most: characters, about.
    """
    try:
        text = repr(given)
    except (RecursionError, ValueError):  # lists in lists without end, an int of thousands of digits
        text = f"<{type(given).__name__} too large to show>"
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2 - 1) :]}"


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
    return ClipeduError(f"unknown {kind} {quoted(given)}.{hint} Allowed: {', '.join(allowed)}")
