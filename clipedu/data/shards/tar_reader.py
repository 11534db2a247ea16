"""Read the samples of a shard, a tar in the WebDataset layout.

Files of a tar that share a key are one sample. The key is the path up to the first dot of the file name:

    000012.jpg  000012.txt  000012.json        one pair, key "000012"
    n01440764.jpg  n01440764.cls               one labelled image, key "n01440764"

- image: .jpg, .jpeg, .png or .webp;
- captions: those in the .json (a list "captions" or a text "caption") if there are any, else the lines of the .txt;
- class index: the .cls.

`clipedu.data.shards.groups` says which files share a key. Other files are not read. What cannot be a sample is reported with
its reason and left out; the rest of the shard is still read, past end marks too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clipedu.data.shards.groups import IMAGES, TEXTS, Group, group_members, is_hidden
from clipedu.data.shards.tar_members import Member, list_members

MAX_TEXT = 2**20  # bytes of a .txt, .json or .cls
MAX_IMAGE = 2**28  # bytes of an image file


@dataclass
class Sample:
    """One sample of a shard: where its image is, its captions and its label.

    `captions` is None where there is no caption file, and empty where the captions are blank. `others` has the extensions
    of its files that are not read. `trouble` says what is wrong with a damaged sample, and is "" for a good one.
    """

    shard: str
    key: str
    path: Path
    offset: int = 0
    size: int = 0
    captions: list[str] | None = None
    label: int | None = None
    others: tuple[str, ...] = ()
    trouble: str = ""

    def read(self) -> bytes:
        """Read the bytes of the image file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def read_shard(path: Path, shard: str) -> Iterator[Sample]:
    """Yield the samples of one tar in the order of their first files.

    Args:
        path: the tar file, not compressed.
        shard: its name in reports.
    Yields:
        samples, damaged ones among them. One with an empty key is about the shard itself, e.g. that it is cut short.
    """
    about_shard = []
    try:
        with path.open("rb") as file:
            members = list_members(file)
            for group in group_members(members.found, members.length):
                yield _sample(file, path, shard, group)
        if hidden := [member.name for member in members.found if member.kind != "folder" and is_hidden(member.name)]:
            about_shard.append(f"holds hidden files ({len(hidden)}, not read, e.g. {hidden[0]})")
        about_shard.append(members.ending)
    except OSError as error:
        about_shard.append(f"cannot be read ({error.strerror})")
    yield from (Sample(shard, "", path, trouble=trouble) for trouble in about_shard if trouble)


def not_read(extensions: Iterable[str]) -> str:
    """Say in brackets which files of a key are not read; "" if none."""
    names = [
        f".{extension[:30]}" if extension else "a file without extension" for extension in dict.fromkeys(extensions)
    ]
    return f" (not read: {', '.join(names[:5])}{', ...' * (len(names) > 5)})" if names else ""


def _sample(file: BinaryIO, path: Path, shard: str, group: Group) -> Sample:
    sample = Sample(shard, group.key, path, trouble=group.trouble)
    images = [extension for extension in IMAGES if extension in group.files]
    sample.others = (*images[1:], *group.others)
    if sample.trouble:
        return sample
    image = group.files[images[0]] if images else None
    if image is None or image.size == 0 or image.size > MAX_IMAGE:
        none = "no image" + not_read(sample.others)
        sample.trouble = none if image is None else "image has zero bytes" if image.size == 0 else "image too large"
        return sample
    sample.offset, sample.size = image.offset, image.size
    try:
        texts = {kind: _read(file, group.files[kind]) for kind in TEXTS if kind in group.files}
        sample.captions = _captions(texts)
        sample.label = _label(texts)
    except UnicodeError:
        sample.trouble = "bad UTF-8"
    except ValueError as error:
        sample.trouble = str(error)
    return sample


def _read(file: BinaryIO, member: Member) -> bytes:
    if member.size > MAX_TEXT:
        raise ValueError("text file too large")
    file.seek(member.offset)
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
        raise ValueError(f"bad class index ({text[:20]!r})")
    return int(text)
