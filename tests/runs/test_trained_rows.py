"""What a run keeps of the rows it was trained on, and what it says of sets that have changed since."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from clipedu.data.overlap import Shared
from clipedu.runs.trained_rows import (
    changed_sets,
    check_same_sets,
    keep_trained_rows,
    note_changes,
    shared_with_training,
)
from clipedu.utils.errors import ClipeduError
from tests.data.test_identity import Own


def entry(pairs, **more):
    return {
        "name": pairs.name,
        "split": pairs.split,
        "fingerprint": pairs.fingerprint(),
        "identity": pairs.identity(),
        **more,
    }


def kept(folder, *entries):
    (folder / "data.json").write_text(json.dumps(entries))


def validation(**changes):
    pairs = Own(**changes)
    pairs.split = "val"
    return pairs


def test_rows_are_counted_when_the_training_pairs_are_gone(tmp_path):
    keep_trained_rows(tmp_path, Own(8))
    assert shared_with_training(tmp_path, validation(rows=8)) == Shared(8, 8)
    assert shared_with_training(tmp_path, validation(seed=1)) == Shared(0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["train-rows.npy"]


def test_a_run_of_an_older_version_has_a_fingerprint_only(tmp_path):
    assert shared_with_training(tmp_path, validation()) is None
    same = Own()
    kept(tmp_path, {"split": "train", "fingerprint": same.fingerprint()})
    assert shared_with_training(tmp_path, same) == Shared(5, 5)
    assert shared_with_training(tmp_path, validation(rows=4)) is None


@pytest.mark.parametrize("kind", ["pickle", "objects", "archive", "other axes", "too large"])
def test_what_is_no_array_of_hashes_is_one_line_without_advice(tmp_path, kind):
    """NumPy's text says how to load a pickle all the same, which would run what is in it."""
    path = tmp_path / "train-rows.npy"
    with path.open("wb") as file:
        if kind == "pickle":
            pickle.dump([1], file)
        elif kind == "archive":
            np.savez(file, rows=np.zeros((3, 2), np.int64))
        elif kind == "too large":
            header = {"descr": "<i8", "fortran_order": False, "shape": (2**50, 2)}
            np.lib.format.write_array_header_1_0(file, header)
        else:
            np.save(file, np.zeros((3, 3)) if kind == "other axes" else np.array([{}], dtype=object))
    with pytest.raises(ClipeduError, match="train-rows.npy cannot be read: .*. Remove it") as caught:
        shared_with_training(tmp_path, Own())
    assert "\n" not in str(caught.value) and "pickle" not in str(caught.value) and "unsafe" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_file_is_one_line(tmp_path, content):
    keep_trained_rows(tmp_path, Own())
    path = tmp_path / "train-rows.npy"
    path.write_bytes(path.read_bytes()[:-4] if content is None else content)
    with pytest.raises(ClipeduError, match="train-rows.npy cannot be read: .*. Remove it") as caught:
        shared_with_training(tmp_path, validation())
    assert "\n" not in str(caught.value)


def test_a_set_that_changed_is_named_until_it_is_as_it_was(tmp_path):
    train, before, other = Own(), validation(seed=1), validation(seed=2)
    kept(tmp_path, entry(train), entry(before))
    assert note_changes(tmp_path, [(before, entry(before))]) == [] == changed_sets(tmp_path)
    (line,) = note_changes(tmp_path, [(other, entry(other))])
    assert line.startswith(
        "the set own/val has changed since this run was trained (the pictures), so these scores cannot"
    )
    assert changed_sets(tmp_path) == [line] == note_changes(tmp_path, [(other, entry(other))])
    sets = json.loads((tmp_path / "data.json").read_text())
    assert sets[0] == entry(train) and sets[1] == entry(other, was=before.identity())
    assert note_changes(tmp_path, [(before, entry(before))]) == []
    assert json.loads((tmp_path / "data.json").read_text())[1] == entry(before)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"split": "val"}]', "[null"])
def test_what_an_older_or_damaged_folder_does_not_say_is_not_compared(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    assert note_changes(tmp_path, [(validation(), entry(validation()))]) == []
    assert (tmp_path / "data.json").read_text() == content
    check_same_sets(tmp_path, {"val": validation().identity()})


@pytest.mark.parametrize("damaged", [5, [], "x", {"rows": "many"}, {"pictures": 7}, {"image_size": -1}])
def test_a_damaged_identity_is_not_compared(tmp_path, damaged):
    kept(tmp_path, entry(validation()) | {"identity": damaged, "was": damaged})
    assert note_changes(tmp_path, [(validation(), entry(validation()))]) == [] == changed_sets(tmp_path)
    check_same_sets(tmp_path, {"val": validation().identity()})


def test_a_folder_of_other_data(tmp_path):
    kept(tmp_path, entry(Own()), entry(validation(seed=1)))
    check_same_sets(tmp_path, {"train": Own().identity(), "val": validation(seed=1).identity()})
    with pytest.raises(ClipeduError, match=r"own/val has changed since \(the pictures\). Give another --folder"):
        check_same_sets(tmp_path, {"train": Own().identity(), "val": validation(seed=2).identity()})


def test_a_description_that_is_nested_too_deeply_says_nothing(tmp_path):
    (tmp_path / "data.json").write_text("[" * 100_000)
    assert changed_sets(tmp_path) == [] and shared_with_training(tmp_path, validation()) is None
    (tmp_path / "data.json").unlink()
    (tmp_path / "data.json").mkdir()
    assert changed_sets(tmp_path) == []
