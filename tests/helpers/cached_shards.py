"""What the tests of shards and of their cache share: pixels as tensors, counted or forbidden decoding, and errors of the disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

from clipedu.data.shards import images


def every_pixel(pairs) -> torch.Tensor:
    """All images of a set, uint8 [N, 3, S, S]."""
    return pairs.pixels(torch.arange(len(pairs)))


def as_planes(picture) -> torch.Tensor:
    """A picture [H, W, 3] as the tensor [3, H, W] that a set gives."""
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


def one_line(error) -> str:
    """The message of an error that pytest caught, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def content(folder: Path) -> dict[str, bytes]:
    """The files of a cache entry, but for the one with dates in it: name -> bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "entry.json"}


def no_decoding(*args):
    """Stands in for what must not be called again."""
    raise AssertionError("decoded again")


def counting(monkeypatch, stop_at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> list[int]:
    """Counts images as they are decoded; with `stop_at`, the one with that number raises."""
    calls, real = [], images.decode

    def count(*args):
        calls.append(1)
        if len(calls) == stop_at:
            raise error
        return real(*args)

    monkeypatch.setattr(images, "decode", count)
    return calls


def fsync_raising_at(number: int, error):
    """An `os.fsync` whose call with this number raises."""
    calls, fsync = [], os.fsync

    def raise_or_sync(descriptor):
        calls.append(1)
        if len(calls) == number:
            raise error
        fsync(descriptor)

    return raise_or_sync


def path_here() -> dict[str, str]:
    """The environment in which another Python finds what this one finds."""
    return {"PYTHONPATH": os.pathsep.join(sys.path)}
