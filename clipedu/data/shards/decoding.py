"""Decode shards into an entry of the pixel cache, by many processes.

The index comes first: one pass over the headers of the tars finds the samples that become rows. Sample number i has slot i
of the entry. Then any number of processes, in any order, decode parts (some hundred neighbouring slots each), write them to
their offsets, and record that they are done; the bytes in the end are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
from tqdm.auto import tqdm

from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.integrity import describe_shards, open_whole, shard_states
from clipedu.data.shards.left_out import one_line
from clipedu.data.shards.samples import SPLITS, class_names, shard_names, until, usable
from clipedu.data.shards.tar_reader import Sample
from clipedu.utils.disk_space import check_free_space
from clipedu.utils.errors import ClipeduError, unknown_name

VERSION = 4
PART = 256  # slots
FEW = 2000  # images that are decoded before other processes would have started
_PATIENCE = 2.0  # seconds before a progress bar appears


@dataclass(frozen=True)
class Source:
    """The shards of one split of a folder, and how to decode them."""

    folder: Path
    split: str
    image_size: int
    resize: str
    shards: dict[str, Path]  # name -> path, in order
    unused: list[str]  # a line for each shard that belongs to no split
    names: tuple[int, Callable[[], list[str]]] | None  # how many classes, and a function that names them

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def entry(self, size: int | None = None) -> Path:
        """Return the cache entry of the first `size` rows (None: all).

        The entry differs once a shard has another size or date; `clipedu.data.shards.integrity` finds the changes that
        show in neither.
        """
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.shards.values()]
        facts = [VERSION, stats, self.names and self.names[0], self.image_size, self.resize, size]
        return cache.entry_folder(f"{self.name}-{self.image_size}px", facts)

    def index(self, progress: bool) -> Iterator[Sample]:
        """Yield all samples in order, with `trouble` if one cannot be a row."""
        total = sum(path.stat().st_size for path in self.shards.values())
        with _bar(f"reading {self.name}", total, "B", progress) as bar:
            yield from usable(self.shards, self.names and self.names[0], bar.update)


def find_source(folder: str | os.PathLike, split: str, image_size: int, resize: str) -> Source:
    """Check the options and find the shards they are about.

    Args:
        folder: holds the shards.
        split: "train", "val" or "zeroshot".
        image_size: height and width, 1 to 1024 pixels.
        resize: "crop" or "squash" (see `clipedu.data.shards.images`).
    Raises:
        ClipeduError: an unknown split or resize, an image size out of range, or no shards of the split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if resize not in images.RESIZE:
        raise unknown_name("resize", resize, images.RESIZE)
    if not 1 <= image_size <= 1024:
        raise ClipeduError(f"image_size={image_size} cannot be used: give 1 to 1024 pixels")
    folder = Path(folder).expanduser()
    shards, unused = shard_names(folder, split)
    return Source(folder, split, image_size, resize, shards, unused, class_names(folder, shards))


def open_source(
    source: Source, size: int | None = None, workers: int | None = None, progress: bool = True
) -> tuple[Path, cache.Pixels, dict[str, Any]]:
    """Open the cache entry of a source; decode it first if it is missing.

    Returns its folder, its pixels and its rows.

    An entry of the whole set is taken for any `size`.

    Args:
        source: what to decode.
        size: how many rows are needed; None needs all.
        workers, progress: see `decode_source`.
    Raises:
        ClipeduError: as `decode_source`.
    """
    entries = [source.entry(size), source.entry()]
    for attempt in range(2):
        for entry in entries[: 1 if size is None else 2]:
            if (found := open_whole(entry, source.shards)) is not None:
                if size is not None and len(found[0]) < size:
                    raise too_few(source, size, f"only {len(found[0])}")
                return entry, *found
        if attempt == 0:
            decode_source(source, size, workers, progress)
    raise ClipeduError(
        f"{entries[0]} was written but cannot be read: delete it, or set CLIPEDU_CACHE to another folder"
    )


