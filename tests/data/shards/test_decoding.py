"""Decoding: the same bytes by any number of processes, stopped anywhere and begun again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
import torch

from clipedu.data.prepare import prepare_cache
from clipedu.data.shards import decoding as decode
from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards import tar_reader as tars
from clipedu.data.shards.dataset import Shards
from clipedu.utils import disk_space
from clipedu.utils.errors import ClipeduError
from tests.helpers.cached_shards import (
    as_planes,
    content,
    counting,
    every_pixel,
    fsync_raising_at,
    no_decoding,
    one_line,
    path_here,
)
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


def test_the_same_bytes_for_any_number_of_processes(mixed, monkeypatch, tmp_path):
    monkeypatch.setattr(decode, "PART", 3)
    made = []
    for workers in (1, 2, 3):
        monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / f"cache{workers}"))
        made.append(content(prepare_cache(mixed, image_size=24, workers=workers, progress=False).folder))
    assert made[0] == made[1] == made[2] and set(made[0]) == {"digests.bin", "pixels.npy", "rows.json"}
    monkeypatch.setattr(decode, "PART", 256)
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache0"))
    assert content(Shards(mixed, image_size=24).cache) == made[0]


def test_size_in_rounds_over_images_that_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "PART", 2)
    cut = encode(photo(1))[:200]
    for i in range(12):
        write_tar(tmp_path / "toy" / f"{i:02d}.tar", sample(f"k{i}", photo(i) if i % 3 == 2 else cut, ["a text"]))
    pairs = Shards(tmp_path / "toy", image_size=24, size=3)
    assert pairs.keys == ["k2", "k5", "k8"] and len(pairs.skipped) == 6
    for row, seed in enumerate((2, 5, 8)):
        assert np.array_equal(pairs.pixels(torch.tensor([row]))[0], photo(seed).transpose(2, 0, 1))
    for size, there in ((5, "only 4"), (13, "at most 12")):
        with pytest.raises(ClipeduError, match=f"size={size} .* {there} pairs"):
            Shards(tmp_path / "toy", image_size=24, size=size)


def test_workers_do_not_import_torch():
    code = "import sys, clipedu.data.shards.decoding; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_script_without_a_main_guard(mixed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from clipedu.data.prepare import prepare_cache\n"
        f"print('begin', prepare_cache({str(mixed)!r}, image_size=8, workers=2, progress=False).rows)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=os.environ | path_here())
    assert done.stdout == "begin 17\n" and not done.stderr


def test_processes_are_started_where_it_is_worth_it(monkeypatch):
    import joblib

    monkeypatch.setattr(joblib, "cpu_count", lambda: 100)
    assert [decode.how_many(*asked) for asked in ((None, 10), (None, decode.FEW), (3, 10))] == [1, 32, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_what_was_decoded_is_kept(mixed, cache_home, monkeypatch, tmp_path, error):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", fsync_raising_at(3, error))
        with pytest.raises(ClipeduError if error is OSError else error):
            prepare_cache(mixed, image_size=24, progress=False)
    (partial,) = cache_home.iterdir()
    assert partial.name.endswith(".partial")
    calls = counting(monkeypatch)
    report = prepare_cache(mixed, image_size=24, progress=False)
    assert len(calls) == 19 - 2 * 4 and report.rows == 17 and list(cache_home.iterdir()) == [report.folder]
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cold"))
    assert content(prepare_cache(mixed, image_size=24, progress=False).folder) == content(report.folder)


SLOW = """
import sys, time
from clipedu.data.shards import decoding as decode, images
from clipedu.data.prepare import prepare_cache
real = images.decode
def slow(*args):
    time.sleep(0.02)
    with open(sys.argv[2], "a") as log:
        log.write("x")
    return real(*args)
if sys.argv[3] == "1":
    images.decode = slow
