"""One's own pairs: a manifest of a folder of shards, and shards of images with a table of captions."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from clipedu.data.load import load_pairs
from clipedu.data.sources import shard_writer as own
from clipedu.data.sources.manifests import find_manifest
from clipedu.data.sources.shard_writer import write_manifest, write_shards
from clipedu.data.sources.verification import verify
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import DAMAGE, bomb, encode, make_shards, photo, sample, write_tar


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
    with pytest.raises(ClipeduError, match=r"no usable pair in split 'train' \(1: no image.*, e.g. bad-train-0.tar: x"):
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
    (images / "empty.jpg").write_bytes(b"")
    (images / "notes.txt").write_text("x")
    rows = [
        "a.jpg,fine,train",
        "gone.jpg,x,train",
        "../secret.jpg,x,train",
        f"{tmp_path}/secret.jpg,x,train",
    ]
    rows += ["notes.txt,x,train", "empty.jpg,x,train", "b.PNG,,train", "b.PNG", "a.jpg,x,val", "b.PNG,x,more"]
    (tmp_path / "t.csv").write_text("image,caption,split\n" + "\n".join(rows) + "\n")
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert (done.images, done.captions) == (1, 1)
    told = ["no such file", "not a file inside", "not a file inside", "not a jpg", "zero bytes", "empty caption"]
    told += [
        "1 cell, the header has 3",
        "is in train already, so it cannot be in val",
        "unknown split 'more'. Allowed:",
    ]
    assert len(done.dropped) == len(told)
    for number, (line, why) in enumerate(zip(done.dropped, told, strict=True), 3):
        assert line.startswith(f"row {number}: ") and why in line
    assert done.reasons()["not a file inside the folder"] == 2 and sum(done.reasons().values()) == len(told)
    assert b"secret" not in b"".join(path.read_bytes() for path in done.folder.glob("*.tar"))
    assert (done.folder / "left_out.txt").read_text().splitlines() == done.dropped


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


def test_links_inside_the_folder_are_followed(images, tmp_path):
    """A hub's cache: snapshots/REVISION/NAME.jpg is a link to ../../blobs/CHECKSUM, which has no extension."""
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    (snapshot / "img").mkdir(parents=True)
    for number in range(2):
        (blobs / f"{number:064d}").write_bytes(encode(photo(number), "jpg"))
        (snapshot / "img" / f"{number}.jpg").symlink_to(Path("../../../blobs") / f"{number:064d}")
    (snapshot / "all").symlink_to(images)
    (snapshot / "gone.jpg").symlink_to("nowhere")
    (snapshot / "round.jpg").symlink_to("round.jpg")
    (snapshot / "zero.jpg").symlink_to("/dev/zero")
    rows = "img/0.jpg,a img/1.jpg,b all/a.jpg,c gone.jpg,d round.jpg,e zero.jpg,f all/../../x.jpg,g ./img/0.jpg,h"
    (tmp_path / "t.csv").write_text("image,caption\n" + rows.replace(" ", "\n"))
    done = write_shards(snapshot, tmp_path / "t.csv", folder=tmp_path / "out")
    assert (done.images, done.captions) == (3, 4)
    assert load_pairs(done.folder, image_size=8).captions(0) == ["a", "h"]
    told = ["gone.jpg: a link to a file that is not there", "round.jpg: no such file", "zero.jpg: a folder or a device"]
    told += ["all/../../x.jpg: not a file inside the folder"]
    assert [any(part in line for line in done.dropped) for part in told] == [True] * 4 and len(done.dropped) == 4


