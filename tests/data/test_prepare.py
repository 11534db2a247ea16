"""The cache made on purpose: by any number of processes, stopped anywhere, proved against its shards."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from clipedu.data import prepare
from clipedu.data import token_cache as tokens
from clipedu.data.prepare import prepare_cache, verify_cache
from clipedu.data.shards import decoding as decode
from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.dataset import Shards
from clipedu.data.tokenizer import Tokenizer, train_tokenizer
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mixed(tmp_path):
    """20 samples in 4 shards: some good, one without a caption, two whose images cannot be decoded."""
    cut = encode(photo(0))[:200]
    for shard in range(4):
        files = []
        for i in range(5 * shard, 5 * shard + 5):
            files += sample(f"k{i:02d}", cut if i in (6, 19) else photo(i), None if i == 3 else [f"picture {i}"])
        write_tar(tmp_path / "mixed" / f"{shard}.tar", files)
    return tmp_path / "mixed"


def says(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def counting(monkeypatch, stop_at=None, error=KeyboardInterrupt):
    """Counts images as they are decoded; with `stop_at`, the one with that number raises."""
    calls, real = [], images.decode

    def count(*args):
        calls.append(1)
        if len(calls) == stop_at:
            raise error
        return real(*args)

    monkeypatch.setattr(images, "decode", count)
    return calls


# What comes out


def test_report(mixed, cache_home, monkeypatch):
    report = prepare_cache(mixed, image_size=24, progress=False)
    assert report.rows == 17 and report.folder.parent == cache_home and report.seconds > 0
    assert [(where, why.split(" (")[0]) for where, why in report.dropped] == [
        ("0.tar: k03", "no caption"),
        ("1.tar: k06", "image cannot be decoded"),
        ("3.tar: k19", "image cannot be decoded"),
    ]
    assert report.bytes == sum(map(len, content(report.folder).values())) > 17 * 3 * 24 * 24
    monkeypatch.setattr(images, "decode", None)  # nothing is decoded any more
    pairs = Shards(mixed, image_size=24)
    assert pairs.keys == [f"k{i:02d}" for i in range(20) if i not in (3, 6, 19)] and pairs.cache == report.folder
    expected = np.stack([photo(int(key[1:])).transpose(2, 0, 1) for key in pairs.keys])
    assert torch.equal(pairs.pixels(torch.arange(17)), torch.from_numpy(expected))
    assert torch.equal(pairs.pixels(torch.tensor([16, 4, 5])), torch.from_numpy(expected[[16, 4, 5]]))
    again = prepare_cache(mixed, image_size=24, progress=False)
    assert (again.rows, again.dropped, again.bytes) == (report.rows, report.dropped, report.bytes)


def test_the_same_bytes_for_any_number_of_processes(mixed, monkeypatch, tmp_path):
    monkeypatch.setattr(decode, "PART", 3)
    made = []
    for workers in (1, 2, 3):
        monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / f"cache{workers}"))
        made.append(content(prepare_cache(mixed, image_size=24, workers=workers, progress=False).folder))
    assert made[0] == made[1] == made[2] and set(made[0]) == {"pixels.npy", "rows.json"}
    monkeypatch.setattr(decode, "PART", 256)
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache0"))
    assert content(Shards(mixed, image_size=24).cache) == made[0]


def test_pixels_npy_is_an_npy_file(mixed):
    folder = prepare_cache(mixed, image_size=8, progress=False).folder
    stored = np.load(folder / "pixels.npy")
    assert (stored.shape, stored.dtype) == ((19, 3, 8, 8), np.uint8)  # a slot for each image that was tried
    assert json.loads((folder / "rows.json").read_text())["holes"] == [5, 18] and not stored[5].any()


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


def path_here():
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_processes_are_started_where_it_is_worth_it(monkeypatch):
    import joblib

    monkeypatch.setattr(joblib, "cpu_count", lambda: 100)
    assert [decode.how_many(*asked) for asked in ((None, 10), (None, decode.FEW), (3, 10))] == [1, 32, 3]


# Stopped and begun again


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_what_was_decoded_is_kept(mixed, cache_home, monkeypatch, tmp_path, error):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", raising_at(3, error))
        with pytest.raises(ClipeduError if error is OSError else error):
            prepare_cache(mixed, image_size=24, progress=False)
    (partial,) = cache_home.iterdir()
    assert partial.name.endswith(".partial")
    calls = counting(monkeypatch)
    report = prepare_cache(mixed, image_size=24, progress=False)
    assert len(calls) == 19 - 2 * 4 and report.rows == 17 and list(cache_home.iterdir()) == [report.folder]
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cold"))
    assert content(prepare_cache(mixed, image_size=24, progress=False).folder) == content(report.folder)


def raising_at(number, error):
    calls, fsync = [], os.fsync

    def raise_or_sync(descriptor):
        calls.append(1)
        if len(calls) == number:
            raise error
        fsync(descriptor)

    return raise_or_sync


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


def test_half_a_line_in_the_log_is_no_part(mixed, cache_home, monkeypatch):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", raising_at(3, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_cache(mixed, image_size=24, progress=False)
    (log,) = cache_home.glob("*/parts.jsonl")
    log.write_bytes(log.read_bytes().rstrip()[:-3])
    calls = counting(monkeypatch)
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17 and len(calls) == 19 - 4


def test_parts_without_pixels_are_no_parts(mixed, cache_home, monkeypatch):
    monkeypatch.setattr(decode, "PART", 4)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", raising_at(3, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_cache(mixed, image_size=24, progress=False)
    (pixels,) = cache_home.glob("*/pixels.npy")
    pixels.unlink()
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17
    assert not verify_cache(mixed, image_size=24, images=None, progress=False).problems


def test_two_at_once_decode_once(tmp_path, cache_home):
    folder = make_shards(tmp_path / "toy", 40, per_shard=20)
    both = [start_slow(folder, tmp_path / "log") for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["40\n", "40\n"]
    assert len((tmp_path / "log").read_text()) == 40 and len(list(cache_home.iterdir())) == 1


def test_who_waits_says_so(mixed, cache_home, monkeypatch, capsys):
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
    assert "waiting for another process" in capsys.readouterr().err and list(cache_home.iterdir()) == [entry]


def test_a_worker_that_is_killed():
    with pytest.raises(ClipeduError) as error:
        list(decode.spread(os._exit, [(1,)], 2))
    assert "one of 2" in says(error) and "fewer workers" in says(error)


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
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 19 * 3 * 24 * 24))
    with pytest.raises(ClipeduError) as error:
        prepare_cache(mixed, image_size=24, progress=False)
    assert all(word in says(error) for word in ("mixed at 24 px", "0.0 GB free", "CLIPEDU_CACHE", str(cache_home)))
    assert list(cache_home.iterdir()) == []
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 128 + 19 * 3 * 24 * 24))
    assert prepare_cache(mixed, image_size=24, progress=False).rows == 17


def test_what_cannot_be_asked_for(mixed):
    for options, words in (({"workers": 0}, "workers=0"), ({"split": "test"}, "'test'"), ({"image_size": 0}, "=0")):
        with pytest.raises(ClipeduError) as error:
            prepare_cache(mixed, **options)
        assert words in says(error)
    for ask in (prepare_cache, verify_cache):
        with pytest.raises(ClipeduError, match="scenes are drawn"):
            ask("scenes")


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


# Proved against the shards


def test_a_right_cache(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    for count, compared in ((None, 17), (5, 5), (1000, 17)):
        check = verify_cache(mixed, image_size=24, images=count, progress=False)
        assert (check.folder, check.rows, check.compared, check.problems) == (folder, 17, compared, ())


def test_all_wrong_pixels_are_found(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    data = bytearray((folder / "pixels.npy").read_bytes())
    for slot in (0, 17):
        data[cache.slot_offset(slot, 24) + 1000] ^= 1
    (folder / "pixels.npy").write_bytes(data)
    for workers in (1, 2):
        check = verify_cache(mixed, image_size=24, images=None, workers=workers, progress=False)
        assert check.problems == ("0.tar: k00: other pixels", "3.tar: k18: other pixels")


def test_another_pillow_is_named(mixed, monkeypatch):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    data = bytearray((folder / "pixels.npy").read_bytes())
    data[-3000] ^= 1
    (folder / "pixels.npy").write_bytes(data)
    monkeypatch.setattr(prepare.PIL, "__version__", "0.1")
    (problem,) = verify_cache(mixed, image_size=24, images=None, progress=False).problems
    assert "the cache is by Pillow" in problem and "this is 0.1" in problem


@pytest.mark.parametrize("part", ["keys", "captions", "labels", "skipped"])
def test_wrong_rows_are_found(mixed, part):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    wrong = {"keys": "other", "captions": ["other"], "labels": None, "skipped": [1, "0.tar: k03", "bad UTF-8"]}
    rows[part] = rows[part] or [1] * 17
    rows[part][1] = wrong[part]
    (folder / "rows.json").write_text(json.dumps(rows))
    (problem,) = verify_cache(mixed, image_size=24, progress=False).problems
    assert problem.startswith(part) and ("number 1" in problem or part == "labels")


def test_a_hole_that_is_none(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    rows["holes"] = [5, 17]
    (folder / "rows.json").write_text(json.dumps(rows))
    assert any("holes" in problem for problem in verify_cache(mixed, image_size=24, progress=False).problems)


def test_another_number_of_images(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    rows["keys"].pop()
    rows["holes"] = [5, 17]
    (folder / "rows.json").write_text(json.dumps(rows))
    with cache.Draft(folder.with_name("other"), 24) as draft:
        draft.finish(18, {"keys": [], "holes": []})
    (folder / "pixels.npy").write_bytes((folder.with_name("other") / "pixels.npy").read_bytes())
    assert verify_cache(mixed, image_size=24, progress=False).problems == ("the shards have 19 images, the cache 18",)


def test_no_cache_to_verify(mixed):
    prepare_cache(mixed, image_size=24, progress=False)
    write_tar(mixed / "3.tar", sample("other", photo(0), ["a text"]))
    for size in (24, 8):
        with pytest.raises(ClipeduError) as error:
            verify_cache(mixed, image_size=size, progress=False)
        assert f"at {size} px" in says(error) and "clipedu data cache" in says(error)


# Tokens


@pytest.fixture
def texts():
    return [f"picture {i}" + ", said once more" * k for i in range(6) for k in range(5)]


def no_encoding(*args):
    raise AssertionError("encoded again")


def test_tokens_are_encoded_once(tmp_path, texts, monkeypatch):
    folder = make_shards(tmp_path / "toy", 6, captions=5)
    tokenizer = train_tokenizer(texts, 8)
    first = Shards(folder, image_size=8).tokenize(tokenizer).all_tokens()
    cut, tokenizer.truncated = tokenizer.truncated, 0
    assert cut > 0
    monkeypatch.setattr(Tokenizer, "encode", no_encoding)
    second = Shards(folder, image_size=8).tokenize(train_tokenizer(texts, 8)).all_tokens()
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))
    pairs = Shards(folder, image_size=8).tokenize(tokenizer)
    assert tokenizer.truncated == cut and (pairs._tokenized.ids.dtype, pairs._tokenized.lengths.dtype) == (
        np.int32,
        np.int32,
    )


def test_tokens_are_of_one_tokenizer_and_of_these_captions(tmp_path, texts):
    folder = make_shards(tmp_path / "toy", 6, captions=5)
    one, longer, other, cleaned = (
        train_tokenizer(t, n) for t, n in ((texts, 8), (texts, 9), (texts[:3], 8), (texts, 8))
    )
    cleaned.clean = True
    for tokenizer in (one, longer, other, cleaned):
        for size in (None, 4):
            pairs = Shards(folder, image_size=8, size=size).tokenize(tokenizer)
            ids, lengths = tokenizer.encode([text for row in range(len(pairs)) for text in pairs.captions(row)])
            assert np.array_equal(pairs._tokenized.ids, ids) and np.array_equal(pairs._tokenized.lengths, lengths)
    assert len(list(pairs.cache.glob("tokens-*.npz"))) == 8
    assert len({tokenizer.identity() for tokenizer in (one, longer, other, cleaned)}) == 4


def test_damaged_tokens_are_made_again(tmp_path, texts):
    tokenizer = train_tokenizer(texts, 8)
    ids, lengths = tokens.kept(tmp_path, tokenizer, texts)
    (file,) = tmp_path.iterdir()
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for trial in range(100):
        data = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            data[place] ^= rng.integers(1, 256)
        file.write_bytes(data if trial % 2 else data[: rng.integers(len(data))])
        again = tokens.kept(tmp_path, tokenizer, texts)
        assert np.array_equal(again[0], ids) and np.array_equal(again[1], lengths), trial
    assert list(tmp_path.iterdir()) == [file]


def test_texts_are_told_apart_by_where_they_end(tmp_path, texts):
    tokenizer = train_tokenizer(texts, 8)
    for pair in (["picture 1", "2"], ["picture 12", ""], ["picture 1 2"]):
        assert np.array_equal(tokens.kept(tmp_path, tokenizer, pair)[0], tokenizer.encode(pair)[0])
    assert len(list(tmp_path.iterdir())) == 3


def test_tokens_without_a_place_to_keep_them(tmp_path, texts, monkeypatch):
    tokenizer = train_tokenizer(texts, 8)
    expected = tokenizer.encode(texts)
    (tmp_path / "file").write_text("not a folder")
    got = tokens.kept(tmp_path / "file", tokenizer, texts)
    assert np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1])
    monkeypatch.setattr(tokens.os, "fsync", raising_at(1, OSError))
    (tmp_path / "full").mkdir()
    assert np.array_equal(tokens.kept(tmp_path / "full", tokenizer, texts)[0], expected[0])
    assert list((tmp_path / "full").iterdir()) == []


def test_large_vocabularies_are_kept_whole(tmp_path):
    class Large:
        length, vocab_size, truncated = 2, 2**17, 0

        def identity(self):
            return "large"

        def encode(self, texts):
            return np.full((len(texts), 2), 2**17 - 1, np.int32), np.full(len(texts), 2, np.int32)

    for _ in range(2):
        assert tokens.kept(tmp_path, Large(), ["a", "b"])[0].tolist() == [[2**17 - 1] * 2] * 2


def test_a_set_of_every_damage_is_prepared_and_proved(tmp_path):
    files = sample("first", photo(0), ["zero"])
    for number, what in enumerate(DAMAGE):
        files += DAMAGE[what](f"bad{number}")
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=24, workers=2, progress=False)
    assert report.rows == 2 and len(report.dropped) == len(DAMAGE)  # of the duplicate key, the first is good
    assert not verify_cache(tmp_path / "toy", image_size=24, images=None, progress=False).problems
