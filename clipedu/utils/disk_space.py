"""Room on a disk: told before a long download begins, not found out in the middle of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from clipedu.utils.errors import ClipeduError


def size_text(size: float) -> str:
    """A number of bytes for people: "9.8 GB" (10^9 bytes, as shops and hubs count)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.{1 if size < 100 * scale else 0}f} {unit}"
    return f"{size:.0f} bytes"


def room(folder: Path) -> int:
    """Bytes that are free where `folder` lies or would lie."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(folder: Path, needed: int, instead: str) -> None:
    """Refuse to begin what cannot end.

    Args:
        folder: where the bytes are to go.
        needed: how many are still to come.
        instead: what else can be done, for the error.
    Raises:
        ClipeduError: less is free.
    """
    if needed > (free := room(folder)):
        raise ClipeduError(
            f"{folder} needs {size_text(needed)} and its disk has {size_text(free)} left: free some room, {instead}"
        )
