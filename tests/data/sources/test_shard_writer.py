"""One's own pairs: a manifest of a folder of shards, and shards of images with a table of captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipedu.data.load import load_pairs
from clipedu.data.sources import shard_writer as own
from clipedu.data.sources.manifests import find_manifest
from clipedu.data.sources.shard_writer import write_manifest, write_shards
from clipedu.data.sources.verification import verify
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_folder_of_shards(tmp_path):
    folder = make_shards(tmp_path / "birds", 9)
    make_shards(folder, 3, name="birds", split="val", captions=2)
    write_tar(folder / "birds-train-009.tar", DAMAGE["no caption"]("x") + sample("y", photo(3), ["fine"]))
    assert write_manifest(folder) == folder / "manifest.toml"
    manifest = find_manifest(folder)
    assert (manifest.name, manifest.hub, list(manifest.splits)) == ("birds", "", ["train", "val"])
    assert (manifest.splits["train"].pairs, manifest.splits["val"].pairs) == (10, 3)
    assert set(manifest.sizes) == set(manifest.sha256) == {path.name for path in folder.glob("*.tar")}


def test_names_without_a_split_and_odd_names(tmp_path):
    folder = tmp_path / 'a "b" é'
    write_tar(folder / 'sh"ärd.tar', sample("a", photo(1), ["one"]))
    write_manifest(folder)
    manifest = find_manifest(folder)
    assert list(manifest.splits) == ["train"] and manifest.files == ('sh"ärd.tar',)
    assert verify(folder, progress=False).damaged == {}


def test_folders_that_have_no_manifest_to_write(tmp_path):
    with pytest.raises(ClipeduError, match="does not exist"):
        write_manifest(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipeduError, match="holds no .tar shards"):
        write_manifest(tmp_path / "empty")
    write_tar(tmp_path / "bad" / "bad-train-0.tar", DAMAGE["no image"]("x"))
    with pytest.raises(ClipeduError, match="no usable pair in split 'train'"):
        write_manifest(tmp_path / "bad")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "pets"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.jpg", "b.PNG", "sub/c.jpeg"]):
        (folder / name).write_bytes(encode(photo(number), name.rpartition(".")[2].lower()))
    return folder


def test_images_and_captions_become_shards(images, home, tmp_path, monkeypatch):
    monkeypatch.setattr(own, "PER_SHARD", 2)
    table = tmp_path / "captions.csv"
    table.write_text(
        '\ufeffImage,Caption\nb.PNG,"a cat, asleep"\na.jpg,a dog\nb.PNG,ein Kätzchen\nsub/c.jpeg,"two ""birds"""\n',
        "utf-8",
    )
    done = write_shards(images, table)
    assert (done.folder, done.images, done.captions, done.dropped) == (home / "pets", 3, 4, [])
    pairs = load_pairs("pets", image_size=24)
    assert [pairs.captions(row) for row in range(3)] == [["a cat, asleep", "ein Kätzchen"], ["a dog"], ['two "birds"']]
    assert (pairs.pixels([0])[0].permute(1, 2, 0).numpy() == photo(1)).all()  # the PNG, untouched
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "manifest.toml",
        "pets-train-00000.tar",
        "pets-train-00001.tar",
    ]
    found = verify("pets", progress=False)
    assert (found.damaged, found.surprises, found.pairs) == ({}, [], {"train": 3})
    assert len(list(home.iterdir())) == 1  # nothing partial beside it
    with pytest.raises(ClipeduError, match="unknown data set 'elsewhere/pets'"):
        find_manifest("elsewhere/pets")


def test_splits_and_other_separators(images, tmp_path):
    table = tmp_path / "c.tsv"
    table.write_text("filepath\ttitle\tsplit\na.jpg\tone, two\ttrain\nb.PNG\tthree\tval\nsub/c.jpeg\tfour\tTest\n")
    done = write_shards(images, table, folder=tmp_path / "out")
    assert [load_pairs(done.folder, split, image_size=8).captions(0) for split in ("train", "val")] == [
        ["one, two"],
        ["three"],
    ]
    assert sorted(path.name for path in done.folder.glob("*.tar")) == [
        f"out-{s}-00000.tar" for s in ("test", "train", "val")
    ]
    table.write_text("image_name| comment_number| comment\na.jpg| 0| a dog\na.jpg| 1| it sits\n")
    write_shards(images, table, folder=tmp_path / "pipes")
    assert load_pairs(tmp_path / "pipes", image_size=8).captions(0) == ["a dog", "it sits"]


