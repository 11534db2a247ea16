"""Read the samples of a shard, a tar in the WebDataset layout.

Files of a tar that share a key are one sample. The key is the path up to the first dot of the file name:

    000012.jpg  000012.txt  000012.json        one pair, key "000012"
    n01440764.jpg  n01440764.cls               one labelled image, key "n01440764"

- image: .jpg, .jpeg, .png or .webp;
- captions: those in the .json (a list "captions" or a text "caption") if there are any, else the lines of the .txt;
- class index: the .cls.

Other files are ignored. A damaged sample is reported with its reason and left out; the rest of the shard is still read.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

IMAGES = ("jpg", "jpeg", "png", "webp")
KNOWN = (*IMAGES, "txt", "json", "cls")
MAX_TEXT = 2**20  # bytes of a .txt, .json or .cls
MAX_IMAGE = 2**28  # bytes of an image file


@dataclass
class Sample:
    """One sample of a shard: where its image is, its captions and its label.

    `captions` is None where there is no caption file, and empty where the captions are blank. `trouble` says what is wrong
    with a damaged sample, and is "" for a good one.
    """

    shard: str
    key: str
    path: Path
    offset: int = 0
    size: int = 0
    captions: list[str] | None = None
    label: int | None = None
    trouble: str = ""

    def read(self) -> bytes:
        """Read the bytes of the image file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class _Group:
    """The files of one key, by extension."""

    key: str
    files: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    trouble: str = ""


def read_shard(path: Path, shard: str) -> Iterator[Sample]:
    """Yield the samples of one tar in the order of their first files.

    Args:
        path: the tar file, not compressed.
        shard: its name in reports.
    Yields:
        samples, damaged ones among them. One with an empty key is about the shard itself, e.g. that it is cut short.
    """
    try:
        with path.open("rb") as file:
            groups, ending = _groups(file)
            for group in groups:
                if group.trouble or group.files:
                    yield _sample(file, path, shard, group)
    except OSError as error:
        ending = f"cannot be read ({error.strerror})"
    if ending:
        yield Sample(shard, "", path, trouble=ending)


def _groups(file: BinaryIO) -> tuple[list[_Group], str]:
    """Group the files of a tar by key, in order of appearance.

    The second result says what is wrong with the end of the tar ("" if nothing).
    """
    runs, ending = _runs(file)
    groups: dict[str, _Group] = {}
    repeated = []
    for run in runs:
        known = groups.setdefault(run.key, run)
        if known is run:
            continue
        if known.files.keys().isdisjoint(run.files):  # e.g. all images first, then all texts
            known.files.update(run.files)
            known.trouble = known.trouble or run.trouble
        else:
            repeated.append(_Group(run.key, trouble="duplicate key, only the first sample is kept"))
    return [*groups.values(), *repeated], ending


def _runs(file: BinaryIO) -> tuple[list[_Group], str]:
    """Collect neighbouring files of a key; a repeated kind begins a new run."""
    length = file.seek(0, 2)
    file.seek(0)
    runs: list[_Group] = []
    count, position = 0, -1
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.offset <= position or member.size < 0:  # a forged size makes tarfile loop
                    raise tarfile.ReadError("impossible file size")
                count, position = count + 1, member.offset
                _take(member, runs, length)
            file.seek(tar.offset)
            mark = file.read(tarfile.BLOCKSIZE)
    except Exception as error:  # noqa: BLE001  a damaged header can fail in many ways inside tarfile
        what = "not a tar file (compressed ones cannot be read)" if count == 0 else f"damaged after {count} files"
        return runs, f"{what}: {error}"
    if not mark:
        return runs, f"no end mark after {count} files, so it was probably cut short"
    return runs, f"damaged after {count} files" if any(mark) else ""


def _take(member: tarfile.TarInfo, runs: list[_Group], length: int) -> None:
    """Put a file of a tar of `length` bytes into the last run or a new one."""
    name = member.name.removeprefix("./").encode(errors="surrogateescape").decode(errors="replace")
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    if member.isdir() or not stem:
        return
    key = folder + slash + stem
    if not runs or runs[-1].key != key or extension in runs[-1].files:
        runs.append(_Group(key))
    run = runs[-1]
    if name.startswith("/") or ".." in name.split("/"):
        run.trouble = "unsafe path"
    elif not member.isreg() or member.issparse():
        run.trouble = "a link or a device, not a file"
    elif extension in KNOWN:
        run.files[extension] = member
        if member.offset_data + member.size > length:
            run.trouble = f".{extension} is cut short, the shard ends too early"


def _sample(file: BinaryIO, path: Path, shard: str, group: _Group) -> Sample:
    sample = Sample(shard, group.key, path, trouble=group.trouble)
    image = next((group.files[extension] for extension in IMAGES if extension in group.files), None)
    if sample.trouble:
        return sample
    if image is None or image.size == 0 or image.size > MAX_IMAGE:
        sample.trouble = (
            "no image" if image is None else "image has zero bytes" if image.size == 0 else "image too large"
        )
        return sample
    sample.offset, sample.size = image.offset_data, image.size
    try:
        texts: dict[str, bytes] = {
            kind: _read(file, group.files[kind]) for kind in ("json", "txt", "cls") if kind in group.files
        }
        sample.captions = _captions(texts)
        sample.label = _label(texts)
    except UnicodeError:
        sample.trouble = "bad UTF-8"
    except ValueError as error:
        sample.trouble = str(error)
    return sample


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_TEXT:
        raise ValueError("text file too large")
    file.seek(member.offset_data)
    return file.read(member.size)


def _captions(texts: dict[str, bytes]) -> list[str] | None:
    found = None
    if "json" in texts:
        try:
            record = json.loads(texts["json"])
        except UnicodeError:
            raise
        except (ValueError, RecursionError):
            raise ValueError("bad JSON") from None
        if not isinstance(record, dict):
            raise ValueError("bad JSON: not an object")
        found = record.get("captions") or record.get("caption")
        found = [found] if isinstance(found, str) else found or None
        if found is not None and not (isinstance(found, list) and all(isinstance(caption, str) for caption in found)):
            raise ValueError("bad JSON: captions are not texts")
    if found is None and "txt" in texts:
        found = texts["txt"].decode("utf-8-sig").split("\n")
    if found is None:
        return None
    captions = [caption.strip() for caption in found]
    for caption in captions:
        caption.encode()  # JSON can spell half a surrogate pair, which is no text: UnicodeError
    return [caption for caption in captions if caption]


def _label(texts: dict[str, bytes]) -> int | None:
    if "cls" not in texts:
        return None
    text = texts["cls"].decode("utf-8-sig").strip()
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"bad class index {text[:20]!r}")
    return int(text)
