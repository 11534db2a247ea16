"""Find, read and decode the pictures that a table of captions names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

from clipedu.data.shards import images
from clipedu.data.shards.tar_reader import IMAGES, MAX_IMAGE

CHECK_SIZE = 224  # pixels; as most trainings decode
_AT_ONCE = 32  # pictures in memory


class UnusablePicture(ValueError):
    """A picture that cannot be packed. The message says why.

    `kind` is the same for all pictures with the same fault.
    """

    def __init__(self, kind: str, why: str = ""):
        super().__init__(why or kind)
        self.kind = kind


def locate(name: str, folder: Path) -> str:
    """Return the name of a picture inside a folder in its shortest form.

    "./a.jpg" and "sub//a.jpg" are "a.jpg" and "sub/a.jpg".

    A table often comes from elsewhere, so no name in it may lead out of the folder: "..", an absolute name or a drive would let
    a stranger's table put any picture of this machine into shards that are then shared. A link inside the folder is another
    matter. Only who fills the folder can make one, no table can, and a hub's cache consists of links to files beside it; so links
    are followed, wherever they lead.

    Raises:
        UnusablePicture: a name outside the folder, of another kind of file, or of a file that is not there or is empty.
    """
    windows = PureWindowsPath(name)
    if "\\" in name or windows.drive or windows.root or ".." in windows.parts or not windows.parts:
        raise UnusablePicture("not a file inside the folder")
    path = PurePosixPath(name)
    if path.suffix.lower().lstrip(".") not in IMAGES:
        raise UnusablePicture(f"not a {', '.join(IMAGES)}")
    try:
        status = os.stat(folder / path)
    except (FileNotFoundError, NotADirectoryError):
        link = os.path.islink(folder / path)
        raise UnusablePicture("a link to a file that is not there" if link else "no such file") from None
    except (OSError, ValueError) as error:  # e.g. a name longer than the file system allows, a circle of links
        raise UnusablePicture("no such file", f"no such file ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise UnusablePicture("a folder or a device, not a file")
    if not 0 < status.st_size <= MAX_IMAGE:
        raise UnusablePicture("too large" if status.st_size else "zero bytes")
    return str(path)


def read_pictures(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes | UnusablePicture]]:
    """Yield the name and the bytes of each picture, in order, or why not.

    Several threads read and decode, some pictures at a time.
    """

    def read(name: str) -> bytes | UnusablePicture:
        try:
            return read_picture(folder / name)
        except UnusablePicture as error:
            return error

    with images.quiet(), ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            yield from zip(some, pool.map(read, some), strict=True)


def read_picture(path: Path) -> bytes:
    """Read a picture file, and decode it once as training does.

    Raises:
        UnusablePicture: it cannot be read or decoded.
    """
    try:
        data = path.read_bytes()
        images.decode(data, CHECK_SIZE, "crop")
    except OSError as error:
        raise UnusablePicture("cannot be read", f"cannot be read ({error.strerror or error})") from None
    except images.BadImage as error:
        raise UnusablePicture("does not decode", str(error)) from None
    return data
