"""An entry of the cache is used for the shards that it was made of, as long as it is what was written, and for no others."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch

from clipedu.data.prepare import prepare_cache, verify_cache
from clipedu.data.shards import decoding as decode
from clipedu.data.shards import images, integrity
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.dataset import Shards
from clipedu.data.shards.integrity import changed_slots, describe_shards, open_whole, shard_digests, shard_states
from tests.helpers.cached_shards import as_planes, counting, every_pixel, fsync_raising_at, no_decoding
from tests.helpers.shard_maker import make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


def shard(path, seeds):
    """Equal keys and captions for any pictures; a tar of equal size, since the pictures are not compressed."""
    files = [part for n, seed in enumerate(seeds) for part in sample(f"k{n}", photo(seed), [f"bird {n}"], kind="webp")]
    files = [(name, data.ljust(4000, b"\0") if name.endswith("webp") else data) for name, data in files]
    return write_tar(path, files)


def replaced(path, make):
    """Replace a file by another one of the same size and date."""
    before = path.stat()
    make()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.parametrize("how", ["in place", "renamed"])
def test_a_shard_replaced_by_one_of_equal_size_and_date(tmp_path, how, caplog):
    path = shard(tmp_path / "toy" / "toy-train-0.tar", [0, 1, 2])
    first = Shards(path.parent, image_size=24)

    def make():
        if how == "in place":
            path.write_bytes(shard(tmp_path / "other.tar", [5, 6, 7]).read_bytes())
        else:
            os.replace(shard(tmp_path / "other.tar", [5, 6, 7]), path)

    replaced(path, make)
    second = Shards(path.parent, image_size=24)
    assert second.cache == first.cache and "toy-train-0.tar has changed" in caplog.text
    assert not torch.equal(every_pixel(second), every_pixel(first))
    assert first.fingerprint() == second.fingerprint() and first.captions(0) == second.captions(0)
    assert first.identity()["pictures"] != second.identity()["pictures"]
    assert torch.equal(every_pixel(Shards(path.parent, image_size=24)), every_pixel(second)), "and is kept"


def test_a_shard_that_is_touched_but_the_same_is_not_decoded_again(tmp_path, monkeypatch):
    path = shard(tmp_path / "toy" / "toy-train-0.tar", [0, 1, 2])
    first = Shards(path.parent, image_size=24)
    monkeypatch.setattr(images, "decode", no_decoding)

    def swap():
        copy = tmp_path / "copy"
        shutil.copy(path, copy)
        os.replace(copy, path)

    read, real = [], integrity._file_digest
    monkeypatch.setattr(integrity, "_file_digest", lambda p: read.append(p) or real(p))
    for touch in (lambda: path.chmod(0o640), swap):
        replaced(path, touch)
        for _ in range(2):
            assert torch.equal(every_pixel(Shards(path.parent, image_size=24)), every_pixel(first))
    assert len(read) == 2, "each time it is read once, and what was found is kept"


def test_a_part_of_a_set_knows_the_shards_that_it_read(tmp_path, monkeypatch):
    folder = tmp_path / "toy"
    for n in range(3):
        write_tar(folder / f"toy-train-{n}.tar", sample(f"k{n}", photo(n), ["a bird"]))
    first = Shards(folder, image_size=24, size=2)
    assert list(json.loads((first.cache / "entry.json").read_text())["shards"]) == [
        "toy-train-0.tar",
        "toy-train-1.tar",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", no_decoding)
        unread = folder / "toy-train-2.tar"
        data = unread.read_bytes()
        replaced(unread, lambda: unread.write_bytes(data[::-1]))
        assert torch.equal(every_pixel(Shards(folder, image_size=24, size=2)), every_pixel(first))


@pytest.mark.parametrize("name", ["pixels.npy", "digests.bin", "rows.json", "entry.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_damage_is_found_and_mended(tmp_path, name, damage):
    folder = make_shards(tmp_path / "toy", 5, per_shard=5)
    first = Shards(folder, image_size=24)
    expected, told = every_pixel(first).clone(), first.identity()
    path = first.cache / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0x41
        path.write_bytes({"flipped": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    again = Shards(folder, image_size=24)
    assert (
        torch.equal(every_pixel(again), expected)
        and again.identity() == told
        and again.captions(0) == first.captions(0)
    )
    shards = dict(zip(["toy-train-000.tar"], again.shards, strict=True))
    assert open_whole(again.cache, shards) is not None


def test_damage_that_keeps_the_date(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 5, per_shard=5)
    first = Shards(folder, image_size=24)
    path, expected = first.cache / "pixels.npy", every_pixel(first).clone()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    replaced(path, lambda: path.write_bytes(data))
    assert torch.equal(every_pixel(Shards(folder, image_size=24)), expected)
    monkeypatch.setattr(
        integrity, "CHECKED_BYTES", 1
    )  # of a large entry a sample is compared, which may not find it ...
    replaced(path, lambda: path.write_bytes(data))
    assert not torch.equal(every_pixel(Shards(folder, image_size=24)), expected)
    assert changed_slots(first.cache, np.arange(5)) == [4]
    assert verify_cache(folder, image_size=24, images=1, progress=False).problems == (
        "toy-train-000.tar: k004: not the pixels that were written",
    )  # ... but this does
    path.write_bytes(data)  # with a new date all are compared
    assert torch.equal(every_pixel(Shards(folder, image_size=24)), expected)


def test_a_copied_entry_is_compared_once(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 5, per_shard=5)
    first = Shards(folder, image_size=24)
    copy = tmp_path / "copy"
    shutil.copytree(first.cache, copy / first.cache.name, copy_function=shutil.copyfile)
    os.utime(copy / first.cache.name / "pixels.npy", (1, 1))
    monkeypatch.setenv("CLIPEDU_CACHE", str(copy))
    monkeypatch.setattr(images, "decode", no_decoding)
    assert torch.equal(every_pixel(Shards(folder, image_size=24)), every_pixel(first))
    facts = json.loads((copy / first.cache.name / "entry.json").read_text())
    assert facts["pixels"][1] == 10**9


def test_parts_of_other_shards_are_not_continued(tmp_path, monkeypatch):
    path = shard(tmp_path / "toy" / "toy-train-0.tar", range(10))
    monkeypatch.setattr(decode, "PART", 2)
    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "fsync", fsync_raising_at(4, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_cache(path.parent, image_size=24, progress=False)
    replaced(path, lambda: shard(path, range(20, 30)))
    calls = counting(monkeypatch)
    pairs = Shards(path.parent, image_size=24)
    assert len(calls) == 10
    other = shard(tmp_path / "new" / "toy-train-0.tar", range(20, 30))
    assert torch.equal(every_pixel(pairs), every_pixel(Shards(other.parent, image_size=24)))


def test_digests_are_of_the_pictures_in_any_number_of_parts(mixed, monkeypatch):
    monkeypatch.setattr(decode, "PART", 3)
    pairs = Shards(mixed, image_size=24)
    assert torch.equal(every_pixel(pairs)[4], as_planes(photo(5)))
    assert np.array_equal(pairs.picture_digests(), super(Shards, pairs).picture_digests())
    part = Shards(mixed, image_size=24, size=9)
    assert np.array_equal(part.picture_digests(), pairs.picture_digests()[:9])


def test_what_is_known_of_shards(tmp_path):
    paths = {f"{n}.tar": shard(tmp_path / f"{n}.tar", [n]) for n in range(3)}
    states = shard_states(paths)
    assert len({tuple(state) for state in states.values()}) == 3
    digests = shard_digests(paths.values())
    assert len(set(digests)) == 3 and all(len(digest) == 32 for digest in digests)
    assert describe_shards(paths, ["1.tar"]) == {"1.tar": [states["1.tar"], digests[1]]}
