"""Tars: keys and captions, and every kind of damage, on the real path to the cache."""

from __future__ import annotations

import gzip
import json
import tarfile

import numpy as np
import pytest
import torch

from clipedu.data.prepare import prepare_cache
from clipedu.data.shards.dataset import Shards
from tests.helpers.cached_shards import (
    as_planes,
    every_pixel,
)
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


def test_captions_of_the_json_come_before_the_txt(tmp_path):
    image = encode(photo(0))
    record = {"captions": ["one ", "", "two"], "caption": "not this"}
    files = [("a.png", image), ("a.txt", b"not this"), ("a.json", json.dumps(record).encode())]
    files += [("b.png", image), ("b.txt", b"not this"), ("b.json", b'{"caption": "three"}')]
    files += [("c.png", image), ("c.txt", b"\xef\xbb\xbffour\r\n"), ("c.json", b'{"caption": null, "width": 24}')]
    files += [("d.png", image), ("d.txt", "fünf\nsix\n".encode())]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=8)
    assert [pairs.captions(row) for row in range(4)] == [["one", "two"], ["three"], ["four"], ["fünf", "six"]]
    assert not pairs.skipped


def test_a_key_is_the_path_to_the_first_dot(tmp_path):
    image = encode(photo(0), "jpg")
    files = [("./deep/x.y/k.v1.png", encode(photo(1))), ("./deep/x.y/k.JPG", image), ("./deep/x.y/k.TXT", b"t")]
    files += [("deep/._k.jpg", b"resource fork"), ("README.md", b"hello"), ("__meta__", b"")]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert pairs.keys == ["deep/x.y/k"]
    assert list(pairs.skipped) == [
        "0.tar: README: no image (not read: .md)",
        "0.tar: __meta__: no image (not read: a file without extension)",
        "0.tar: holds hidden files (1, not read, e.g. deep/._k.jpg)",
    ]


def test_images_and_texts_may_lie_apart(tmp_path):
    first, second = sample("a", photo(0), ["zero"]), sample("b", photo(1), ["one"])
    files = [first[0], second[0], first[1], second[1]]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert [pairs.captions(row) for row in range(2)] == [["zero"], ["one"]]


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_sample_is_named_and_the_others_remain(tmp_path, what):
    files = sample("before", photo(0), ["zero"]) + DAMAGE[what]("123_abc") + sample("after", photo(1), ["one"])
    folder = write_tar(tmp_path / "toy" / "toy-000.tar", files).parent
    pairs = Shards(folder, image_size=24)
    assert len(pairs.skipped) == 1
    key = "../123_abc" if what == "unsafe path" else "123_abc"
    assert pairs.skipped[0].startswith(f"toy-000.tar: {key}: {what}") and "\n" not in pairs.skipped[0]
    good = [key for key in pairs.keys if key != "123_abc"]
    assert good == ["before", "after"] and len(pairs) == 2 + (what == "duplicate key")
    assert torch.equal(every_pixel(pairs)[-1], as_planes(photo(1))) and pairs.captions(len(pairs) - 1) == ["one"]


def test_a_repeated_key_keeps_the_first_sample(tmp_path):
    files = sample("k", photo(0), ["zero"]) + sample("x", photo(1), ["one"]) + sample("k", photo(2), ["a", "b"])
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert pairs.keys == ["k", "x"] and pairs.captions(0) == ["zero"]
    assert torch.equal(every_pixel(pairs)[0], as_planes(photo(0)))


def test_names_that_are_no_text_are_shown_as_one_line(tmp_path):
    header = tarfile.TarInfo("a\nb\udce9.txt")
    header.size = 1
    files = sample("k", photo(0), ["zero"]) + [(header, b"t")]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=8)
    assert list(pairs.skipped) == ["0.tar: a?b\ufffd: no image"]
    assert len(pairs.fingerprint()) == 16


def test_half_a_surrogate_pair_is_no_text(tmp_path):
    files = sample("k", photo(0), ["zero"]) + [("x.png", encode(photo(1))), ("x.json", b'{"caption": "\\ud800"}')]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=8)
    assert list(pairs.skipped) == ["0.tar: x: bad UTF-8"] and len(pairs.fingerprint()) == 16


