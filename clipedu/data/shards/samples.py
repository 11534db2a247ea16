"""Choose a split's shards, the samples that become rows, and classes."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clipedu.data.class_names import IMAGENET_CLASSES, imagenet_classes, read_class_names
from clipedu.data.shards.splits import ALL_WORDS, splits_in
from clipedu.data.shards.tar_reader import Sample, not_read, read_shard
from clipedu.utils.errors import ClipeduError

# split -> whose shards it takes, first choice and second choice (`splits.SPLIT_WORDS` has the words of their names)
SPLITS = {"train": ("train",), "val": ("val", "test")}
SPLITS["zeroshot"] = SPLITS["val"]


class MissingSplit(ClipeduError):
    """A folder has shards, but none of the requested split."""


def shard_paths(folder: Path) -> list[Path]:
    """List the .tar files of a folder, in order.

    Those of its subfolders that are named after a split are included.
    """
    return [path for path in _files(folder) if path.suffix == ".tar"]


def _files(folder: Path) -> list[Path]:
    paths = [*folder.glob("*.*"), *(path for word in ALL_WORDS for path in folder.glob(f"{word}/*.*"))]
    return sorted(path for path in paths if path.is_file())


def _almost_shards(folder: Path) -> list[str]:
    """Name the tars that are not read, a line each."""
    ending = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|z)|tgz|tbz2?|txz)$", re.IGNORECASE)
    lines = []
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if ending.search(name):
            lines.append(f"{name}: not used, it is compressed: unpack it to a .tar")
        elif path.suffix != ".tar" and path.suffix.lower() == ".tar":
            lines.append(f"{name}: not used, its name must end in .tar")
    deeper = Counter(path.parent.name for path in folder.glob("*/*.tar") if path.parent.name not in ALL_WORDS)
    for name, count in sorted(deeper.items()):
        if not name.startswith("."):
            lines.append(f"{name}: not used, a folder that is not named after a split ({count} .tar)")
    return lines


def shard_names(folder: Path, split: str) -> tuple[dict[str, Path], list[str]]:
    """Find the shards of one split: name to path, in order.

    The second result has a line for each shard that belongs to no split, and for what looks like shards and is not read.

    Raises:
        ClipeduError: no such folder, or no shards in it.
        MissingSplit: none of this split.
    """
    if not os.path.isdir(folder):  # unlike Path's, no error where the name is too long
        what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
        raise ClipeduError(f"{folder} {what}: give a folder that holds .tar shards")
    shards = {path.relative_to(folder).as_posix(): path for path in shard_paths(folder)}
    if not shards:
        almost = "".join(f" ({line})" for line in _almost_shards(folder)[:1])
        raise ClipeduError(
            f"{folder} holds no .tar shards{almost}: give a folder of tars with KEY.jpg and KEY.txt or KEY.json in them"
        )
    unused = _almost_shards(folder)
    splits = {name: splits_in(name) for name in shards}
    if not any(splits.values()):
        return shards, unused
    none = f"not used, its name has none of the words {', '.join(sorted(ALL_WORDS))}"
    unused += [f"{name}: {none}" for name in shards if not splits[name]]
    for choice in SPLITS[split]:
        if chosen := {name: path for name, path in shards.items() if choice in splits[name]}:
            return chosen, unused
    there = ", ".join(sorted(set.union(*splits.values())))
    raise MissingSplit(f"{folder} has no shards of split {split!r}: their names say {there}")


def usable(shards: dict[str, Path], classes: int | None, progress: Callable[[int], object]) -> Iterator[Sample]:
    """Yield all samples, with `trouble` where one cannot be a row.

    The first shard decides the kind of the set: captions (labels) are needed if most of its samples have them.

    Args:
        shards: name to path.
        classes: how many classes there are; None if that is not known.
        progress: called with the bytes of each shard that was read.
    """
    captioned = labelled = None
    seen: dict[str, tuple[bytes, str]] = {}  # key -> the facts of the first sample of that key, and its shard
    for name, path in shards.items():
        samples = list(read_shard(path, name))
        good = [sample for sample in samples if not sample.trouble]
        if good and captioned is None:
            labelled = sum(sample.label is not None for sample in good) * 2 > len(good)
            captioned = sum(sample.captions is not None for sample in good) * 2 > len(good) or not labelled
        for sample in samples:
            sample.captions = sample.captions if captioned else []
            sample.label = sample.label if labelled else None
            if not sample.trouble:
                facts = _facts(sample)
                first, shard = seen.get(sample.key, (None, ""))
                seen.setdefault(sample.key, (facts, name))
                if first == facts:
                    sample.trouble = f"duplicate key (the same sample is in {shard})"
                elif captioned and not sample.captions:
                    none = "no caption" + not_read(sample.others)
                    sample.trouble = none if sample.captions is None else "empty caption"
                elif labelled and sample.label is None:
                    sample.trouble = "no class index" + not_read(sample.others)
                elif sample.label is not None and classes is not None and sample.label >= classes:
                    sample.trouble = f"bad class index ({sample.label}, there are {classes} classes)"
            yield sample
        progress(path.stat().st_size)


def _facts(sample: Sample) -> bytes:
    return hashlib.blake2b(repr((sample.size, sample.captions, sample.label)).encode(), digest_size=12).digest()


def until(samples: Iterator[Sample], count: int) -> Iterator[Sample]:
    """Yield samples up to the `count`-th good one."""
    for sample in samples:
        yield sample
        count -= not sample.trouble
        if count == 0:
            return


def class_names(folder: Path, shards: Iterable[str]) -> tuple[int, Callable[[], list[str]]] | None:
    """Return the number of classes and a function that names them.

    The result is None if the folder doesn't say.

    Raises:
        ClipeduError: a classnames.txt that leaves a class without a name.
    """
    file = folder / "classnames.txt"
    if file.is_file():
        names = read_class_names(file)
        return len(names), lambda: names
    if any("imagenet" in name.lower() for name in (folder.resolve().name, *shards)):
        return IMAGENET_CLASSES, imagenet_classes
    return None
