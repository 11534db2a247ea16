"""Members of tars: several after one another, and what stands between and behind them."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest

from clipedu.data.shards.tar_members import list_members
from tests.helpers.shard_maker import photo, sample, write_tar


def tar_of(tmp_path, *keys, name="x.tar"):
    files = [file for number, key in enumerate(keys) for file in sample(key, photo(number), [f"text {key}"])]
    return write_tar(tmp_path / name, files).read_bytes()


def listed(data):
    found = list_members(io.BytesIO(data))
    for member in found.found:
        assert data[member.offset : member.offset + member.size][:4] in (b"\x89PNG", b"text")
    return [(member.name, member.archive) for member in found.found], found.ending


@pytest.mark.parametrize("between", [b"", bytes(512), bytes(5 * 2**20)], ids=["nothing", "a block", "5 MB"])
def test_tars_written_after_one_another(tmp_path, between):
    data = tar_of(tmp_path, "a", "b") + between + tar_of(tmp_path, "c") + between + tar_of(tmp_path, "d")
    names = [
        (f"{key}.{end}", archive) for key, archive in zip("abcd", (0, 0, 1, 2), strict=True) for end in ("png", "txt")
    ]
    assert listed(data) == (names, "")


def test_empty_tars_between(tmp_path):
    empty = write_tar(tmp_path / "empty.tar", []).read_bytes()
    assert listed(empty + tar_of(tmp_path, "a") + empty) == ([("a.png", 1), ("a.txt", 1)], "")


def test_what_stands_behind_and_is_no_tar(tmp_path):
    names, ending = listed(tar_of(tmp_path, "a") + b"garbage " * 200)
    assert len(names) == 2 and ending.startswith("bytes behind the end mark that are no tar")
    cut = tar_of(tmp_path, "b")[:700]
    names, ending = listed(tar_of(tmp_path, "a") + cut)
    assert len(names) == 3 and ending == "damaged (after 3 files: unexpected end of data)"


def test_a_second_tar_that_is_damaged(tmp_path):
    second = bytearray(tar_of(tmp_path, "b", "c"))
    with tarfile.open(fileobj=io.BytesIO(second)) as tar:
        second[tar.getmember("c.png").offset] ^= 1
    names, ending = listed(tar_of(tmp_path, "a") + second)
    assert [name for name, _ in names] == ["a.png", "a.txt", "b.png", "b.txt"] and ending.startswith("damaged (after 4")


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
def test_tar_append_is_one_archive(tmp_path):
    path = tmp_path / "x.tar"
    tar_of(tmp_path, "a")
    (tmp_path / "b.txt").write_text("text b")
    subprocess.run(["tar", "--append", "-f", str(path), "-C", str(tmp_path), "b.txt"], check=True)
    assert listed(path.read_bytes()) == ([("a.png", 0), ("a.txt", 0), ("b.txt", 0)], "")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path, form):
    name = f"{'folder/' * 12}{'k' * (60 if form == tarfile.USTAR_FORMAT else 250)}.txt"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as tar:
        for end in (name, "é.txt"):
            header = tarfile.TarInfo(end)
            header.size = 4
            tar.addfile(header, io.BytesIO(b"text"))
    data = (tmp_path / "x.tar").read_bytes()
    assert listed(data + data) == ([(name, 0), ("é.txt", 0), (name, 1), ("é.txt", 1)], "")


def test_kinds(tmp_path):
    files = []
    for name, kind in (("d", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE), ("s.png", tarfile.GNUTYPE_SPARSE)):
        header = tarfile.TarInfo(name)
        header.type = kind
        files.append((header, b""))
    with write_tar(tmp_path / "x.tar", [*files, ("f.txt", b"x")]).open("rb") as file:
        assert [member.kind for member in list_members(file).found] == [
            "folder",
            "link or a device",
            "sparse file",
            "file",
        ]