def test_pictures_that_do_not_decode_are_left_out(images, tmp_path):
    whole = encode(photo(1, 200, 200), "jpg")
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "page.jpg").write_bytes(b"<html>404</html>")
    (images / "bomb.png").write_bytes(bomb(50_000, 50_000))
    (images / "folder.jpg").mkdir()
    names = [
        "cut.jpg",
        "page.jpg",
        "bomb.png",
        "folder.jpg",
        "x" * 300 + ".jpg",
        "y/" * 3000 + "z.jpg",
        "cut.jpg",
        "a.jpg",
    ]
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},text\n" for name in names))
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert (done.images, done.captions) == (1, 1)
    assert done.reasons() == {"does not decode": 4, "no such file": 2, "a folder or a device, not a file": 1}
    assert "row 2: cut.jpg: image cannot be decoded" in done.dropped[0] and "not a JPEG" in done.dropped[1]
    assert [line.partition(":")[0] for line in done.dropped] == [f"row {number}" for number in range(2, 9)]
    assert "too long" in done.dropped[4] and max(map(len, done.dropped)) < 200
    (tmp_path / "t.csv").write_text("image,caption\ncut.jpg,x\npage.jpg,x\n")
    with pytest.raises(ClipeduError, match="gives no usable pair .e.g. row 2: cut.jpg: image cannot be decoded"):
        write_shards(images, tmp_path / "t.csv", folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_picture_that_cannot_be_read_is_left_out(images, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,x\nb.PNG,y\nsub/c.jpeg,z\n")
    real = Path.read_bytes

    def read(self):
        if self.name == "b.PNG":
            raise OSError(5, "Input/output error")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read)
        done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert done.images == 2 and done.dropped == ["row 3: b.PNG: cannot be read (Input/output error)"]
    assert [load_pairs(done.folder, image_size=8).captions(row) for row in range(2)] == [["x"], ["z"]]


def test_nothing_partial_is_left(images, tmp_path, monkeypatch):
    """The disk is full at the second picture: no shard appears, and nothing lies beside."""
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,x\nb.PNG,y\nsub/c.jpeg,z\n")
    real, written = tarfile.TarFile.addfile, []

    def add(self, header, content):
        written.append(header)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        real(self, header, content)

    (tmp_path / "place").mkdir()
    with monkeypatch.context() as patch, pytest.raises(ClipeduError, match="out cannot be written: No space left"):
        patch.setattr(tarfile.TarFile, "addfile", add)
        write_shards(images, tmp_path / "t.csv", folder=tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_splits_by_other_words(images, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("image,caption,split\na.jpg,x,restval\na.jpg,y,Train\nb.PNG,z,validation\nsub/c.jpeg,w,TESTING\n")
    done = write_shards(images, table, folder=tmp_path / "out")
    assert done.dropped == []
    assert load_pairs(done.folder, "train", image_size=8).captions(0) == ["x", "y"]
    assert load_pairs(done.folder, "val", image_size=8).captions(0) == ["z"]
    assert (done.folder / "out-test-00000.tar").is_file()


@pytest.mark.parametrize("name", ["val2014", "my-dev-set", "train"])
def test_the_folders_name_does_not_choose_the_split(images, tmp_path, name):
    """A shard "val2014-train-00000.tar" would be of both splits."""
    (tmp_path / "t.csv").write_text("image,caption,split\na.jpg,x,train\nb.PNG,y,val\n")
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / name)
    assert [load_pairs(done.folder, split, image_size=8).captions(0) for split in ("train", "val")] == [["x"], ["y"]]
    assert [len(load_pairs(done.folder, split, image_size=8)) for split in ("train", "val")] == [1, 1]


def test_captions_that_no_shard_can_hold(images, tmp_path):
    (tmp_path / "t.csv").write_text("image,caption\na.jpg," + "x" * 2**20 + "\nb.PNG,y\n")
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert done.images == 1 and "more than 1048576 bytes" in done.dropped[0] and len(done.dropped[0]) < 100


def test_a_row_that_is_there_twice_is_kept_and_told(images, tmp_path):
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,x\nb.PNG,x\n./a.jpg,x\na.jpg,x\n")
    done = write_shards(images, tmp_path / "t.csv", folder=tmp_path / "out")
    assert done.captions == 4 and "an earlier row: 2, the first is row 4" in done.notes[-1]


def test_captions_in_json(images, tmp_path):
    table = tmp_path / "dataset.json"
    items = [{"filepath": "sub", "filename": "c.jpeg", "split": "restval", "sentences": [{"raw": "x"}, {"raw": "y"}]}]
    table.write_text(
        json.dumps({"images": [*items, {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "z"}]}]})
    )
    done = write_shards(images, table, folder=tmp_path / "out")
    assert (done.images, done.captions, done.dropped) == (2, 3, [])
    assert load_pairs(done.folder, "train", image_size=8).captions(0) == ["x", "y"]


def test_a_manifest_of_one_split_and_of_none(tmp_path):
    make_shards(tmp_path / "birds", 3, name="birds", split="val")
    manifest = write_manifest(tmp_path / "birds").read_text()
    assert "[splits.val]" in manifest and "[splits.train]" not in manifest
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipeduError, match=r"holds no \.tar shards"):
        write_manifest(tmp_path / "empty")
