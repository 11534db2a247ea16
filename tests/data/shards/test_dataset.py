"""Shards: rows, pixels, splits, labels, the cache, and every kind of damage."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu.data.shards import images
from clipedu.data.shards.dataset import Shards
from clipedu.data.tokenizer import train_tokenizer
from clipedu.utils.errors import ClipeduError
from tests.helpers.cached_shards import (
    as_planes,
    one_line,
)
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture
def real():
    if "CLIPEDU_DATA" not in os.environ:
        pytest.skip("set CLIPEDU_DATA to a folder with flickr8k-tiny and imagenet-sample")
    return Path(os.environ["CLIPEDU_DATA"])


# Rows


def test_rows_follow_shard_names_and_then_the_tar(tmp_path):
    folder = tmp_path / "toy"
    write_tar(folder / "b-train-1.tar", sample("z", photo(0), ["zero"]) + sample("a", photo(1), ["one"]))
    write_tar(folder / "a-train-7.tar", sample("m", photo(2), ["two"]))
    pairs = Shards(folder, image_size=24)
    assert (len(pairs), pairs.keys) == (3, ["m", "z", "a"])
    assert [pairs.captions(row) for row in range(3)] == [["two"], ["zero"], ["one"]]
    assert (pairs.name, pairs.split, pairs.image_size, pairs.labels, list(pairs.skipped)) == (
        "toy",
        "train",
        24,
        None,
        [],
    )
    for row, seed in enumerate((2, 0, 1)):
        assert torch.equal(pairs.pixels(torch.tensor([row]))[0], as_planes(photo(seed)))


def test_pixels_come_in_the_order_asked_for_and_are_ones_own(tmp_path):
    pairs = Shards(make_shards(tmp_path / "toy", 7), image_size=24)
    batch = pairs.pixels(torch.tensor([5, 0, 5]))
    assert (batch.dtype, batch.shape) == (torch.uint8, (3, 3, 24, 24))
    assert torch.equal(batch, torch.stack([as_planes(photo(seed)) for seed in (5, 0, 5)]))
    batch.zero_()  # must not write through to the cache
    assert torch.equal(pairs.pixels(torch.tensor([5]))[0], as_planes(photo(5)))
    with pytest.raises(IndexError):
        pairs.pixels(torch.tensor([7]))


def test_tokens(tmp_path):
    pairs = Shards(make_shards(tmp_path / "toy", 5, captions=3), image_size=8)
    texts = [text for row in range(5) for text in pairs.captions(row)]
    pairs.tokenize(train_tokenizer(texts, 12))
    ids, mask, row = pairs.all_tokens()
    assert row.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    got, got_mask = pairs.tokens(torch.tensor([4, 1]), torch.tensor([5, 3]))  # its captions number 2 and 0
    assert [got[k][got_mask[k]].tolist() for k in range(2)] == [ids[14][mask[14]].tolist(), ids[3][mask[3]].tolist()]


# Labels


def test_zeroshot_set(tmp_path):
    folder = make_shards(tmp_path / "toy", 7, split="val", captions=0, classes=3)
    (folder / "classnames.txt").write_text("tench\ngoldfish\ngreat white shark\n\n")
    pairs = Shards(folder, "zeroshot", image_size=8)
    assert pairs.labels.dtype == torch.int64 and pairs.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert list(pairs.class_names) == ["tench", "goldfish", "great white shark"]
    assert all(template.count("{}") == 1 for template in pairs.templates) and pairs.captions(0) == []
    with pytest.raises(ClipeduError, match="no captions"):
        pairs.tokenize(None)


@pytest.mark.parametrize(
    ("names", "told"), [(5, "3 of 5 classes (0 to 2; class names of the set's classnames.txt)"), (2, "")]
)
def test_labels_and_names_of_other_numbers_are_told(tmp_path, caplog, names, told):
    folder = make_shards(tmp_path / "toy", 7, split="val", captions=0, classes=3)
    (folder / "classnames.txt").write_text("\n".join(f"name {index}" for index in range(names)))
    with caplog.at_level("INFO", "clipedu"):
        pairs = Shards(folder, "zeroshot", image_size=8)
    assert [line for line in caplog.messages if "classes" in line] == (
        [f"toy/zeroshot: its labels are {told}"] if told else []
    )
    assert len(pairs.skipped) == (0 if told else 2) and all("there are 2 classes" in line for line in pairs.skipped)


def test_a_class_without_a_name_is_refused(tmp_path):
    folder = make_shards(tmp_path / "toy", 7, split="val", captions=0, classes=3)
    (folder / "classnames.txt").write_text("tench\n\ngreat white shark\n")
    with pytest.raises(ClipeduError, match="classnames.txt: line 2 is empty"):
        Shards(folder, "zeroshot", image_size=8)


def test_zeroshot_needs_labels_and_names(tmp_path):
    for name, captions, classes, words in (("plain", 1, 0, "no class labels"), ("nameless", 0, 2, "classnames.txt")):
        folder = make_shards(tmp_path / name, 2, split="val", captions=captions, classes=classes)
        with pytest.raises(ClipeduError, match=words):
            Shards(folder, "zeroshot", image_size=8)


# Size


def test_size_takes_the_first_rows(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 9)
    write_tar(folder / "toy-train-000a.tar", DAMAGE["no caption"]("x") + DAMAGE["image has zero bytes"]("y"))
    write_tar(folder / "toy-train-zzz.tar", DAMAGE["no caption"]("z"))
    decoded = []
    monkeypatch.setattr(images, "decode", lambda *args: decoded.append(1) or photo(0, 8, 8).transpose(2, 0, 1).copy())
    part = Shards(folder, image_size=8, size=5)
    assert len(decoded) == 5  # a small part of a large set is quick
    whole = Shards(folder, image_size=8)
    again = Shards(folder, image_size=8, size=5)
    for pairs in (part, again):
        assert pairs.keys == whole.keys[:5] and len(pairs) == 5
        assert [line.split(": ")[1] for line in pairs.skipped] == ["x", "y"]
    assert part.fingerprint() == again.fingerprint() != whole.fingerprint()
    assert len(whole.skipped) == 3


def test_size_counts_good_rows(tmp_path):
    folder = tmp_path / "toy"
    cut = encode(photo(1))[:200]
    for i in range(6):  # every other image cannot be decoded
        write_tar(folder / f"{i}.tar", sample(f"k{i}", encode(photo(i)) if i % 2 else cut, ["a text"]))
    assert Shards(folder, image_size=8, size=2).keys == ["k1", "k3"]


def test_size_beyond_the_set(tmp_path):
    folder = make_shards(tmp_path / "toy", 4)
    for size in (4, None):  # without a cache, and then with one
        with pytest.raises(ClipeduError, match="size=5 .* 4 pairs"):
            Shards(folder, image_size=8, size=5)
        assert len(Shards(folder, image_size=8, size=size)) == 4
    with pytest.raises(ClipeduError, match="size=5 .* only 4 pairs"):
        Shards(folder, image_size=8, size=5)
    write_tar(folder / "toy-train-zzz.tar", sample("x", encode(photo(1))[:200], ["a text"]))
    with pytest.raises(ClipeduError, match="size=5 .* 4 pairs"):
        Shards(folder, image_size=8, size=5)


@pytest.mark.parametrize("options", [{"size": 0}, {"image_size": 0}, {"image_size": 5000}, {"resize": "pad"}])
def test_bad_options(tmp_path, options):
    with pytest.raises(ClipeduError) as error:
        Shards(make_shards(tmp_path / "toy", 2), **options)
    ((name, value),) = options.items()
    assert name in one_line(error) and str(value) in one_line(error)


# The cache


def test_fingerprint_is_of_the_content(tmp_path):
    folder = make_shards(tmp_path / "toy", 3)
    first = Shards(folder, image_size=8).fingerprint()
    os.utime(folder / "toy-train-000.tar", (0, 0))
    assert Shards(folder, image_size=8).fingerprint() == first
    folder = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert Shards(folder, image_size=8).fingerprint() == first
    others = [
        Shards(folder, image_size=9),
        Shards(folder, image_size=8, resize="squash"),
        Shards(folder, image_size=8, size=2),
    ]
    write_tar(folder / "toy-train-001.tar", sample("k", photo(0), ["a text"]))
    others.append(Shards(folder, image_size=8))
    write_tar(folder / "toy-train-001.tar", sample("k", photo(0), ["a test"]))
    others.append(Shards(folder, image_size=8))
    assert len({first, *(pairs.fingerprint() for pairs in others)}) == 6


# Real shards


def test_flickr8k_tiny(real):
    pairs = Shards(real / "flickr8k-tiny", image_size=96)
    assert len(pairs) == 256 and not pairs.skipped and all(len(pairs.captions(row)) == 5 for row in range(256))
    with tarfile.open(real / "flickr8k-tiny" / "flickr8k-tiny-train-001.tar") as tar:
        first = tar.next()
        assert first.name.removesuffix(".jpg") == pairs.keys[128]
        picture = np.asarray(Image.open(tar.extractfile(first)).convert("RGB"))
        record = json.load(tar.extractfile(first.name.replace(".jpg", ".json")))
    assert (
        torch.equal(pairs.pixels(torch.tensor([128]))[0], as_planes(picture))
        and pairs.captions(128) == record["captions"]
    )
    assert len(Shards(real / "flickr8k-tiny", "val", image_size=32)) == 128


def test_imagenet_sample(real):
    pairs = Shards(real / "imagenet-sample", "zeroshot", image_size=32)
    assert pairs.labels.tolist() == list(range(1000)) and pairs.captions(0) == []
    names = []
    for path in sorted((real / "imagenet-sample").glob("*.tar")):
        with tarfile.open(path) as tar:
            names += [json.load(tar.extractfile(member))["name"] for member in tar if member.name.endswith(".json")]
    different = [index for index in range(1000) if pairs.class_names[index] != names[index]]
    assert different == [134, 264, 517, 639]  # renamed, since two classes have the same name
