"""Sum up what was left out of a set: a line a reason.

A reason is written "KIND", "KIND: DETAIL" or "KIND (DETAIL)", so that reasons of one kind can be counted together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHOWN = 3  # examples of a reason


def kind_of(reason: str) -> str:
    """Return the kind of a reason, without its detail.

    >>> kind_of("image cannot be decoded (OSError: broken data stream)")
    'image cannot be decoded'
    """
    return re.split(r": | \(", reason, maxsplit=1)[0]


def one_line(text: str) -> str:
    """Replace line ends and whatever else cannot be printed by "?"."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def summary(left_out: Iterable[tuple[str, str]]) -> list[str]:
    """Count reasons by kind, the most frequent first, with examples.

    >>> summary([("0.tar: k1", "no caption"), ("0.tar: k7", "no caption"), ("1.tar", "damaged (after 3 files)")])
    ['2: no caption, e.g. 0.tar: k1; 0.tar: k7', '1: damaged, e.g. 1.tar (after 3 files)']

    Args:
        left_out: where, and the reason.
    """
    kinds: dict[str, list[str]] = {}
    for where, reason in left_out:
        kind = kind_of(reason)
        detail = reason.removeprefix(kind).removeprefix(":").strip().removeprefix("(").removesuffix(")")
        places = kinds.setdefault(kind, [])
        places.append(f"{where} ({detail})" if detail and not places else where)
    ordered = sorted(kinds.items(), key=lambda kind: len(kind[1]), reverse=True)
    return [f"{len(places)}: {kind}, e.g. {'; '.join(places[:SHOWN])}" for kind, places in ordered]
