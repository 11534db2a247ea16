"""Free space on a disk, checked before a long download or decoding begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from clipedu.utils.errors import ClipeduError


def size_text(size: float) -> str:
    """Format a number of bytes, e.g. "9.8 GB" (10^9 bytes)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.{1 if size < 100 * scale else 0}f} {unit}"
    return f"{size:.0f} bytes"


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder that may not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_free_space(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Raise an error if a folder's disk has too little space.

    Args:
        folder: where the bytes are to go.
        needed: how many bytes are still to come.
        what: what needs them, for the error.
        remedy: what can be done besides freeing space, for the error.
    Raises:
        ClipeduError: fewer are free.
    """
    if needed > (free := free_bytes(folder)):
        raise ClipeduError(
            f"{what} needs {size_text(needed)} more, and the disk of {folder} has {size_text(free)} free: "
            f"free some space, {remedy}"
        )