decode.PART = 2
print(prepare_cache(sys.argv[1], image_size=24, workers=int(sys.argv[3]), progress=False).rows)
"""


def start_slow(folder, log, workers=1):
    command = [sys.executable, "-c", SLOW, str(folder), str(log), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | path_here())


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_begun_again(tmp_path, cache_home, workers, monkeypatch):
    folder = make_shards(tmp_path / "toy", 60 if workers == 1 else 1200, per_shard=60)
    process = start_slow(folder, tmp_path / "log", workers)
    while not (parts := list(cache_home.glob("*.partial/parts.jsonl"))) or len(parts[0].read_bytes()) < 40:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert {path.suffix for path in cache_home.iterdir()} == {".partial", ".lock"}
    monkeypatch.setattr(decode, "PART", 2)
    calls = counting(monkeypatch)
    report = prepare_cache(folder, image_size=24, workers=1, progress=False)
    everything = len(list(folder.glob("*.tar"))) * 60
    assert 0 < len(calls) < everything == report.rows and list(cache_home.iterdir()) == [report.folder]
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cold"))
    assert content(prepare_cache(folder, image_size=24, workers=1, progress=False).folder) == content(report.folder)


def test_two_at_once_decode_once(tmp_path, cache_home):
    folder = make_shards(tmp_path / "toy", 40, per_shard=20)
    both = [start_slow(folder, tmp_path / "log") for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["40\n", "40\n"]
    assert len((tmp_path / "log").read_text()) == 40 and len(list(cache_home.iterdir())) == 1


def test_a_worker_that_is_killed():
    with pytest.raises(ClipeduError) as error:
        list(decode.spread(os._exit, [(1,)], 2))
    assert "one of 2" in one_line(error) and "fewer workers" in one_line(error)


def test_shards_that_change_meanwhile(mixed, cache_home, monkeypatch):
    real = images.decode

    def touch(*args):
        os.utime(mixed / "0.tar", (1, 1))
        return real(*args)

    monkeypatch.setattr(images, "decode", touch)
    with pytest.raises(ClipeduError, match="changed while they were read"):
        prepare_cache(mixed, image_size=8, progress=False)
    assert not any(path for path in cache_home.iterdir() if not path.name.endswith(".partial"))


def test_no_room(mixed, cache_home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 19 * 3 * 24 * 24))
    with pytest.raises(ClipeduError) as error:
        prepare_cache(mixed, image_size=24, progress=False)
    assert all(word in one_line(error) for word in ("mixed at 24 px", "kB free", "CLIPEDU_CACHE", str(cache_home)))
    assert list(cache_home.iterdir()) == []
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 128 + 19 * 3 * 24 * 24))
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17


def test_decoded_once(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 6, captions=2)
    write_tar(folder / "toy-train-zzz.tar", DAMAGE["no caption"]("x"))
    first = Shards(folder, image_size=12)
    monkeypatch.setattr(images, "decode", no_decoding)
    monkeypatch.setattr(tars, "read_shard", no_decoding)
    second = Shards(folder, image_size=12)
    assert torch.equal(every_pixel(first), every_pixel(second))
    assert (first.keys, list(first.skipped)) == (second.keys, list(second.skipped))
    assert first.captions(5) == second.captions(5) and first.fingerprint() == second.fingerprint()


def test_cache_depends_on_shards_and_options(tmp_path, cache_home):
    folder = make_shards(tmp_path / "toy", 3, side=24)
    opened = [
        Shards(folder, image_size=12),
        Shards(folder, image_size=8),
        Shards(folder, image_size=12, resize="squash"),
    ]
    assert len(os.listdir(cache_home)) == 3
    write_tar(folder / "toy-train-000.tar", sample("other", photo(9), ["another"]))
    changed = Shards(folder, image_size=12)
    assert changed.keys == ["other"] and opened[0].keys == ["k000", "k001", "k002"]
    assert torch.equal(every_pixel(changed)[0], torch.from_numpy(images.decode(encode(photo(9)), 12, "crop")))


def test_like_named_folders_with_like_shards_are_not_mixed_up(tmp_path):
    one, two = tmp_path / "one" / "toy", tmp_path / "two" / "toy"
    for folder, seed in ((one, 1), (two, 2)):
        path = write_tar(folder / "0.tar", sample("k", photo(seed), ["a text"]))
        os.utime(path, ns=(10**18, 10**18))
    assert (one / "0.tar").stat().st_size == (two / "0.tar").stat().st_size
    assert not torch.equal(every_pixel(Shards(one, image_size=24)), every_pixel(Shards(two, image_size=24)))


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, MemoryError])
def test_interrupted_decoding_leaves_nothing(tmp_path, cache_home, monkeypatch, trouble):
    folder = make_shards(tmp_path / "toy", 8)
    decode, calls = images.decode, []

    def stop(*args):
        calls.append(1)
        if len(calls) > 3:
            raise trouble
        return decode(*args)

    monkeypatch.setattr(images, "decode", stop)
    with pytest.raises(trouble):
        Shards(folder, image_size=24)
    assert os.listdir(cache_home) == []
    monkeypatch.setattr(images, "decode", decode)
    assert torch.equal(every_pixel(Shards(folder, image_size=24))[7], as_planes(photo(7)))


def test_an_entry_that_another_process_finished_first_is_used(tmp_path, cache_home, monkeypatch):
    folder = make_shards(tmp_path / "toy", 3)
    Shards(folder, image_size=8)
    load, answers = cache.load, []
    # Absent when it is looked for at first; there when the lock that another process held is free.
    monkeypatch.setattr(cache, "load", lambda entry: load(entry) if answers else answers.append(1))
    monkeypatch.setattr(images, "decode", no_decoding)
    (entry,) = cache_home.iterdir()
    assert len(Shards(folder, image_size=8)) == 3 and list(cache_home.iterdir()) == [entry]


def test_nothing_usable(tmp_path):
    folder = tmp_path / "toy"
    write_tar(folder / "0.tar", DAMAGE["no caption"]("x") + DAMAGE["image has zero bytes"]("y"))
    with pytest.raises(ClipeduError) as error:
        Shards(folder, image_size=8)
    assert "2 skipped" in one_line(error) and "0.tar: x: no caption" in one_line(error) and "again" in one_line(error)
    with pytest.raises(ClipeduError, match="no usable pair"):
        Shards(folder, image_size=8, size=1)
    write_tar(folder / "0.tar", [("README.md", b"hello")])
    with pytest.raises(ClipeduError, match=r"KEY\.jpg"):
        Shards(folder, image_size=8)


def test_a_shard_that_vanishes(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 4)
    real = images.decode

    def remove(*args):
        (folder / "toy-train-000.tar").unlink(missing_ok=True)
        return real(*args)

    monkeypatch.setattr(images, "decode", remove)
    with pytest.raises(ClipeduError) as error:
        prepare_cache(folder, image_size=8, progress=False)
    assert "\n" not in str(error.value) and "changed while they were read" in str(error.value)
