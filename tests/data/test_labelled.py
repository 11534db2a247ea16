"""Labelled pictures to train probes on, and the line where there are none."""

import logging

import pytest
import torch

from clipedu import load_pairs
from clipedu.data.labelled import SCENES_A_CLASS, labelled_training
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import Ungraded
from tests.helpers.shard_maker import photo, sample, write_tar


def shard(folder, split, first, labels):
    files = [
        file
        for i, label in enumerate(labels, first)
        for file in [*sample(f"k{i}", photo(i), [f"text {i}"]), (f"k{i}.cls", str(label).encode())]
    ]
    return write_tar(folder / f"{folder.name}-{split}-0.tar", files)


def named(folder, names=("cat", "dog")):
    (folder / "classnames.txt").write_text("\n".join(names))
    return folder


@pytest.fixture
def pets(tmp_path):
    """A set of two classes with a split to train on, of which one picture is in the other split too."""
    folder = tmp_path / "pets"
    shard(folder, "train", 0, [0, 1, 0, 1, 0])
    shard(folder, "val", 4, [0, 1, 0])
    return named(folder)


def test_of_scenes_they_follow_the_scored_ones():
    scored = load_pairs("scenes", "zeroshot", size=150, seed=3)
    for data in (None, "scenes"):
        train = labelled_training(scored, data)
        assert len(train) == 100 * SCENES_A_CLASS and torch.bincount(train.labels).tolist() == [SCENES_A_CLASS] * 100
    assert len(labelled_training(scored, scenes_a_class=2)) == 200
    with pytest.raises(ClipeduError, match="scenes_a_class must be at least 1, got 0"):
        labelled_training(scored, scenes_a_class=0)
    longer = load_pairs("scenes", "zeroshot", size=160, seed=3)
    assert torch.equal(train.pixels(torch.arange(10)), longer.pixels(torch.arange(150, 160)))
    assert torch.equal(train.labels[:10], longer.labels[150:])
    assert train.class_names == scored.class_names


def test_of_shards_they_are_the_split_train_without_what_is_scored(pets, caplog):
    scored = load_pairs(pets, "zeroshot")
    with caplog.at_level(logging.WARNING, logger="clipedu"):
        train = labelled_training(scored)
    assert "1 of 5 pictures of pets/train are also in pets/zeroshot" in caplog.text
    assert train.labels.tolist() == [0, 1, 0, 1] and train.image_size == scored.image_size


def test_another_set_with_the_same_classes(pets, tmp_path):
    other = tmp_path / "others"
    shard(other, "train", 20, [1, 0, 1])
    scored = load_pairs(pets, "zeroshot")
    assert labelled_training(scored, str(named(other))).labels.tolist() == [1, 0, 1]


def test_where_there_are_none_it_is_said(pets, tmp_path):
    scored = load_pairs(pets, "zeroshot")
    only = tmp_path / "only"
    shard(only, "val", 0, [0, 1])
    same = tmp_path / "same"
    write_tar(same / "0.tar", [f for i in range(3) for f in [*sample(f"k{i}", photo(i), ["x"]), (f"k{i}.cls", b"1")]])
    bare = write_tar(
        tmp_path / "bare" / "bare-train-0.tar", [f for i in range(3) for f in sample(f"k{i}", photo(i), ["x"])]
    )
    wide = tmp_path / "wide"
    shard(wide, "train", 30, [0, 7])
    renamed = tmp_path / "renamed"
    shard(renamed, "train", 40, [0, 1])
    for about, data, message in (
        (load_pairs(named(only), "zeroshot"), None, "no labelled pictures to train probes on"),
        (load_pairs(named(same), "zeroshot"), None, "all 3 pictures of same/train are also in same/zeroshot"),
        (scored, str(bare.parent), "bare/train has no labels"),
        (scored, str(wide), "labels from 0 to 7, and pets/zeroshot has 2 classes"),
        (scored, str(named(renamed, ("cat", "cow"))), "class 1 is 'cow' in renamed/train and 'dog' in pets/zeroshot"),
        (load_pairs("scenes", "val", size=4), None, "scenes/val has no labelled classes"),
    ):
        with pytest.raises(ClipeduError) as error:
            labelled_training(about, data)
        assert message in str(error.value) and len(str(error.value)) < 500


def test_a_set_of_ones_own_needs_another():
    own = Ungraded(load_pairs("scenes", "zeroshot", size=4))
    own.labels, own.class_names = torch.tensor([0, 1, 0, 1]), ["a", "b"]
    with pytest.raises(ClipeduError, match="has no labelled part to train on: give one with --probe-data NAME"):
        labelled_training(own)
