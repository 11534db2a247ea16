"""Decode a set into the pixel cache, and verify the cache.

Opening a set decodes it too (`clipedu.data.shards.dataset`), with the same code and the same result; `prepare_cache`
also reports what was left out and why, how long it took and how large it is. It can be stopped at any time, also with
kill -9; the same call continues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from tqdm.auto import tqdm

from clipedu.data.load import find_folder
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.decoding import Source, decoded, find_source, how_many, open_source, parts, spread, table
from clipedu.data.shards.integrity import changed_slots
from clipedu.data.shards.left_out import summary
from clipedu.data.shards.tar_reader import Sample
from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class CacheReport:
    """The result of `prepare_cache`: what it made, or found already there.

    Attributes:
        folder: of the entry.
        rows: how many images it has.
        dropped: every sample that was left out: ("shard: key", why).
        left_out: the same summed up, a line a reason, and shards that are not used.
        seconds: what this call took.
        bytes: of the entry on disk.
    """

    folder: Path
    rows: int
    dropped: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True)
class CacheCheck:
    """The result of `verify_cache`.

    Attributes:
        folder: of the entry.
        rows: how many images it has.
        compared: how many of them were decoded again and compared, every pixel of them.
        problems: a line each; empty if the cache is right.
    """

    folder: Path
    rows: int
    compared: int
    problems: tuple[str, ...]


def prepare_cache(
    name_or_folder: str | os.PathLike,
    split: str = "train",
    *,
    image_size: int = 32,
    resize: str = "crop",
    workers: int | None = None,
    progress: bool = True,
) -> CacheReport:
    """Decode each image of a set once and cache the pixels.

    Args:
        name_or_folder, split, image_size, resize: as for `load_pairs`.
        workers: processes; None takes all cores where that is faster. The result is the same.
        progress: show bars.
    Raises:
        ClipeduError: as `Shards`; or no space for the pixels.
    """
    start = time.perf_counter()
    source = find_source(_folder(name_or_folder), split, image_size, resize)
    entry, pixels, rows = open_source(source, None, workers, progress)
    dropped = tuple((where, why) for _, where, why in rows["skipped"])
    size = sum(path.stat().st_size for path in entry.iterdir())
    left_out = (*summary(dropped), *source.unused)
    return CacheReport(entry, len(pixels), dropped, left_out, time.perf_counter() - start, size)


def has_cache(name_or_folder: str | os.PathLike, split: str, *, image_size: int, resize: str = "crop") -> bool:
    """Check whether there is a cache to verify.

    Args:
        name_or_folder, split, image_size, resize: as for `load_pairs`.
    Raises:
        ClipeduError: an unknown set, split or resize.
    """
    return cache.load(find_source(_folder(name_or_folder), split, image_size, resize).entry()) is not None


def verify_cache(
    name_or_folder: str | os.PathLike,
    split: str = "train",
    *,
    image_size: int = 32,
    resize: str = "crop",
    images: int | None = 1000,
    workers: int | None = None,
    progress: bool = True,
) -> CacheCheck:
    """Read the shards again and compare the cache with them.

    Compared are keys, captions, labels, what was left out, and pixels, bit for bit.

    Args:
        name_or_folder, split, image_size, resize, workers, progress: as for `prepare_cache`.
        images: how many to decode again, evenly spread over the rows; None takes all. Those that could not be decoded
            are always tried again.
    Raises:
        ClipeduError: there is no cache to verify, or an unknown set, split or resize.
    """
    source = find_source(_folder(name_or_folder), split, image_size, resize)
    entry = source.entry()
    if (found := cache.load(entry)) is None:
        raise ClipeduError(
            f"{source.name}/{split} has no whole cache at {image_size} px in {cache.cache_folder()}: make it first "
            "(clipedu data cache)"
        )
    pixels, rows = found
    samples = list(source.index(progress))
    good = [sample for sample in samples if not sample.trouble]
    there = len(rows["keys"]) + len(rows["holes"])
    if len(good) != there:
        return CacheCheck(entry, len(pixels), 0, (f"the shards have {len(good)} images, the cache {there}",))

    slots = np.delete(np.arange(len(good)), rows["holes"])
    wanted = len(slots) if images is None else min(images, len(slots))
    chosen = slots[np.linspace(0, len(slots) - 1, wanted).round().astype(int)].tolist()
    tried = sorted({*chosen, *rows["holes"]})
    failed, wrong = _again(source, entry / cache.PIXELS, tried, good, workers, progress)
    was = f"; the cache is by Pillow {rows['pillow']}, this is {PIL.__version__}" * (rows["pillow"] != PIL.__version__)
    problems = [f"{good[slot].shard}: {good[slot].key}: other pixels{was}" for slot in wrong]
    damaged = set(changed_slots(entry, slots)) - set(wrong)
    problems += [f"{good[slot].shard}: {good[slot].key}: not the pixels that were written" for slot in sorted(damaged)]
    return CacheCheck(entry, len(pixels), len(chosen), (*problems, *_differences(rows, table(samples, failed))))


def _again(
    source: Source, file: Path, tried: list[int], good: list[Sample], workers: int | None, progress: bool
) -> tuple[dict[int, str], list[int]]:
    """Decode slots again: {slot: why it failed}, and slots that differ."""
    failed: dict[int, str] = {}
    wrong: list[int] = []
    jobs = [
        (file, tried[start : start + len(part)], part, source.image_size, source.resize)
        for start, part in parts([good[slot] for slot in tried])
    ]
    results = spread(_compare_part, jobs, how_many(workers, len(tried)))
    for bad, other in tqdm(results, f"comparing {source.name}", len(jobs), leave=False, delay=2, disable=not progress):
        failed |= bad
        wrong += other
    return failed, wrong


def _compare_part(
    file: Path, slots: list[int], samples: list[Sample], size: int, resize: str
) -> tuple[dict[int, str], list[int]]:
    """Compute what `_again` returns, for some slots and their samples."""
    stored = np.load(file, mmap_mode="r")
    failed, wrong = {}, []
    for slot, image in zip(slots, decoded(samples, size, resize), strict=True):
        if isinstance(image, str):
            failed[slot] = image
        elif not np.array_equal(stored[slot], image):
            wrong.append(slot)
    return failed, wrong


def _differences(there: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each part of rows.json that differs from the shards."""
    for part in ("keys", "captions", "labels", "skipped", "holes"):
        if there[part] == expected[part]:
            continue
        where = ""
        if isinstance(there[part], list) and isinstance(expected[part], list):
            both = zip(there[part], expected[part], strict=False)  # lists of two lengths are reported as such
            first = next((i for i, (a, b) in enumerate(both) if a != b), None)
            where = " have another number" if first is None else f" differ, first at number {first}"
        yield f"{part}{where or ' differ'}: not as the shards have them"


def _folder(name_or_folder: str | os.PathLike) -> Path:
    if name_or_folder == "scenes":
        raise ClipeduError("scenes are drawn when they are asked for: they have no shards, and need no cache")
    return find_folder(name_or_folder)
