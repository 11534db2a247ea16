"""Groups: which files of a tar are one sample, and what is a sample of its own."""

from __future__ import annotations

import pytest

from clipedu.data.shards.groups import group_members, is_hidden, split_name
from clipedu.data.shards.tar_members import Member

ordinary = ["a.jpg", "a.txt", "b.txt", "b.json", "b.PNG"]


def grouped(*archives):
    """Groups of names: key -> extensions, others, trouble, in order; each archive a list of names."""
    members = [Member(name, "file", 0, 1, number) for number, names in enumerate(archives) for name in names]
    return [(g.key, sorted(g.files), g.others, g.trouble) for g in group_members(members, 10)]


def keys(*archives):
    return [(key, files) for key, files, _, _ in grouped(*archives)]


@pytest.mark.parametrize(
    "name, key, extension",
    [
        ("a.jpg", "a", "jpg"),
        ("x.y/a.b.c", "x.y/a", "b.c"),
        ("a", "a", ""),
        ("x/a", "x/a", ""),
    ],
)
def test_names(name, key, extension):
    assert split_name(name) == (key, extension)


def test_hidden():
    assert [name for name in ("._a.jpg", "x/.DS_Store", ".x/a.jpg", "a.jpg") if is_hidden(name)] == [
        "._a.jpg",
        "x/.DS_Store",
    ]


def test_ordinary_keys():
    assert keys(ordinary) == [("a", ["jpg", "txt"]), ("b", ["json", "png", "txt"])]


@pytest.mark.parametrize("text", ["txt", "cls"])
def test_a_dotted_pair_is_a_sample_of_its_own(text):
    names = [f"v1.{n}.{end}" for n in (0, 1) for end in ("jpg", text)]
    assert keys(names) == [("v1.0", sorted(["jpg", text])), ("v1.1", sorted(["jpg", text]))]
    plain = ["v1.jpg", f"v1.{text}"]
    assert keys(plain + names) == [("v1", sorted(["jpg", text])), *keys(names)]
    assert keys([f"v1.{n}.{end}" for end in ("jpg", text) for n in (0, 1)]) == keys(names)  # not side by side


def test_a_dotted_pair_with_json():
    assert keys(["p.q.jpg", "p.q.json"]) == [("p.q", ["jpg", "json"])]


def test_other_fields_belong_to_their_sample():
    names = ["k.jpg", "k.mask.png", "k.txt", "k.mask.json", "k.npy", "k.txt.gz"]
    assert grouped(names) == [("k", ["jpg", "txt"], ["npy", "mask.png", "mask.json", "txt.gz"], "")]
    assert grouped(["k.mask.png", *names[:1], *names[2:3]]) == [("k", ["jpg", "txt"], ["mask.png"], "")]


def test_what_no_sample_owns_is_a_group_of_its_own():
    assert grouped(["k.image.jpg", "k.caption.txt", "README.md", "LICENSE"]) == [
        ("k.image", ["jpg"], [], ""),
        ("k.caption", ["txt"], [], ""),
        ("README", [], ["md"], ""),
        ("LICENSE", [], [""], ""),
    ]


def test_files_that_are_not_side_by_side_are_joined():
    assert keys(["a.jpg", "b.jpg", "a.txt", "b.txt", "a.json"]) == [
        ("a", ["jpg", "json", "txt"]),
        ("b", ["jpg", "txt"]),
    ]


@pytest.mark.parametrize("again", [["a.jpg", "a.txt"], ["a.png", "a.json"], ["a.txt"]])
def test_a_second_sample_of_a_key_is_a_duplicate(again):
    """Also if its files are of other kinds: its texts are not those of the first image."""
    groups = grouped(["a.jpg", "a.txt", "b.jpg", "b.txt", *again])
    assert groups == [
        ("a", ["jpg", "txt"], [], ""),
        ("b", ["jpg", "txt"], [], ""),
        ("a", [], [], "duplicate key, only the first sample is kept"),
    ]


def test_tars_after_one_another():
    pair = ["a.jpg", "a.txt"]
    assert keys(pair, pair) == [("a", ["jpg", "txt"])] * 2  # as in two shards
    assert keys(["a.jpg", "b.jpg"], ["a.txt", "b.txt"]) == [("a", ["jpg", "txt"]), ("b", ["jpg", "txt"])]
    assert keys(["a.jpg"], ["a.jpg"], ["a.txt"], ["a.txt"]) == [("a", ["jpg", "txt"])] * 2


def test_trouble():
    names = ["../a.jpg", "/b.jpg", "c.jpg", "d.jpg", "e.txt"]
    kinds = ["file", "file", "link or a device", "sparse file", "file"]
    members = [Member(name, kind, 0, 1, 0) for name, kind in zip(names, kinds, strict=True)]
    members += [
        Member("f.txt", "file", 9, 5, 0),
        Member("folder.jpg", "folder", 0, 0, 0),
        Member("k.foo", kinds[2], 0, 0, 0),
    ]
    assert [(group.key, group.trouble) for group in group_members(members, 10)] == [
        ("../a", "unsafe path"),
        ("/b", "unsafe path"),
        ("c", "a link or a device, not a file"),
        ("d", "a sparse file, which is not read"),
        ("e", ""),
        ("f", ".txt is cut short, the shard ends too early"),
        ("k", ""),
    ]
