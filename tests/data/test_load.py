"""load_pairs: names, folders, and what is said when neither is there."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from clipedu.data.load import available, find_folder, load_pairs
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.shards.dataset import Shards
from clipedu.data.sources.manifests import find_manifest
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import make_shards


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_shards(tmp_path / "home" / "flowers", 6, captions=2)
    birds = make_shards(tmp_path / "home" / "birds", 3, split="val", captions=0, classes=3)
    (birds / "classnames.txt").write_text("wren\nrobin\ncrane\n")
    make_shards(tmp_path / "home" / "weights" / "inner", 1)  # too deep to be found
    return tmp_path / "home"


def test_scenes():
    pairs = load_pairs("scenes", "val", image_size=40, size=12, seed=3)
    assert isinstance(pairs, Scenes) and (len(pairs), pairs.split, pairs.image_size) == (12, "val", 40)
    same, other = Scenes("val", 12, 40, 3), Scenes("val", 12, 40, 4)
    assert pairs.fingerprint() == same.fingerprint() != other.fingerprint()


def test_a_name_a_folder_and_a_path(home):
    sets = [load_pairs("flowers", image_size=16), load_pairs(str(home / "flowers"), image_size=16)]
    sets += [load_pairs(home / "flowers", image_size=16), load_pairs("home/flowers", image_size=16)]
    for pairs in sets:
        assert isinstance(pairs, Shards) and (pairs.name, pairs.split, len(pairs), pairs.image_size) == (
            "flowers",
            "train",
            6,
            16,
        )
    assert len({pairs.fingerprint() for pairs in sets}) == 1


def test_options_reach_the_shards():
    pairs = load_pairs("flowers", image_size=8, size=4, resize="squash", seed=5)
    assert (len(pairs), pairs.resize) == (4, "squash")
    assert pairs.fingerprint() == load_pairs("flowers", image_size=8, size=4, resize="squash").fingerprint()


def test_zeroshot_takes_the_val_shards():
    pairs = load_pairs("birds", "zeroshot", image_size=8)
    assert (pairs.split, pairs.labels.tolist(), pairs.class_names[2]) == ("zeroshot", [0, 1, 2], "crane")
    assert torch.equal(load_pairs("birds", "val", image_size=8).labels, pairs.labels)


def test_unknown_name_lists_what_there_is(home):
    assert available() == ["scenes", "birds", "flowers"]
    with pytest.raises(ClipeduError) as error:
        load_pairs("flower")
    text = str(error.value)
    assert (
        "'flower'" in text
        and "Did you mean 'flowers'?" in text
        and "scenes, birds, flowers" in text
        and "\n" not in text
    )
    assert ".tar" in text and str(home) in text


def test_unknown_name_without_data(monkeypatch):
    monkeypatch.delenv("CLIPEDU_DATA")
    with pytest.raises(ClipeduError, match="Did you mean 'scenes'.*CLIPEDU_DATA is not set"):
        load_pairs("scene")
    monkeypatch.setenv("CLIPEDU_DATA", "nowhere")
    with pytest.raises(ClipeduError, match="Allowed: scenes, or"):
        load_pairs("flowers")


def test_folders_that_cannot_be_used():
    with pytest.raises(ClipeduError, match="no .tar shards"):
        load_pairs("weights")
    with pytest.raises(ClipeduError, match="'elsewhere/flowers'"):
        load_pairs("elsewhere/flowers")


@pytest.mark.parametrize("name", ["scenes", "flowers"])
def test_unknown_split(name):
    with pytest.raises(ClipeduError, match="'tests'.*train, val, zeroshot"):
        load_pairs(name, "tests")


def test_size_larger_than_the_set():
    with pytest.raises(ClipeduError, match="size=7 .* 6 pairs"):
        load_pairs("flowers", image_size=8, size=7)


def test_a_folder_of_pictures_does_not_hide_the_set_written_from_it(tmp_path, monkeypatch):
    """`clipedu data manifest birds --captions ...` and then `--data birds`, both from the folder above."""
    from clipedu.data.sources.shard_writer import write_shards

    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    table = ["image,caption"]
    for n in range(3):
        Image.new("RGB", (40, 30), (80 * n, 9, 9)).save(tmp_path / "birds" / f"{n}.png")
        table.append(f"{n}.png,bird {n}")
    (tmp_path / "birds" / "captions.csv").write_text("\n".join(table))
    write_shards("birds", "birds/captions.csv")
    assert len(load_pairs("birds", image_size=16)) == 3


@pytest.mark.parametrize("name", ["x.tar", "notes.txt"])
def test_a_file_in_place_of_its_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        ClipeduError, match=rf"{name} is a file, not a folder: give the folder that holds it, {tmp_path}"
    ):
        load_pairs(tmp_path / name)


def test_a_file_in_the_folder_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "x.tar").write_bytes(b"x")
    for use in (load_pairs, find_manifest):
        with pytest.raises(
            ClipeduError, match=rf"x.tar is a file, not a folder: give the folder that holds it, {tmp_path}$"
        ):
            use("x.tar")
    with pytest.raises(ClipeduError, match="null is a file, not a folder"):
        load_pairs("/dev/null")


def test_a_file_beside_a_folder_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "birds").mkdir(parents=True)
    (tmp_path / "birds").write_bytes(b"x")
    assert find_folder("birds") == tmp_path / "data" / "birds"