def decode_source(source: Source, size: int | None, workers: int | None = None, progress: bool = True) -> None:
    """Write a cache entry, or continue where an earlier one was stopped.

    Args:
        source: what to decode.
        size: how many rows; None decodes all.
        workers: processes; None takes all cores for a large set, and only this process for a small one.
        progress: show bars.
    Raises:
        ClipeduError: no usable pair, fewer than `size`, no space, or shards that change meanwhile.
    """
    if workers is not None and workers < 1:
        raise ClipeduError(f"workers={workers} cannot be used: give at least 1, or None for all cores")
    entry = source.entry(size)
    try:
        states = shard_states(source.shards)
        with cache.Draft(entry, source.image_size, states) as draft:
            if open_whole(entry, source.shards, tell=True) is not None:  # made by the process that was waited for
                return
            draft.discard()
            count, rows, read = _decode(draft, source, size, workers, progress)
            draft.finish(count, rows, _described(source, read, states))
    except OSError as error:
        raise cache.cannot_write(error) from None


def _decode(
    draft: cache.Draft, source: Source, size: int | None, workers: int | None, progress: bool
) -> tuple[int, dict[str, Any], set[str]]:
    """Fill the slots of a draft.

    Returns how many there are, the rows, and which shards were read.
    """
    index = source.index(progress)
    samples: list[Sample] = []
    good: list[Sample] = []
    failed: dict[int, str] = {}
    while size is None or len(good) - len(failed) < size:
        more = list(index if size is None else until(index, size - len(good) + len(failed)))
        new = [sample for sample in more if not sample.trouble]
        samples += more
        there = len(good) + len(new) - len(failed)
        if size is not None and 0 < there < size:
            raise too_few(source, size, f"{'only' if failed else 'at most'} {there}")
        if not new:
            break
        failed |= _fill(draft, source, len(good), new, workers, progress)
        good += new
    rows = table(samples, failed)
    if not rows["keys"]:
        raise _none_left(source, rows)
    return len(good), rows, {sample.shard for sample in samples}


def table(samples: list[Sample], failed: dict[int, str]) -> dict[str, Any]:
    """Make the rows of an entry, as rows.json has them.

    They are of all samples, and of the slots whose images could not be decoded.
    """
    rows: dict[str, Any] = {"keys": [], "captions": [], "labels": [], "skipped": [], "holes": sorted(failed)}
    slot = -1
    for sample in samples:
        slot += not sample.trouble
        if trouble := sample.trouble or failed.get(slot):
            where = ": ".join(part for part in (sample.shard, sample.key) if part)
            rows["skipped"].append([len(rows["keys"]), one_line(where), one_line(trouble)])
            continue
        rows["keys"].append(sample.key)
        rows["captions"].append(sample.captions or [])
        rows["labels"].append(sample.label)
    labels = None if None in rows["labels"] else rows["labels"]
    return rows | {"labels": labels, "pillow": PIL.__version__}


def spread(work: Callable, jobs: Iterable[tuple], workers: int) -> Iterator[Any]:
    """Yield `work(*job)` of each job, in order, computed in several processes.

    The processes don't import the user's script again, so it needs no `if __name__ == "__main__"`.

    Args:
        work: a function that can be pickled.
        jobs: its arguments, a tuple each.
        workers: how many processes; 1 works in this one.
    Raises:
        ClipeduError: a process was killed.
    """
    if workers == 1:
        yield from (work(*job) for job in jobs)
        return
    from joblib import Parallel, delayed

    # Idle ones end after a few seconds, so that none outlives a process that is killed.
    pool = Parallel(workers, batch_size=1, return_as="generator", max_nbytes=None, idle_worker_timeout=5)
    try:
        with closing(pool(delayed(work)(*job) for job in jobs)) as results:
            yield from results
    except BrokenExecutor:
        raise ClipeduError(
            f"one of {workers} decoding processes was killed, perhaps for lack of memory: start again with fewer "
            "workers; what is decoded already is kept"
        ) from None


