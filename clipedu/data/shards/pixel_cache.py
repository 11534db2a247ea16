"""Decoded once: a memory map of uint8 pixels on disk, and beside it what was read along with them.

An entry is a folder `NAME-KEY` in the cache folder (`CLIPEDU_CACHE`, by default ~/.cache/clipedu):

    pixels.npy       uint8 [M, 3, S, S], one slot for each image that was tried
    rows.json        keys, captions, labels, skipped samples, and "holes": the slots whose image could not be decoded
    tokens-*.npz     captions as numbers, one file a tokenizer (see `clipedu.data.token_cache`)

KEY is a hash of everything the pixels depend on, so a changed shard or another image size is another entry. Entries can be
deleted at any time, they are made again when they are needed.

While it is written an entry is called `NAME-KEY.partial`; it is renamed when it is whole, so what has its final name is
complete, whatever happened in between. A slot's place in the file is known before its image is decoded, so any number of
workers fill their slots in any order, and the file comes out the same. A part is a run of slots. It is on the disk before a
line in `parts.jsonl` says so, and who comes after a crash goes on with the parts that are missing.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.utils.errors import ClipeduError

PIXELS, PARTS = "pixels.npy", "parts.jsonl"
HEADER = 128  # bytes before the first slot of pixels.npy
STALE = 7 * 24 * 3600  # seconds after which nobody will go on with an entry that was left half written
PATIENCE = 2.0  # seconds to wait in silence for another process that makes the same entry
RELEASE = 2**29  # bytes touched of a map larger than that before its memory is given back
AROUND = 2**16  # bytes that the system maps beyond those that were asked for (Linux's fault_around_bytes)


class Pixels:
    """The images of an entry, read from disk as they are used: `pixels[rows]` is uint8 [B, 3, S, S].

    What was touched of a memory map counts as memory of the process. So that of a large map is given back to the system
    every `RELEASE` bytes, and 10 GB can be read with half of one in use. A map can be read to its end even if the entry is
    deleted meanwhile.
    """

    def __init__(self, path: Path, holes: list[int]):
        count, *shape = np.load(path, mmap_mode="r").shape  # raises ValueError for a damaged file
        self._slots = np.delete(np.arange(count), holes) if holes else None
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._images = np.frombuffer(self._map, np.uint8, offset=HEADER).reshape(count, *shape)
        self._read, self._made_of = 0, (path, holes)

    def __reduce__(self) -> tuple:
        """Another process gets the name of the file, not what is in it."""
        return Pixels, self._made_of

    def __len__(self) -> int:
        return len(self._images if self._slots is None else self._slots)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = self._images[rows if self._slots is None else self._slots[rows]]
        self._read += images.nbytes + len(images) * AROUND
        if min(self._read, len(self._map)) > RELEASE and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return images


def cache_folder() -> Path:
    """The folder `CLIPEDU_CACHE`, or ~/.cache/clipedu where that is not set."""
    return Path(os.environ.get("CLIPEDU_CACHE") or "~/.cache/clipedu").expanduser().absolute()


def entry_folder(name: str, depends_on: Any) -> Path:
    """Where the entry lies that is called `name` (for people) and follows from `depends_on` (anything JSON can hold)."""
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    return cache_folder() / f"{re.sub('[^A-Za-z0-9_.-]+', '_', name)}-{key}"


def load(entry: Path) -> tuple[Pixels, dict[str, Any]] | None:
    """The pixels and rows of an entry; None if there is none, or only a damaged one."""
    try:
        rows = json.loads((entry / "rows.json").read_text(encoding="utf-8"))
        pixels = Pixels(entry / PIXELS, rows["holes"])
        return (pixels, rows) if len(pixels) == len(rows["keys"]) else None
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None


def slot_offset(slot: int, size: int) -> int:
    """Where the image of a slot begins in pixels.npy, in bytes; also how long the file is that has that many slots."""
    return HEADER + slot * 3 * size * size


class Draft:
    """An entry that is being written, or goes on to be. A context: who is in it is alone, others wait.

    An error inside keeps the parts that are done for the next time; without any, it leaves nothing behind.

    Attributes:
        entry: where it will be.
        folder: where it is while it is written.
        done: parts that are on the disk already: first and last slot + 1 -> {slot: why its image could not be decoded}.
    Raises:
        OSError: the cache folder cannot be written.
    """

    def __init__(self, entry: Path, size: int):
        self.entry, self.size = entry, size
        self.folder = entry.with_name(f"{entry.name}.partial")
        self._log = self.folder / PARTS
        self._stack = ExitStack()

    def __enter__(self) -> Draft:
        with self._stack:  # undone in the opposite order, also if something fails here
            self._stack.enter_context(_alone(self.entry))
            self._stack.callback(self._tidy)
            _sweep(self.entry.parent, self.folder)
            self.folder.mkdir(exist_ok=True)
            (self.folder / PIXELS).touch()
            self.done = self._parts()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _tidy(self) -> None:
        if not self._log.exists() or self.finished():
            shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self) -> bool:
        """Whether the entry is there, perhaps by another process."""
        return load(self.entry) is not None

    def _parts(self) -> dict[tuple[int, int], dict[int, str]]:
        done = {}
        length = (self.folder / PIXELS).stat().st_size
        for line in self._log.read_bytes().splitlines() if self._log.exists() else []:
            try:
                start, stop, failed = json.loads(line)
            except ValueError:  # the last line, half written in a crash
                continue
            if slot_offset(stop - len(failed), self.size) <= length:
                done[start, stop] = {int(slot): why for slot, why in failed.items()}
        return done

    def finish(self, count: int, rows: dict[str, Any]) -> None:
        """Give the entry, which has `count` slots, its final name."""
        with open(self.folder / PIXELS, "r+b") as file:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, self.size, self.size)}
            np.lib.format.write_array_header_1_0(file, shape)
            if file.tell() != HEADER:
                raise RuntimeError("numpy wrote a header of another length")
            file.truncate(slot_offset(count, self.size))
            os.fsync(file.fileno())
        with open(self.folder / "rows.json", "w", encoding="utf-8") as file:
            json.dump(rows, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(self.entry, ignore_errors=True)  # a damaged one
        os.rename(self.folder, self.entry)
        (self.entry / PARTS).unlink(missing_ok=True)


def write_part(folder: Path, start: int, size: int, images: Iterable[np.ndarray | str]) -> dict[int, str]:
    """Write images to the slots of a draft's folder from `start` on, see them onto the disk, and note that they are done.

    Args:
        folder: `Draft.folder`.
        size: S.
        images: uint8 [3, S, S] each, or in its place why there is none.
    Returns:
        the slots that have no image, and why.
    """
    failed, slot = {}, start
    with open(folder / PIXELS, "r+b") as file:
        for slot, image in enumerate(images, start):
            if isinstance(image, str):
                failed[slot] = image
                continue
            file.seek(slot_offset(slot, size))
            file.write(image.data)
        file.flush()
        os.fsync(file.fileno())
    with open(folder / PARTS, "ab") as file:  # one write at the end of the file: lines of several processes don't mix
        file.write(b"\n" + json.dumps([start, slot + 1, failed]).encode() + b"\n")
    return failed


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """One process at a time makes an entry; the system frees the lock of one that is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(entry.with_name(f"{entry.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        print(f"waiting for another process that makes {entry}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # who waits for it makes it anew
            os.unlink(lock.lock_file)
        lock.release()


def cannot_write(error: OSError) -> ClipeduError:
    """What to tell the user if the cache folder cannot be written, or is full."""
    return ClipeduError(
        f"cannot write decoded images to {cache_folder()} ({error.strerror or error}): free some space there, "
        "or set CLIPEDU_CACHE to a folder that can be written and has room; what is decoded already is kept"
    )


def _sweep(folder: Path, ours: Path) -> None:
    """Delete entries that were left half written, a week ago or more."""
    for partial in folder.glob("*.partial"):
        try:
            newest = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
        except OSError:  # another process has just renamed or deleted it
            continue
        if partial != ours and time.time() - newest > STALE:
            shutil.rmtree(partial, ignore_errors=True)