def test_rows_that_cannot_be_used_are_named(images, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(encode(photo(0), "jpg"))
    (images / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (images / "empty.jpg").write_bytes(b"")
    (images / "notes.txt").write_text("x")
    rows = [
        "a.jpg,fine,train",
        "gone.jpg,x,train",
        "../secret.jpg,x,train",
        "link.jpg,x,train",
        f"{tmp_path}/secret.jpg,x,train",
    ]
    rows += ["notes.txt,x,train", "empty.jpg,x,train", "b.PNG,,train", "b.PNG", "a.jpg,x,val", "b.PNG,x,dev"]
    (tmp_path / "t.csv").write_text("image,caption,split\n" + "\n".join(rows) + "\n")
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert (done.images, done.captions) == (1, 1)
    told = ["no such file", "not a file inside", "not a file inside", "not a file inside", "not a jpg", "zero bytes"]
    told += ["empty caption", "empty caption", "is in train already", "unknown split 'dev'"]
    assert len(done.dropped) == len(told)
    for number, (line, why) in enumerate(zip(done.dropped, told, strict=True), 3):
        assert line.startswith(f"row {number}: ") and why in line
    assert b"secret" not in b"".join(path.read_bytes() for path in done.folder.iterdir())


@pytest.mark.parametrize(
    "text, told",
    [
        (b"picture,caption\na.jpg,x\n", "has the columns picture, caption: one of them must be called image, filepath"),
        (b"image,words\na.jpg,x\n", "must be called caption, title"),
        (b"", r"\(none\)"),
        (b"image,caption\n", "gives no usable pair .it has no rows"),
        (b"image,caption\nz.jpg,x\n", "gives no usable pair .e.g. row 2: z.jpg: no such file"),
        (b"image,caption\na.jpg,caf\xe9\n", "it is not UTF-8"),
    ],
)
def test_tables_that_cannot_be_used(images, tmp_path, home, text, told):
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(ClipeduError, match=told):
        write_shards(images, tmp_path / "t.csv")
    assert not home.exists() or not list(home.iterdir())


def test_places_that_are_taken_or_not_there(images, tmp_path):
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,x\n")
    with pytest.raises(ClipeduError, match="No such file"):
        write_shards(images, tmp_path / "nowhere.csv")
    with pytest.raises(ClipeduError, match="is no folder"):
        write_shards(images / "a.jpg", tmp_path / "t.csv")
    with pytest.raises(ClipeduError, match="is not empty"):
        write_shards(images, tmp_path / "t.csv", folder=images)
    with pytest.raises(ClipeduError, match="t.csv/out cannot be written: Not a directory"):
        write_shards(images, tmp_path / "t.csv", folder=tmp_path / "t.csv" / "out")


def test_nothing_partial_is_left(images, tmp_path, monkeypatch):
    """The third image cannot be read: no shard appears, and nothing lies beside."""
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,x\nb.PNG,y\nsub/c.jpeg,z\n")
    real = Path.read_bytes

    def read(self):
        if self.name == "c.jpeg":
            raise OSError(5, "Input/output error")
        return real(self)

    (tmp_path / "place").mkdir()
    with monkeypatch.context() as patch, pytest.raises(ClipeduError, match="Input/output error"):
        patch.setattr(Path, "read_bytes", read)
        write_shards(images, tmp_path / "t.csv", folder=tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_manifest_of_one_split_and_of_none(tmp_path):
    make_shards(tmp_path / "birds", 3, name="birds", split="val")
    manifest = write_manifest(tmp_path / "birds").read_text()
    assert "[splits.val]" in manifest and "[splits.train]" not in manifest
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipeduError, match=r"holds no \.tar shards"):
        write_manifest(tmp_path / "empty")
