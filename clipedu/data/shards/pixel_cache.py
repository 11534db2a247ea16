"""The pixel cache: decoded images as a memory map of uint8 on disk.

An entry is a folder `NAME-KEY` in the cache folder (`CLIPEDU_CACHE`, by default ~/.cache/clipedu):

    pixels.npy       uint8 [M, 3, S, S], one slot for each image that was tried
    digests.bin      a digest of the pixels of each slot: 16 bytes
    rows.json        keys, captions, labels, skipped samples, and "holes": the slots whose image could not be decoded
    entry.json       by what it is known whether the entry is whole, and of the shards as they are (`integrity`)
    tokens-*.npz     captions as numbers, one file a tokenizer (see `clipedu.data.token_cache`)

KEY is a hash of what the pixels depend on, so another image size is another entry. Entries can be deleted at any time. An
entry is called `NAME-KEY.partial` until it is complete. A slot's offset in the file is known before its image is decoded, so
any number of workers fill their slots in any order, with the same bytes in the end. A part is a run of slots: it is on the
disk before a line in `parts.jsonl` says so, and after a crash only the missing parts are decoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.data.identity import DIGEST_BYTES, content_digest
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json

log = logging.getLogger("clipedu")

PIXELS, PARTS = "pixels.npy", "parts.jsonl"
DIGESTS, ROWS, ENTRY = "digests.bin", "rows.json", "entry.json"
SOURCE = "source.json"  # of a draft: what the parts that are done were decoded from
HEADER = 128  # bytes before the first slot of pixels.npy
STALE = 7 * 24 * 3600  # seconds after which an entry that was left incomplete is deleted
PATIENCE = 2.0  # seconds to wait in silence for another process that makes the same entry
RELEASE = 2**29  # bytes touched of a map larger than that before its memory is released
AROUND = 2**16  # bytes that the system maps beyond those requested (Linux's fault_around_bytes)


class Pixels:
    """Images of an entry, read on use: `pixels[rows]` is [B, 3, S, S] uint8.

    What was touched of a memory map counts as memory of the process. A large map's memory is released every `RELEASE`
    bytes, so that 10 GB can be read with half a GB in use. A map stays readable if the entry is deleted meanwhile.

    Args:
        path: of pixels.npy.
        holes: slots without an image; rows skip them.
    """

    def __init__(self, path: Path, holes: list[int]):
        count, *shape = np.load(path, mmap_mode="r").shape  # raises ValueError for a damaged file
        self._slots = np.delete(np.arange(count), holes) if holes else None
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._images = np.frombuffer(self._map, np.uint8, offset=HEADER).reshape(count, *shape)
        self._digests = np.fromfile(path.with_name(DIGESTS), np.uint8).reshape(-1, DIGEST_BYTES)
        self._read, self._made_of = 0, (path, holes)

    def __reduce__(self) -> tuple:
        """Pickle the name of the file, not its contents."""
        return Pixels, self._made_of

    def __len__(self) -> int:
        return len(self._images if self._slots is None else self._slots)

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """Return the digests of images, as they were when they were written."""
        return self._digests[rows if self._slots is None else self._slots[rows]]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        images = self._images[rows if self._slots is None else self._slots[rows]]
        self._read += images.nbytes + len(images) * AROUND
        if min(self._read, len(self._map)) > RELEASE and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return images


def cache_folder() -> Path:
    """Return the folder `CLIPEDU_CACHE`, by default ~/.cache/clipedu."""
    return Path(os.environ.get("CLIPEDU_CACHE") or "~/.cache/clipedu").expanduser().absolute()


def entry_folder(name: str, depends_on: Any) -> Path:
    """Return the folder of an entry, named for people and keyed by a hash.

    The key is a hash of `depends_on` (anything JSON can hold).
    """
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    return cache_folder() / f"{re.sub('[^A-Za-z0-9_.-]+', '_', name)}-{key}"


def load(entry: Path) -> tuple[Pixels, dict[str, Any]] | None:
    """Open pixels and rows of an entry; None if it is missing or incomplete.

    Whether it is still right says `clipedu.data.shards.integrity`.
    """
    try:
        rows = parse_json((entry / ROWS).read_text(encoding="utf-8"))
        pixels = Pixels(entry / PIXELS, rows["holes"])
        return (pixels, rows) if len(pixels) == len(rows["keys"]) else None
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None


def slot_offset(slot: int, size: int) -> int:
    """Return the offset of a slot in pixels.npy, in bytes.

    It is also the length of a file with that many slots.
    """
    return HEADER + slot * 3 * size * size


class Draft:
    """An entry that is being written: a context for one process at a time.

    An error inside keeps the parts that are done for the next time; if there are none, nothing is left.

    Args:
        entry: the final folder.
        size: S, in pixels.
        source: what is decoded, anything JSON can hold; parts that were decoded from something else are not done.
    Attributes:
        entry: the final folder.
        folder: the folder while it is written.
        done: parts that are on the disk already: first and last slot + 1 -> {slot: why its image could not be decoded}.
    Raises:
        OSError: the cache folder cannot be written.
    """

    def __init__(self, entry: Path, size: int, source: Any = None):
        self.entry, self.size, self._source = entry, size, json.dumps(source)
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
            self._check_source()
            self.done = {span: failed for span, (failed, _) in self._parts().items()}
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _tidy(self) -> None:
        if not self._log.exists() or self.finished():
            shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self) -> bool:
        """Check whether the entry is complete, perhaps made by another process."""
        return load(self.entry) is not None

    def discard(self) -> None:
        """Delete the entry of that name, which is damaged or of other shards."""
        shutil.rmtree(self.entry, ignore_errors=True)

    def _check_source(self) -> None:
        """Forget parts that were decoded from something else."""
        path = self.folder / SOURCE
        if not (path.is_file() and path.read_text(encoding="utf-8") == self._source):
            self._log.unlink(missing_ok=True)
            path.write_text(self._source, encoding="utf-8")

    def _parts(self) -> dict[tuple[int, int], tuple[dict[int, str], bytes]]:
        """Read the log: first and last slot + 1 -> reasons, and digests."""
        done = {}
        length = (self.folder / PIXELS).stat().st_size
        for line in self._log.read_bytes().splitlines() if self._log.exists() else []:
            try:
                start, stop, failed, digests = json.loads(line)
            except ValueError:  # the last line, half written in a crash
                continue
            if slot_offset(stop - len(failed), self.size) <= length:
                done[start, stop] = {int(slot): why for slot, why in failed.items()}, bytes.fromhex(digests)
        return done

    def finish(self, count: int, rows: dict[str, Any], shards: dict[str, Any] | None = None) -> None:
        """Complete the entry, and give it its final name.

        Args:
            count: how many slots it has.
            rows: for rows.json.
            shards: how the shards are known again, for entry.json.
        """
        with open(self.folder / PIXELS, "r+b") as file:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, self.size, self.size)}
            np.lib.format.write_array_header_1_0(file, shape)
            if file.tell() != HEADER:
                raise RuntimeError("numpy wrote a header of another length")
            file.truncate(slot_offset(count, self.size))
            os.fsync(file.fileno())
        digests = np.zeros((count, DIGEST_BYTES), np.uint8)
        for (start, stop), (_, found) in self._parts().items():
            digests[start:stop] = np.frombuffer(found, np.uint8).reshape(-1, DIGEST_BYTES)
        self._write(DIGESTS, digests.tobytes())
        self._write(ROWS, rows)
        pixels = (self.folder / PIXELS).stat()
        facts = {
            "files": {name: content_digest((self.folder / name).read_bytes()).hex() for name in (DIGESTS, ROWS)},
            "pixels": [pixels.st_size, pixels.st_mtime_ns],
            "shards": shards or {},
        }
        self._write(ENTRY, facts)
        (self.folder / SOURCE).unlink()
        shutil.rmtree(self.entry, ignore_errors=True)  # a damaged one
        os.rename(self.folder, self.entry)
        (self.entry / PARTS).unlink(missing_ok=True)

    def _write(self, name: str, content: Any) -> None:
        """Write a file, bytes as they are and others as JSON, and sync it."""
        with open(self.folder / name, "wb" if isinstance(content, bytes) else "w") as file:
            file.write(content) if isinstance(content, bytes) else json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())


def write_part(folder: Path, start: int, size: int, images: Iterable[np.ndarray | str]) -> dict[int, str]:
    """Write images to the slots of a draft, sync them, and record it.

    Args:
        folder: `Draft.folder`.
        start: the first slot.
        size: S, in pixels.
        images: uint8 [3, S, S] each, or in its place the reason why there is none.
    Returns:
        the slots that have no image, and why.
    Raises:
        OSError: they cannot be written.
    """
    failed, digests, slot = {}, b"", start
    with open(folder / PIXELS, "r+b") as file:
        for slot, image in enumerate(images, start):
            if isinstance(image, str):
                failed[slot] = image
                digests += bytes(DIGEST_BYTES)
                continue
            file.seek(slot_offset(slot, size))
            file.write(image.data)
            digests += content_digest(image.data)
        file.flush()
        os.fsync(file.fileno())
    line = json.dumps([start, slot + 1, failed, digests.hex()]).encode()
    with open(folder / PARTS, "ab", buffering=0) as log_file:  # one write at the end: lines of processes don't mix
        log_file.write(b"\n" + line + b"\n")
    return failed


@contextmanager
def _alone(entry: Path) -> Iterator[None]:
    """Hold the lock of an entry; the system frees it after a kill."""
    from filelock import FileLock, Timeout

    lock = FileLock(entry.with_name(f"{entry.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        log.warning("waiting for another process that makes %s", entry)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # a process that waits for it makes it again
            os.unlink(lock.lock_file)
        lock.release()


def cannot_write(error: OSError) -> ClipeduError:
    """Make the error for a cache folder that cannot be written, or is full."""
    return ClipeduError(
        f"cannot write decoded images to {cache_folder()} ({error.strerror or error}): free some space there, "
        "or set CLIPEDU_CACHE to a folder that can be written and has space; what is decoded already is kept"
    )


def _sweep(folder: Path, ours: Path) -> None:
    """Delete what was left incomplete a week ago or more.

    It deletes entries, and files that `atomic_write` left after a kill.
    """
    for partial in folder.glob("*.partial"):
        try:
            inside = partial.iterdir() if partial.is_dir() else ()
            newest = max(path.stat().st_mtime for path in (partial, *inside))
        except OSError:  # another process has just renamed or deleted it
            continue
        if partial != ours and time.time() - newest > STALE:
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)
