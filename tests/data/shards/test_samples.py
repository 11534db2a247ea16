"""Samples: which shards belong to a split, and which samples become rows."""

from __future__ import annotations

import os
import shutil

import pytest

from clipedu.data.prepare import prepare_cache
from clipedu.data.shards.dataset import Shards
from clipedu.utils.errors import ClipeduError
from tests.helpers.cached_shards import (
    one_line,
)
from tests.helpers.shard_maker import make_shards, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.mark.parametrize(
    "names, split, expected",
    [
        (["cc3m-train-0001.tar", "cc3m-train-0000.tar", "cc3m-validation-0000.tar"], "train", [1, 0]),
        (["cc3m-train-0001.tar", "cc3m-train-0000.tar", "cc3m-validation-0000.tar"], "val", [2]),
        (["VAL2014_1.tar", "train2014_1.tar"], "val", [0]),
        (["x_test.tar", "x_train.tar"], "val", [0]),
        (["x_test.tar", "x_val.tar"], "val", [1]),
        (["test/0.tar", "train/0.tar", "train/1.tar"], "train", [1, 2]),
        (["x_restval.tar", "x_dev.tar", "x_training.tar", "x_testing.tar"], "train", [0, 2]),
        (["x_restval.tar", "x_dev.tar", "x_training.tar", "x_testing.tar"], "val", [1]),
        (["x_train.tar", "x_testing.tar"], "val", [1]),
        (["restval/0.tar", "valid/0.tar"], "train", [0]),
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
    assert "'val'" in one_line(error) and "train" in one_line(error) and "toy" in one_line(error)
    with pytest.raises(ClipeduError) as error:
        Shards(folder, "vall")
    assert "Did you mean 'val'?" in one_line(error) and "train, val, zeroshot" in one_line(error)


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
        assert (
            words in one_line(error) and str(tmp_path / name) in one_line(error) and "give a folder" in one_line(error)
        )


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


def test_what_is_no_file_is_no_shard(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    os.mkfifo(folder / "fifo.tar")
    (folder / "folder.tar").mkdir()
    (folder / "loop.tar").symlink_to(folder / "loop.tar")
    assert prepare_cache(folder, image_size=8, progress=False).rows == 2
