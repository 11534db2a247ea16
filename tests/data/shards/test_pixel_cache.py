"""The pixel cache: entries that are complete or not there, memory that is given back, and disks that are full."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clipedu.data.prepare import prepare_cache, verify_cache
from clipedu.data.shards import decoding as decode
from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.dataset import Shards
from clipedu.utils.errors import ClipeduError
from tests.helpers.cached_shards import (
    as_planes,
    counting,
    every_pixel,
    fsync_raising_at,
    one_line,
    path_here,
)
from tests.helpers.shard_maker import make_shards, photo

pytestmark = pytest.mark.usefixtures("cache_home")


def test_pixels_npy_is_an_npy_file(mixed):
    folder = prepare_cache(mixed, image_size=8, progress=False).folder
    stored = np.load(folder / "pixels.npy")
    assert (stored.shape, stored.dtype) == ((19, 3, 8, 8), np.uint8)  # a slot for each image that was tried
    assert json.loads((folder / "rows.json").read_text())["holes"] == [5, 18] and not stored[5].any()


def test_half_a_line_in_the_log_is_no_part(mixed, cache_home, monkeypatch):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", fsync_raising_at(3, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_cache(mixed, image_size=24, progress=False)
    (log,) = cache_home.glob("*/parts.jsonl")
    log.write_bytes(log.read_bytes().rstrip()[:-3])
    calls = counting(monkeypatch)
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17 and len(calls) == 19 - 4


def test_parts_without_pixels_are_no_parts(mixed, cache_home, monkeypatch):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", fsync_raising_at(3, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_cache(mixed, image_size=24, progress=False)
    (pixels,) = cache_home.glob("*/pixels.npy")
    pixels.unlink()
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17
    assert not verify_cache(mixed, image_size=24, images=None, progress=False).problems


def test_who_waits_says_so(mixed, cache_home, monkeypatch, caplog):
    from filelock import FileLock

    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    entry = decode.find_source(mixed, "train", 24, "crop").entry()
    other = FileLock(f"{entry}.lock")
    cache_home.mkdir()
    other.acquire()
    real = FileLock.acquire

    def acquire(lock, timeout=None):
        if timeout is None:
            other.release()
        return real(lock, timeout=timeout)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17
    assert "waiting for another process" in caplog.text and list(cache_home.iterdir()) == [entry]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_reading_a_large_map_takes_little_memory(tmp_path, cache_home):
    entry = cache.entry_folder("large", [])
    with cache.Draft(entry, 128) as draft:
        draft.finish(10_000, {"keys": [""] * 10_000, "holes": []})  # 491 MB of zeros, which take no disk
    code = f"""
import re, numpy as np
from pathlib import Path
from clipedu.data.shards import pixel_cache as cache
cache.RELEASE = 2**24
pixels, _ = cache.load(Path({str(entry)!r}))
for start in range(0, 10_000, 100):
    assert not pixels[np.arange(start, start + 100)].any()
print(re.search("VmHWM:\\\\s+(\\\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | path_here())
    assert int(done.stdout) < 200_000, done.stderr


def test_a_map_whose_memory_is_given_back_is_still_right(mixed, monkeypatch):
    pairs = Shards(mixed, image_size=24)
    before = pairs.pixels(torch.arange(17))
    monkeypatch.setattr(cache, "RELEASE", 1)
    assert torch.equal(pairs.pixels(torch.arange(17)), before) and torch.equal(pairs.pixels(torch.arange(17)), before)


def test_another_process_gets_the_file_and_not_what_is_in_it(mixed):
    pairs = Shards(mixed, image_size=64)
    packed = pickle.dumps(pairs)
    assert len(packed) < 17 * 3 * 64 * 64 / 10
    assert torch.equal(pickle.loads(packed).pixels(torch.arange(17)), pairs.pixels(torch.arange(17)))


def test_what_others_left_half_written_goes_after_a_week(tmp_path, cache_home):
    names = ("old", "fresh", "busy")
    for name in names:
        (cache_home / f"{name}.partial").mkdir(parents=True)
        (cache_home / f"{name}.partial" / "pixels.npy").write_bytes(b"x")
    long_ago = (time.time() - cache.STALE - 60,) * 2
    (cache_home / ".features.0123.partial").write_bytes(b"x")  # of `atomic_write`, after a kill
    for path in ("old.partial/pixels.npy", "old.partial", "busy.partial", ".features.0123.partial"):
        os.utime(cache_home / path, long_ago)
    pairs = Shards(make_shards(tmp_path / "toy", 2), image_size=8)
    assert {path.name for path in cache_home.iterdir()} == {"fresh.partial", "busy.partial", pairs.cache.name}


@pytest.mark.parametrize("name, content", [("pixels.npy", b""), ("pixels.npy", None), ("rows.json", b'{"keys": [')])
def test_a_damaged_entry_is_made_again(tmp_path, cache_home, name, content):
    folder = make_shards(tmp_path / "toy", 3)
    Shards(folder, image_size=24)
    (entry,) = cache_home.iterdir()
    path = entry / name
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    pairs = Shards(folder, image_size=24)
    assert torch.equal(every_pixel(pairs)[2], as_planes(photo(2)))
    assert [folder.name for folder in cache_home.iterdir()] == [entry.name]


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 2)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ClipeduError) as error:
        Shards(folder, image_size=8)
    assert "CLIPEDU_CACHE" in one_line(error) and str(tmp_path / "file") in one_line(error)


def test_a_full_disk(tmp_path, cache_home, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClipeduError) as error:
        Shards(make_shards(tmp_path / "toy", 2), image_size=8)
    assert "CLIPEDU_CACHE" in one_line(error) and "No space left" in one_line(error)
    assert os.listdir(cache_home) == []


def test_cache_folder_default(monkeypatch):
    monkeypatch.delenv("CLIPEDU_CACHE")
    assert cache.cache_folder() == Path.home() / ".cache" / "clipedu"


LIMITED = """
import resource, sys
from clipedu.data.shards import decoding as decode
from clipedu.data.prepare import prepare_cache
from clipedu.utils.errors import ClipeduError
decode.PART = 4
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    prepare_cache(sys.argv[1], image_size=24, workers=int(sys.argv[3]), progress=False)
except ClipeduError as error:
    print(error)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_grow(tmp_path, cache_home, workers, monkeypatch):
    folder = make_shards(tmp_path / "toy", 20)
    room = str(10 * 3 * 24 * 24)  # ten of twenty images
    command = [sys.executable, "-c", LIMITED, str(folder), room, str(workers)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path)
    assert "cannot write decoded images" in done.stdout and "CLIPEDU_CACHE" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1 and "File too large" in done.stdout and not done.stderr
    assert all(path.name.endswith(".partial") for path in cache_home.iterdir())
    real, calls = images.decode, []
    monkeypatch.setattr(images, "decode", lambda *args: calls.append(1) or real(*args))
    monkeypatch.setattr(decode, "PART", 4)
    assert prepare_cache(folder, image_size=24, progress=False).rows == 20
    assert len(calls) == 12 if workers == 1 else 12 <= len(calls) <= 20  # two parts were there
    assert not verify_cache(folder, image_size=24, images=None, progress=False).problems


def test_no_room_for_the_rows(tmp_path, cache_home, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    folder = make_shards(tmp_path / "toy", 3)
    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        with pytest.raises(ClipeduError, match="No space left"):
            prepare_cache(folder, image_size=24, progress=False)
    (partial,) = cache_home.iterdir()
    assert partial.name.endswith(".partial")
    assert prepare_cache(folder, image_size=24, progress=False).rows == 3
