"""`ClipeduError`: the one kind of error that a user can fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MESSAGE_LIMIT = 800  # characters


class ClipeduError(ValueError):
    """Something the user gave cannot work.

    The message is one line: what was given, and what is allowed or to be done. Above `MESSAGE_LIMIT` characters its middle
    is cut out, whatever it repeats; a long value inside it is better cut with `shorten`.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: object):
        line = " ".join(line.strip() for line in str(message).splitlines())
        super().__init__(_cut(line, MESSAGE_LIMIT))


def shorten(value: object, limit: int = 80) -> str:
    """Return a value's text as it can be repeated in a message.

    It becomes one printable line, and its middle is cut out where it is longer than `limit` characters.

    >>> shorten("a" * 50 + "b" * 50, 13)
    'aaaaa...bbbbb'
    """
    text = _cut(str(value), limit)
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - 3) // 2
    return f"{text[: limit - 3 - tail]}...{text[len(text) - tail :]}"


def without_trace(error: BaseException) -> str:
    """Return an error's text without the C++ trace that torch adds to some.

    >>> without_trace(RuntimeError("no such size. Exception raised from f at g.h:75 (most recent call first): frame #0"))
    'no such size.'
    """
    return re.split(r"\s*(?:Exception raised from|frame #0:)", str(error).strip(), maxsplit=1)[0]


def quoted(given: object, most: int = 120) -> str:
    """Return the repr of what a user gave, with its middle left out if long.

    >>> quoted("x" * 1000, most=20)
    "'xxxxxxxx...xxxxxxx'"

    Args:
        given: anything.
        most: characters, about.
    """
    try:
        text = repr(given)
    except (RecursionError, ValueError):  # lists in lists without end, an int of thousands of digits
        text = f"<{type(given).__name__} too large to show>"
    return _cut(text, most)


def unknown_name(kind: str, given: object, allowed: Iterable[str], most: int | None = None) -> ClipeduError:
    """Make the error for an unknown name.

    It repeats the name, suggests the nearest and lists all.

    Args:
        kind: what is named, e.g. "loss".
        given: the unknown name.
        allowed: the valid names.
        most: names that are listed at most; the number of the others is said.
    """
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given)[:200].lower(), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(allowed[:most]) + (f" and {len(allowed) - most} more" if most and len(allowed) > most else "")
    return ClipeduError(f"unknown {kind} {shorten(repr(given))}.{hint} Allowed: {listed}")
