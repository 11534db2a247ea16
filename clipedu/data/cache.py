"""Decoded once: a memory map of uint8 pixels on disk, and beside it what was read along with them.

An entry is a folder `NAME-KEY` in the cache folder (`CLIPEDU_CACHE`, by default ~/.cache/clipedu):

    pixels.npy   uint8 [N, 3, S, S]
    rows.json    keys, captions, labels, skipped samples

KEY is a hash of everything the pixels depend on, so a changed shard or another image size is another entry. An entry is
written under a temporary name and renamed when it is whole: what has its final name is complete, whatever happened in
between. Two processes that write the same entry don't disturb each other; the first to finish wins. Entries can be deleted
at any time, they are made again when they are needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clipedu.registry import ClipeduError

STALE = 24 * 3600  # seconds after which a temporary folder that nobody writes to was left behind by a crash


def cache_folder() -> Path:
    """The folder `CLIPEDU_CACHE`, or ~/.cache/clipedu where that is not set."""
    return Path(os.environ.get("CLIPEDU_CACHE") or "~/.cache/clipedu").expanduser()


def entry_folder(name: str, depends_on: Any) -> Path:
    """Where the entry lies that is called `name` (for people) and follows from `depends_on` (anything JSON can hold)."""
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    return cache_folder() / f"{re.sub('[^A-Za-z0-9_.-]+', '_', name)}-{key}"


def load(entry: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The pixels (uint8 [N, 3, S, S], read from disk as they are used) and rows of an entry; None if there is none."""
    try:
        rows = json.loads((entry / "rows.json").read_text(encoding="utf-8"))
        pixels = np.load(entry / "pixels.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or damaged on disk
        return None
    return (pixels, rows) if len(pixels) == len(rows["keys"]) else None


def store(entry: Path, size: int, images: Generator[np.ndarray], rows: Callable[[], dict[str, Any]]) -> None:
    """Write an entry, or leave nothing behind.

    Args:
        entry: from `entry_folder`.
        size: S.
        images: yields uint8 [3, S, S] each, any number of them. An error that it raises passes through.
        rows: called after the last image; what `load` is to return with the pixels. "keys" has one item an image.
    Raises:
        ClipeduError: the cache folder can't be written, or is full.
    """
    partial = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        _sweep(entry)
        with open(partial / "pixels.npy", "wb") as file, closing(images):
            start, count = _header(file, 0, size), 0
            for image in images:
                file.write(image.data)
                count += 1
            file.seek(0)
            if _header(file, count, size) != start:
                raise RuntimeError("numpy wrote a header of another length")
            file.flush()
            os.fsync(file.fileno())
        (partial / "rows.json").write_text(json.dumps(rows()), encoding="utf-8")
        if load(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)  # a damaged one
            os.rename(partial, entry)
    except OSError as error:
        if load(entry) is None:
            raise ClipeduError(
                f"can't write decoded images to {cache_folder()} ({error.strerror or error}): "
                "set CLIPEDU_CACHE to a folder that can be written and has room"
            ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _header(file: BinaryIO, count: int, size: int) -> int:
    """Write the header of an .npy file for `count` images; returns its length, which numpy makes the same for all counts."""
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, size, size)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.tell()


def _sweep(entry: Path) -> None:
    """Delete what earlier crashes left of this entry."""
    for pixels in entry.parent.glob(f"{entry.name}.*.partial/pixels.npy"):
        if time.time() - pixels.stat().st_mtime > STALE:
            shutil.rmtree(pixels.parent, ignore_errors=True)