def test_a_shard_cut_short_anywhere(tmp_path):
    folder = make_shards(tmp_path / "whole", 4)
    whole = (folder / "whole-train-000.tar").read_bytes()
    with tarfile.open(folder / "whole-train-000.tar") as tar:
        ends = [member.offset_data + member.size for member in tar if member.name.endswith(".txt")]
        last = tar.offset
    for cut in [*range(0, last, 300), *(end - 1 for end in ends)]:
        folder = tmp_path / str(cut)
        make_shards(folder, 1, name="good", side=25)
        (folder / "bad-train-000.tar").write_bytes(whole[:cut])
        pairs = Shards(folder, image_size=8)
        complete = sum(end <= cut for end in ends)
        assert pairs.keys == [f"k{i:03d}" for i in range(complete)] + ["k000"]
        assert any(line.startswith("bad-train-000.tar: ") for line in pairs.skipped), cut


def test_flipped_bytes_never_crash(tmp_path):
    folder = make_shards(tmp_path / "toy", 3, captions=2, classes=2)
    path = write_tar(
        folder / "bad-train-000.tar", sample("x", photo(4), ["a", "b"], label=1) + sample("y", photo(5), ["c"], 0)
    )
    whole = path.read_bytes()
    headers = np.flatnonzero(np.frombuffer(whole, np.uint8))
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.choice(headers, 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        pairs = Shards(folder, image_size=8)
        assert 3 <= len(pairs) <= 5 and pairs.keys[-3:] == ["k000", "k001", "k002"]


def test_a_forged_negative_size_ends(tmp_path):
    folder = make_shards(tmp_path / "toy", 1)
    path = write_tar(
        folder / "bad-train-000.tar", sample("x", photo(0), ["a text"]) + sample("y", photo(1), ["b text"])
    )
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        start = tar.getmember("y.png").offset
    data[start + 124 : start + 136] = (-4096 % 256**12).to_bytes(12, "big")  # base 256, as GNU tar writes large sizes
    data[start + 148 : start + 156] = b"%06o\0 " % (
        sum(data[start : start + 148]) + 8 * 32 + sum(data[start + 156 : start + 512])
    )
    path.write_bytes(data)
    pairs = Shards(folder, image_size=8)
    assert pairs.keys == ["x", "k000"] and "bad-train-000.tar: damaged (after 2 files" in pairs.skipped[0]


def test_a_compressed_shard_and_an_empty_one_are_named(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    (folder / "gz-train.tar").write_bytes(gzip.compress((folder / "toy-train-000.tar").read_bytes()))
    (folder / "nil-train.tar").write_bytes(b"")
    pairs = Shards(folder, image_size=8)
    assert len(pairs) == 2 and [line.split(": ")[0] for line in pairs.skipped] == ["gz-train.tar", "nil-train.tar"]
    assert all("not a tar file" in line for line in pairs.skipped)


def special(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.devmajor, header.devminor = kind, target, 1, 5
    return [(header, b"")]


@pytest.mark.parametrize(
    "kind, target",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../secret.jpg"),
        (tarfile.LNKTYPE, "good.png"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
@pytest.mark.parametrize("extension", ["jpg", "txt"])
def test_links_and_devices_are_not_followed(tmp_path, kind, target, extension):
    (tmp_path / "secret.jpg").write_bytes(encode(photo(0), "jpg"))
    files = sample("good", photo(9), ["a text"]) + special(f"k.{extension}", kind, target)
    files += [("k.txt", b"a text")] if extension == "jpg" else [("k.png", encode(photo(0)))]
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert (report.rows, report.dropped) == (1, (("0.tar: k", "a link or a device, not a file"),))


@pytest.mark.parametrize("path", ["../k", "/tmp/k", "a/../../k", "a/../k"])
def test_paths_that_lead_out_are_not_taken(tmp_path, path):
    files = sample("good", photo(9), ["a text"]) + sample(path, photo(0), ["a text"])
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert (report.rows, report.dropped) == (1, ((f"0.tar: {path}", "unsafe path"),))


def test_bad_texts_are_named(tmp_path):
    files = sample("good", photo(0), ["a text"])
    files += [("utf.png", encode(photo(1))), ("utf.txt", b"caf\xe9")]
    files += [("none.png", encode(photo(1)))]
    files += sample("good", photo(2), ["twice"])
    files += [("deep.png", encode(photo(1))), ("deep.json", b"[" * 100_000)]
    files += [("long.png", encode(photo(1))), ("long.txt", b"x" * (2**20 + 1))]
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert dict(report.dropped) == {
        "0.tar: utf": "bad UTF-8",
        "0.tar: none": "no caption",
        "0.tar: good": "duplicate key, only the first sample is kept",
        "0.tar: deep": "bad JSON",
        "0.tar: long": "text file too large",
    }


def test_keys_with_dots_are_pairs(tmp_path):
    """Of six pairs, three have a version in their names (webdataset#237)."""
    names = ["v1.0", "a", "v1.1", "b", "v2.0.1", "c"]
    files = [file for i, key in enumerate(names) for file in sample(key, photo(i), [f"text {key}"])]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert pairs.keys == names and not pairs.skipped
    assert [pairs.captions(row) for row in range(6)] == [[f"text {key}"] for key in names]
    assert torch.equal(every_pixel(pairs), torch.stack([as_planes(photo(i)) for i in range(6)]))


def test_every_group_that_is_not_used_is_named(tmp_path):
    image = encode(photo(0))
    files = sample("good", photo(1), ["a text"]) + [("good.mask.png", image), ("good.npy", b"1")]
    files += [("g.gif", b"GIF89a"), ("g.txt", b"t"), ("c.png", image), ("c.caption", b"t"), ("k.image.png", image)]
    files += [("k.text.txt", b"t"), ("x.bmp", b"1"), ("x.caption", b"t"), ("LICENSE", b"MIT"), ("d/._x.png", b"1")]
    files += special("folder", tarfile.DIRTYPE) + [("folder/q.txt", b"t"), ("one.1.txt", b"t"), ("one.png", image)]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert pairs.keys == ["good"]
    assert list(pairs.skipped) == [
        "0.tar: g: no image (not read: .gif)",
        "0.tar: c: no caption (not read: .caption)",
        "0.tar: k.image: no caption",
        "0.tar: k.text: no image",
        "0.tar: x: no image (not read: .bmp, .caption)",
        "0.tar: LICENSE: no image (not read: a file without extension)",
        "0.tar: folder/q: no image",
        "0.tar: one: no caption (not read: .1.txt)",
        "0.tar: holds hidden files (1, not read, e.g. d/._x.png)",
    ]


def test_the_texts_of_another_sample_are_not_joined(tmp_path):
    files = (
        sample("a", photo(0), ["zero"])
        + sample("b", photo(1), ["one"])
        + sample("a", photo(2), ["two", "three"], kind="webp")
    )
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert [pairs.captions(row) for row in range(2)] == [["zero"], ["one"]]
    assert list(pairs.skipped) == ["0.tar: a: duplicate key, only the first sample is kept"]


def test_tars_written_after_one_another(tmp_path):
    parts = [sample("a", photo(0), ["zero"]) + sample("b", photo(1), ["one"]), sample("a", photo(2), ["two"])]
    data = [write_tar(tmp_path / f"{n}.tar", files).read_bytes() for n, files in enumerate(parts)]
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "0.tar").write_bytes(b"".join(data) + data[0])
    pairs = Shards(tmp_path / "toy", image_size=24)
    assert [pairs.captions(row) for row in range(len(pairs))] == [["zero"], ["one"], ["two"]]
    assert torch.equal(every_pixel(pairs)[2], as_planes(photo(2)))
    assert [line.split(" (")[0] for line in pairs.skipped] == ["0.tar: a: duplicate key", "0.tar: b: duplicate key"]
