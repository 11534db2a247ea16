"""Is an entry of the pixel cache whole, and of the shards as they are?

The name of an entry holds the paths, sizes and dates of its shards. A shard can change and keep these three, so entry.json
has its inode, the time of its last change (which no program can set), and a digest of its bytes. Where the first two differ,
the bytes are read and compared: a shard that was only moved, linked or given other rights costs no decoding.

The entry itself is compared with its own digests: rows and digests whole; pixels whole up to `CHECKED_BYTES` or if the file
was written to, else a sample of that size. `clipedu.data.prepare.verify_cache` compares all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.data.identity import DIGEST_BYTES, content_digest, digest_rows
from clipedu.data.shards import pixel_cache as cache
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, parse_json

log = logging.getLogger("clipedu")

CHECKED_BYTES = 64 << 20  # of pixels, compared at each opening
_CHUNK = 64 << 20  # bytes read at once


def shard_states(shards: Mapping[str, Path]) -> dict[str, list[int]]:
    """Return what tells that a shard may have changed: name -> numbers.

    They are size, inode, and the times of the last write and change.
    """
    stats = {name: path.stat() for name, path in shards.items()}
    return {name: [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats.items()}


def shard_digests(paths: Iterable[Path]) -> list[str]:
    """Hash the bytes of shards, in threads: 32 hexadecimal digits each."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_file_digest, paths))


def describe_shards(shards: Mapping[str, Path], names: Iterable[str]) -> dict[str, list]:
    """Describe the shards of an entry, for its entry.json.

    Args:
        shards: name -> path.
        names: of those that were read.
    Returns:
        name -> its state and its digest.
    """
    read = {name: shards[name] for name in names}
    states = shard_states(read)
    return {name: [states[name], digest] for name, digest in zip(read, shard_digests(read.values()), strict=True)}


def open_whole(
    entry: Path, shards: Mapping[str, Path], *, tell: bool = False
) -> tuple[cache.Pixels, dict[str, Any]] | None:
    """Open an entry as `pixel_cache.load` does, if it can be trusted.

    Args:
        entry: its folder.
        shards: those that it is of, name -> path.
        tell: log why it cannot be, as a warning.
    Returns:
        pixels and rows; None if the entry is missing, damaged, or of shards that have changed.
    """
    if (found := cache.load(entry)) is None:
        return None
    try:
        facts = parse_json((entry / cache.ENTRY).read_text(encoding="utf-8"))
        trouble = _trouble(entry, facts, shards)
    except (OSError, ValueError, LookupError, TypeError) as error:
        trouble = f"it is damaged ({type(error).__name__})"
    if trouble and tell:
        log.warning("the cache %s is made again: %s", entry.name, trouble)
    return None if trouble else found


def changed_slots(entry: Path, slots: np.ndarray) -> list[int]:
    """Return those of some slots whose pixels are not what was written."""
    stored = np.load(entry / cache.PIXELS, mmap_mode="r")
    digests = np.fromfile(entry / cache.DIGESTS, np.uint8).reshape(-1, DIGEST_BYTES)
    wrong: list[int] = []
    for part in np.array_split(slots, max(1, len(slots) * stored[0].nbytes // _CHUNK)):
        different = (digest_rows(picture.tobytes() for picture in stored[part]) != digests[part]).any(1)
        wrong += part[different].tolist()
    return wrong


def _trouble(entry: Path, facts: dict[str, Any], shards: Mapping[str, Path]) -> str:
    """Say why an entry cannot be taken; "" if it can."""
    for name, digest in facts["files"].items():
        if content_digest((entry / name).read_bytes()).hex() != digest:
            return f"{name} is damaged"
    described = facts["shards"]
    states = shard_states({name: shards[name] for name in described})
    touched = [name for name, (state, _) in described.items() if states[name] != state]
    for name, digest in zip(touched, shard_digests(shards[name] for name in touched), strict=True):
        if digest != described[name][1]:
            return f"{name} has changed"
    stat = (entry / cache.PIXELS).stat()
    written = [stat.st_size, stat.st_mtime_ns] != facts["pixels"]
    if wrong := changed_slots(entry, _sample(entry, whole=written)):
        return f"{len(wrong)} of its pictures are damaged"
    if touched or written:
        described |= {name: [states[name], described[name][1]] for name in touched}
        facts["pixels"] = [stat.st_size, stat.st_mtime_ns]
        with suppress(ClipeduError), atomic_write(entry / cache.ENTRY) as partial:  # else it is compared each time
            partial.write_text(json.dumps(facts), encoding="utf-8")
    return ""


def _sample(entry: Path, *, whole: bool) -> np.ndarray:
    """Return the slots to compare, holes left out."""
    stored = np.load(entry / cache.PIXELS, mmap_mode="r")
    holes = parse_json((entry / cache.ROWS).read_text(encoding="utf-8"))["holes"]
    slots = np.delete(np.arange(len(stored)), holes)
    most = max(1, CHECKED_BYTES // stored[0].nbytes)
    if whole or len(slots) <= most:
        return slots
    return slots[np.linspace(0, len(slots) - 1, most).round().astype(int)]


def _file_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
