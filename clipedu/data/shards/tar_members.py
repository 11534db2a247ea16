"""List the members of a tar, or of several tars written in a row.

A tar ends with a mark of zero blocks, and most programs stop there. `cat a.tar b.tar > c.tar` puts the files of b.tar behind
the mark of a.tar; here they are listed too, as those of archive 1. What cannot be read of a tar is said, not raised.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

CHUNK = 2**20  # bytes of zeros that are read at a time; a multiple of a tar's block


class Member(NamedTuple):
    """One entry of a tar.

    Attributes:
        name: its path, without a leading "./", as text.
        kind: "file", "folder", "link or a device", or "sparse file".
        offset: of its contents in the file.
        size: in bytes.
        archive: 0 for those before the first end mark, 1 for those before the second, and so on.
    """

    name: str
    kind: str
    offset: int
    size: int
    archive: int


@dataclass
class Members:
    """The members of a tar in order.

    `length` is that of the file in bytes; `ending` says what is wrong with its end, or with the file itself ("" if nothing).
    """

    found: list[Member]
    length: int
    ending: str


def list_members(file: BinaryIO) -> Members:
    """Read all headers of a tar that is not compressed, past end marks.

    A damaged header ends the list.

    Args:
        file: open for reading, anywhere.
    Raises:
        OSError: it cannot be read.
    """
    length = file.seek(0, 2)
    found: list[Member] = []
    start: int | None = 0
    archive = 0
    while start is not None:
        before = len(found)
        file.seek(start)
        try:
            end = _archive(file, archive, found)
        except Exception as error:  # noqa: BLE001  a damaged header can fail in many ways inside tarfile
            what = f"damaged (after {len(found)} files: {error})"
            return Members(
                found, length, what if found else f"not a tar file (compressed ones cannot be read): {error}"
            )
        if archive and len(found) == before:
            return Members(found, length, f"bytes behind the end mark that are no tar (after {len(found)} files)")
        file.seek(end)
        mark = file.read(tarfile.BLOCKSIZE)
        if not mark:
            return Members(found, length, f"cut short, it seems (no end mark after {len(found)} files)")
        if any(mark):
            return Members(found, length, f"damaged (after {len(found)} files)")
        start, archive = _after_zeros(file, end), archive + 1
    return Members(found, length, "")


def _archive(file: BinaryIO, archive: int, found: list[Member]) -> int:
    """Append the members up to the next end mark; returns where that is."""
    position = -1
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if info.offset <= position or info.size < 0:  # a forged size makes tarfile loop
                raise tarfile.ReadError("impossible file size")
            position = info.offset
            name = info.name.removeprefix("./").encode(errors="surrogateescape").decode(errors="replace")
            found.append(Member(name, _kind(info), info.offset_data, info.size, archive))
        return tar.offset


def _kind(info: tarfile.TarInfo) -> str:
    if info.isdir():
        return "folder"
    if info.issparse():
        return "sparse file"
    return "file" if info.isreg() else "link or a device"


def _after_zeros(file: BinaryIO, start: int) -> int | None:
    """Return the offset of the first block from `start` on that is not zero."""
    file.seek(start)
    while chunk := file.read(CHUNK):
        if rest := chunk.lstrip(b"\0"):
            return start + (len(chunk) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        start += len(chunk)
    return None