def parts(samples: list[Sample]) -> Iterator[tuple[int, list[Sample]]]:
    """Split samples into runs of `PART`, with the number of their first."""
    return ((start, samples[start : start + PART]) for start in range(0, len(samples), PART))


def how_many(workers: int | None, count: int) -> int:
    """Choose the number of processes for that many images."""
    if workers is not None:
        return workers
    if count < FEW:
        return 1
    from joblib import cpu_count

    return min(cpu_count(), 32)


def _fill(
    draft: cache.Draft, source: Source, first: int, samples: list[Sample], workers: int | None, progress: bool
) -> dict[int, str]:
    """Decode samples into slots from `first` on: {slot: why it failed}."""
    missing: list[tuple[int, int, list[Sample]]] = []
    failed: dict[int, str] = {}
    for start, part in parts(samples):
        span = (first + start, first + start + len(part))
        failed |= draft.done.get(span, {})
        if span not in draft.done:
            missing.append((*span, part))
    count = sum(len(part) for *_, part in missing)
    _check_space(count, source)
    jobs = [(draft.folder, start, part, source.image_size, source.resize) for start, _, part in missing]
    with _bar(f"decoding {source.name}", len(samples), "img", progress) as bar:
        bar.update(len(samples) - count)
        for (start, stop, _), bad in zip(missing, spread(_decode_part, jobs, how_many(workers, count)), strict=True):
            failed |= bad
            bar.update(stop - start)
    return failed


def _decode_part(folder: Path, start: int, samples: list[Sample], size: int, resize: str) -> dict[int, str]:
    return cache.write_part(folder, start, size, decoded(samples, size, resize))


def decoded(samples: Iterable[Sample], size: int, resize: str) -> Iterator[Any]:
    """Decode the image of each sample.

    Args:
        samples: where the images are.
        size, resize: height and width in pixels, and how images become square (see `clipedu.data.shards.images`).
    Yields:
        pixels, uint8 [3, size, size], or one line that says why there are none.
    """
    with images.quiet():
        for sample in samples:
            try:
                yield images.decode(sample.read(), size, resize)
            except (OSError, images.BadImage) as error:
                yield str(error) or type(error).__name__


def too_few(source: Source, size: int, there: str) -> ClipeduError:
    """Make the error for a `size` beyond the set.

    Args:
        source: the split of shards.
        size: how many pairs are required.
        there: how many pairs it has, e.g. "only 5".
    """
    return ClipeduError(
        f"size={size} (--train-size) is more than there is: {source.name}/{source.split} has {there} pairs. "
        "Give none for all of them"
    )


def _none_left(source: Source, rows: dict[str, Any]) -> ClipeduError:
    why = "its shards hold no sample"
    if skipped := rows["skipped"]:
        why = f"{len(skipped)} skipped, e.g. {skipped[0][1]}: {skipped[0][2]}"
    return ClipeduError(
        f"{source.folder} has no usable pair ({why}): check that its shards hold KEY.jpg with KEY.txt or KEY.json, or "
        "fetch them again"
    )


def _described(source: Source, read: set[str], states: dict[str, list[int]]) -> dict[str, list]:
    """Describe the shards that were read, which must be as they were before."""
    try:
        described = describe_shards(source.shards, [name for name in source.shards if name in read])
        same = shard_states(source.shards) == states
    except OSError:  # a shard is gone
        same = False
    if not same:
        raise ClipeduError(f"the shards in {source.folder} changed while they were read: start again")
    return described


def _check_space(count: int, source: Source) -> None:
    needed, remedy = cache.slot_offset(count, source.image_size), "or set CLIPEDU_CACHE to another folder"
    what = f"decoding {source.name} at {source.image_size} px"
    check_free_space(cache.cache_folder(), needed, what, f"take smaller images, {remedy}")


def _bar(what: str, total: int, unit: str, progress: bool) -> tqdm:
    return tqdm(
        desc=what, total=total, unit=unit, unit_scale=unit == "B", delay=_PATIENCE, mininterval=0.5, leave=False,
        disable=not progress,
    )  # fmt: skip
