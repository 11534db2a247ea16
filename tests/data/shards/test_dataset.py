"""Shards: rows, pixels, splits, labels, the cache, and every kind of damage."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards import tar_reader as tars
from clipedu.data.shards.dataset import Shards
from clipedu.data.tokenizer import train_tokenizer
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import DAMAGE, bomb, encode, make_shards, photo, sample, write_tar


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real():
    if "CLIPEDU_DATA" not in os.environ:
        pytest.skip("set CLIPEDU_DATA to a folder with flickr8k-tiny and imagenet-sample")
    return Path(os.environ["CLIPEDU_DATA"])


def every_pixel(pairs):
    return pairs.pixels(torch.arange(len(pairs)))


def as_planes(picture):
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


def says(error):
    text = str(error.value)
    assert "\n" not in text
    return text


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
    assert (pairs.keys, list(pairs.skipped)) == (["deep/x.y/k"], [])


def test_images_and_texts_may_lie_apart(tmp_path):
    first, second = sample("a", photo(0), ["zero"]), sample("b", photo(1), ["one"])
    files = [first[0], second[0], first[1], second[1]]
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", files).parent, image_size=24)
    assert [pairs.captions(row) for row in range(2)] == [["zero"], ["one"]]


def test_tokens(tmp_path):
    pairs = Shards(make_shards(tmp_path / "toy", 5, captions=3), image_size=8)
    texts = [text for row in range(5) for text in pairs.captions(row)]
    pairs.tokenize(train_tokenizer(texts, 12))
    ids, mask, row = pairs.all_tokens()
    assert row.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    got, got_mask = pairs.tokens(torch.tensor([4, 1]), torch.tensor([5, 3]))  # its captions number 2 and 0
    assert [got[k][got_mask[k]].tolist() for k in range(2)] == [ids[14][mask[14]].tolist(), ids[3][mask[3]].tolist()]


# Pixels


@pytest.mark.parametrize("kind, options", [("png", {}), ("webp", {"lossless": True})])
def test_lossless_images_of_the_right_size_are_left_as_they_are(kind, options):
    assert np.array_equal(images.decode(encode(photo(3), kind, **options), 24, "crop"), photo(3).transpose(2, 0, 1))


def test_crop_keeps_the_middle_and_squash_keeps_everything():
    flag = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        flag[:, third * 20 : third * 20 + 20, third] = 255
    crop, squash = (images.decode(encode(flag), 30, how) for how in ("crop", "squash"))
    assert (crop[1, :, 2:-2] == 255).all() and not crop[[0, 2], :, 2:-2].any()
    for third in range(3):
        assert squash[:, 15, third * 10 + 5].tolist() == [255 * (third == channel) for channel in range(3)]
    tall = images.decode(encode(flag.transpose(1, 0, 2).copy()), 30, "crop")
    assert np.array_equal(tall, crop.transpose(0, 2, 1))


def test_crop_is_resize_of_the_shorter_side_and_centre_crop():
    big = photo(5, 64, 160)
    whole = np.asarray(Image.fromarray(big).resize((80, 32), Image.Resampling.BICUBIC))
    got = images.decode(encode(big), 32, "crop").transpose(1, 2, 0)
    assert np.abs(got.astype(int) - whole[:, 24:56]).max() <= 1


def test_a_large_jpeg_is_decoded_small_without_a_visible_difference():
    data = encode(photo(6, 900, 1200), "jpg", quality=95)
    exact = Image.open(io.BytesIO(data)).resize((40, 40), Image.Resampling.BICUBIC, box=(150, 0, 1050, 900))
    assert np.abs(images.decode(data, 40, "crop").transpose(1, 2, 0).astype(int) - np.asarray(exact)).max() <= 8


@pytest.mark.parametrize(
    "orientation, turned", [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))]
)
def test_exif_orientation_is_applied(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = turned(photo(7))
    assert np.array_equal(images.decode(encode(photo(7), "png", exif=exif), 24, "crop"), upright.transpose(2, 0, 1))


def test_a_broken_exif_block_does_no_harm(tmp_path, recwarn):
    image = encode(photo(7), "jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", sample("k", image, ["a text"])).parent, image_size=24)
    assert len(pairs) == 1 and not pairs.skipped and not recwarn.list


def test_every_mode_becomes_rgb():
    grey = photo(8)[:, :, 0]
    image = Image.fromarray(photo(8))
    for picture in (Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) * 256)):
        assert np.array_equal(images.decode(encode(picture), 24, "crop"), np.stack([grey] * 3))
    clear = image.copy()
    clear.putalpha(255)
    assert np.array_equal(images.decode(encode(clear), 24, "crop"), photo(8).transpose(2, 0, 1))
    few = image.quantize(8)
    expected = np.asarray(few.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(images.decode(encode(few, "png", transparency=b"\xff\x80"), 24, "crop"), expected)
    inks = images.decode(encode(image.convert("CMYK"), "jpg", quality=95), 24, "crop")
    assert np.abs(inks.astype(int) - photo(8).transpose(2, 0, 1)).mean() < 6


@pytest.mark.parametrize("width, height", [(12_000, 9_000), (60_000, 60_000)])  # Pillow only warns of the first
def test_decompression_bombs_are_not_decoded(width, height, monkeypatch):
    monkeypatch.setattr(PngImageFile, "load", no_decoding)
    with images.quiet(), pytest.raises(images.BadImage, match="too large"):
        images.decode(bomb(width, height), 24, "crop")


# Splits


@pytest.mark.parametrize(
    "names, split, expected",
    [
        (["cc3m-train-0001.tar", "cc3m-train-0000.tar", "cc3m-validation-0000.tar"], "train", [1, 0]),
        (["cc3m-train-0001.tar", "cc3m-train-0000.tar", "cc3m-validation-0000.tar"], "val", [2]),
        (["VAL2014_1.tar", "train2014_1.tar"], "val", [0]),
        (["x_test.tar", "x_train.tar"], "val", [0]),
        (["x_test.tar", "x_val.tar"], "val", [1]),
        (["test/0.tar", "train/0.tar", "train/1.tar"], "train", [1, 2]),
        (["trainer.tar", "valley.tar"], "train", [0, 1]),
        (["trainer.tar", "valley.tar"], "val", [0, 1]),
    ],
)
def test_split_words(tmp_path, names, split, expected):
    for i, name in enumerate(names):
        write_tar(tmp_path / "toy" / name, sample(f"k{i}", photo(i), ["a text"]))
    pairs = Shards(tmp_path / "toy", split, image_size=8)
    assert pairs.keys == [f"k{i}" for i in sorted(expected, key=lambda i: names[i])]


def test_a_shard_of_no_split_is_named(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    write_tar(folder / "more.tar", sample("x", photo(0), ["a text"]))
    pairs = Shards(folder, image_size=8)
    assert len(pairs) == 2 and len(pairs.skipped) == 1 and pairs.skipped[0].startswith("more.tar: not used")


def test_split_that_is_not_there(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    with pytest.raises(ClipeduError) as error:
        Shards(folder, "val")
    assert "'val'" in says(error) and "train" in says(error) and "toy" in says(error)
    with pytest.raises(ClipeduError) as error:
        Shards(folder, "vall")
    assert "Did you mean 'val'?" in says(error) and "train, val, zeroshot" in says(error)


# Labels


def test_zeroshot_set(tmp_path):
    folder = make_shards(tmp_path / "toy", 7, split="val", captions=0, classes=3)
    (folder / "classnames.txt").write_text("tench\ngoldfish\n\ngreat white shark\n")
    pairs = Shards(folder, "zeroshot", image_size=8)
    assert pairs.labels.dtype == torch.int64 and pairs.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert list(pairs.class_names) == ["tench", "goldfish", "great white shark"]
    assert all(template.count("{}") == 1 for template in pairs.templates) and pairs.captions(0) == []
    with pytest.raises(ClipeduError, match="no captions"):
        pairs.tokenize(None)


def test_a_class_that_is_not_there_is_skipped(tmp_path):
    folder = make_shards(tmp_path / "toy", 4, captions=0, classes=3)
    (folder / "classnames.txt").write_text("tench\ngoldfish\n")
    pairs = Shards(folder, image_size=8)
    assert pairs.labels.tolist() == [0, 1, 0]
    assert list(pairs.skipped) == ["toy-train-000.tar: k002: bad class index 2, there are 2 classes"]


def test_captions_and_labels_together(tmp_path):
    folder = make_shards(tmp_path / "toy", 3, captions=2, classes=2)
    write_tar(folder / "toy-train-1.tar", sample("x", photo(0), ["a text"]))
    pairs = Shards(folder, image_size=8)
    assert (pairs.labels.tolist(), len(pairs.captions(2)), pairs.class_names) == ([0, 1, 0], 2, None)
    assert list(pairs.skipped) == ["toy-train-1.tar: x: no class index"]


def test_a_stray_class_file_does_not_make_a_labelled_set(tmp_path):
    folder = make_shards(tmp_path / "toy", 3)
    write_tar(folder / "toy-train-1.tar", sample("x", photo(0), ["a text"], label=1))
    pairs = Shards(folder, image_size=8)
    assert (len(pairs), pairs.labels, list(pairs.skipped)) == (4, None, [])


def test_a_stray_caption_does_not_make_a_captioned_set(tmp_path):
    folder = make_shards(tmp_path / "toy", 3, captions=0, classes=2)
    write_tar(folder / "toy-train-1.tar", sample("x", photo(0), ["a text"], label=1))
    pairs = Shards(folder, image_size=8)
    assert pairs.labels.tolist() == [0, 1, 0, 1] and [pairs.captions(row) for row in range(4)] == [[]] * 4


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
    assert name in says(error) and str(value) in says(error)


# The cache


def no_decoding(*args):
    raise AssertionError("decoded again")


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


def test_what_others_left_half_written_goes_after_a_week(tmp_path, cache_home):
    names = ("old", "fresh", "busy")
    for name in names:
        (cache_home / f"{name}.partial").mkdir(parents=True)
        (cache_home / f"{name}.partial" / "pixels.npy").write_bytes(b"x")
    long_ago = (time.time() - cache.STALE - 60,) * 2
    for path in ("old.partial/pixels.npy", "old.partial", "busy.partial"):
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


def test_an_entry_that_another_process_finished_first_is_used(tmp_path, cache_home, monkeypatch):
    folder = make_shards(tmp_path / "toy", 3)
    Shards(folder, image_size=8)
    load, answers = cache.load, []
    # Absent when it is looked for at first; there when the lock that another process held is free.
    monkeypatch.setattr(cache, "load", lambda entry: load(entry) if answers else answers.append(1))
    monkeypatch.setattr(images, "decode", no_decoding)
    (entry,) = cache_home.iterdir()
    assert len(Shards(folder, image_size=8)) == 3 and list(cache_home.iterdir()) == [entry]


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 2)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ClipeduError) as error:
        Shards(folder, image_size=8)
    assert "CLIPEDU_CACHE" in says(error) and str(tmp_path / "file") in says(error)


def test_a_full_disk(tmp_path, cache_home, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ClipeduError) as error:
        Shards(make_shards(tmp_path / "toy", 2), image_size=8)
    assert "CLIPEDU_CACHE" in says(error) and "No space left" in says(error)
    assert os.listdir(cache_home) == []


def test_cache_folder_default(monkeypatch):
    monkeypatch.delenv("CLIPEDU_CACHE")
    assert cache.cache_folder() == Path.home() / ".cache" / "clipedu"


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


# Damage


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


def test_keys_repeated_in_another_shard(tmp_path):
    folder = tmp_path / "toy"
    write_tar(folder / "0.tar", sample("k", photo(0), ["zero"]) + sample("l", photo(1), ["one"]))
    write_tar(folder / "1.tar", sample("k", photo(0), ["zero"]) + sample("l", photo(2), ["two"]))  # a copy; a namesake
    pairs = Shards(folder, image_size=24)
    assert [pairs.captions(row)[0] for row in range(len(pairs))] == ["zero", "one", "two"]
    assert list(pairs.skipped) == ["1.tar: k: duplicate key, the same sample is in 0.tar"]


def test_labelled_images_repeated_in_another_shard(tmp_path):
    folder = make_shards(tmp_path / "toy", 4, per_shard=4, captions=0, classes=2)
    shutil.copy(folder / "toy-train-000.tar", folder / "toy-train-000 (1).tar")
    pairs = Shards(folder, image_size=8)
    assert len(pairs) == 4 and len(pairs.skipped) == 4


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
    assert pairs.keys == ["x", "k000"] and "bad-train-000.tar: damaged after 2 files" in pairs.skipped[0]


def test_a_compressed_shard_and_an_empty_one_are_named(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    (folder / "gz-train.tar").write_bytes(gzip.compress((folder / "toy-train-000.tar").read_bytes()))
    (folder / "nil-train.tar").write_bytes(b"")
    pairs = Shards(folder, image_size=8)
    assert len(pairs) == 2 and [line.split(": ")[0] for line in pairs.skipped] == ["gz-train.tar", "nil-train.tar"]
    assert all("not a tar file" in line for line in pairs.skipped)


def test_nothing_usable(tmp_path):
    folder = tmp_path / "toy"
    write_tar(folder / "0.tar", DAMAGE["no caption"]("x") + DAMAGE["image has zero bytes"]("y"))
    with pytest.raises(ClipeduError) as error:
        Shards(folder, image_size=8)
    assert "2 skipped" in says(error) and "0.tar: x: no caption" in says(error) and "again" in says(error)
    with pytest.raises(ClipeduError, match="no usable pair"):
        Shards(folder, image_size=8, size=1)
    write_tar(folder / "0.tar", [("README.md", b"hello")])
    with pytest.raises(ClipeduError, match=r"KEY\.jpg"):
        Shards(folder, image_size=8)


def test_no_folder_no_shards(tmp_path):
    (tmp_path / "file.tar").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.zip").write_bytes(b"")
    for name, words in (
        ("none", "does not exist"),
        ("file.tar", "is a file"),
        ("empty", "no .tar"),
        ("other", "no .tar"),
    ):
        with pytest.raises(ClipeduError) as error:
            Shards(tmp_path / name)
        assert words in says(error) and str(tmp_path / name) in says(error) and "give a folder" in says(error)


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
