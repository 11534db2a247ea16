"""Makes small folders of shards for tests: good ones, and every kind of damage that shards come with.

make_shards(tmp_path / "toy", 10, per_shard=4)          # toy-train-000.tar ... with 10 pairs
write_tar(path, sample("k", photo(0), ["a dog"]) + DAMAGE["no caption"]("x"))
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Files = list[tuple[str | tarfile.TarInfo, bytes]]  # names, or whole headers for special members, with contents


def photo(seed: int, height: int = 24, width: int = 24) -> np.ndarray:
    """A smooth picture, uint8 [height, width, 3], another one for each seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


def encode(picture: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    """The bytes of an image file; lossless for "png", and for "webp" with lossless=True."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "jpeg"}.get(kind, kind), **options)
    return buffer.getvalue()


def sample(
    key: str,
    picture: np.ndarray | Image.Image | bytes,
    captions: Sequence[str] | None = None,
    label: int | None = None,
    kind: str = "png",
) -> Files:
    """The files of one sample: the image; its captions as .txt (one) or .json (several); its class index."""
    files: Files = [(f"{key}.{kind}", picture if isinstance(picture, bytes) else encode(picture, kind))]
    if captions is not None and len(captions) == 1:
        files.append((f"{key}.txt", captions[0].encode()))
    elif captions is not None:
        files.append((f"{key}.json", json.dumps({"key": key, "captions": list(captions)}).encode()))
    if label is not None:
        files.append((f"{key}.cls", str(label).encode()))
    return files


def write_tar(path: Path, files: Files) -> Path:
    """A shard with these files in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            header = tarfile.TarInfo(name) if isinstance(name, str) else name
            if header.isreg():
                header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def make_shards(
    folder: Path,
    count: int,
    *,
    per_shard: int = 4,
    name: str | None = None,
    split: str = "train",
    captions: int = 1,
    classes: int = 0,
    side: int = 24,
) -> Path:
    """A folder with `count` good samples in shards NAME-SPLIT-000.tar and so on; returns the folder.

    Sample i has the key "k00i" and the picture `photo(i, side, side)`; its captions are "picture i", "picture i, said once
    more" ...; with `classes`, its class is i % classes. `captions=0` makes a set with labels only.
    """
    for start in range(0, count, per_shard):
        files: Files = []
        for i in range(start, min(start + per_shard, count)):
            texts = [f"picture {i}" + ", said once more" * k for k in range(captions)] or None
            files += sample(f"k{i:03d}", photo(i, side, side), texts, i % classes if classes else None)
        write_tar(folder / f"{name or folder.name}-{split}-{start // per_shard:03d}.tar", files)
    return folder


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be `width` x `height` pixels."""
    data = bytearray(encode(photo(0)))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def _special(name: str, kind: bytes, target: str = "") -> Files:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return [(header, b"")]


def _with(key: str, **changes: bytes) -> Files:
    """A good sample in which the content of some extensions is replaced or added."""
    files = {f"{key}.png": encode(photo(1)), f"{key}.txt": b"a text"}
    return list((files | {f"{key}.{extension}": content for extension, content in changes.items()}).items())


# What is wrong -> the files of one such sample under a key. `Shards.skipped` has the words, or begins with them, after the key.
DAMAGE: dict[str, Callable[[str], Files]] = {
    "no image": lambda key: [(f"{key}.txt", b"a text")],
    "no caption": lambda key: [(f"{key}.png", encode(photo(1)))],
    "empty caption": lambda key: _with(key, txt=b" \n\t\n"),
    "image has zero bytes": lambda key: _with(key, png=b""),
    "image is not a JPEG, PNG or WebP": lambda key: _with(key, png=b"GIF89a, or so"),
    "image cannot be decoded": lambda key: _with(key, png=encode(photo(1))[:200]),
    "image is too large": lambda key: _with(key, png=bomb(60_000, 60_000)),
    "bad UTF-8": lambda key: _with(key, txt=b"caf\xe9"),
    "bad JSON": lambda key: _with(key, json=b'{"captions": ["a'),
    "bad JSON: not an object": lambda key: _with(key, json=b'["a text"]'),
    "bad JSON: captions are not texts": lambda key: _with(key, json=b'{"captions": ["a text", 3]}'),
    "bad class index": lambda key: _with(key, cls=b"one"),
    "duplicate key": lambda key: _with(key) + _with(key),
    "unsafe path": lambda key: _with(f"../{key}"),
    "a link or a device, not a file": lambda key: _special(f"{key}.png", tarfile.SYMTYPE, "/etc/passwd"),
}
