"""Peers: what is said of them is what they do."""

from __future__ import annotations

import pytest

from clipedu.data.shards.peers import peer_troubles, samples_of
from clipedu.data.shards.tar_members import list_members
from tests.helpers.shard_maker import encode, photo, sample, write_tar


def pair(key, seed=0, kind="png"):
    return sample(key, photo(seed), [f"text {key}"], kind=kind)


def alternating(*keys):
    """First all images, then all texts."""
    return [pair(key)[part] for part in (0, 1) for key in keys]


SHARDS = {
    "plain": [[*pair("a"), *pair("b"), *pair("c")]],
    "apart": [alternating("a", "b")],
    "dots": [[*pair("v1.0"), *pair("v1.1"), *pair("a")]],
    "repeated": [[*pair("a"), *pair("a"), *pair("b")]],
    "later": [[*pair("a"), *pair("b"), *pair("a", 1)]],
    "two": [[*pair("a"), *pair("b")], [*pair("a", 1), *pair("c")]],
    "texts behind": [[pair("a")[0], pair("b")[0]], [pair("a")[1], pair("b")[1]]],
    "mixed": [[*pair("a"), *pair("b", kind="jpg")]],
    "mixed later": [[*(f for key in "abcde" for f in pair(key)), *pair("f", kind="jpg")]],
    "capitals": [[("K.PNG", encode(photo(0))), ("K.TXT", b"text")]],
    "hidden": [[("d/._a.png", b"x"), pair("d/a")[0], ("d/._a.txt", b"x"), pair("d/a")[1]]],
    "strays": [[("README.md", b"x"), ("LICENSE", b"x"), ("__meta__", b"x"), *pair("a")]],
}


@pytest.fixture
def shard(tmp_path, request):
    parts = [write_tar(tmp_path / f"{n}.part", files).read_bytes() for n, files in enumerate(SHARDS[request.param])]
    path = tmp_path / "0.tar"
    path.write_bytes(b"".join(parts))
    return path


def members(path):
    with path.open("rb") as file:
        return list_members(file).found


@pytest.mark.parametrize("shard", SHARDS, indirect=True)
def test_webdataset_reads_a_shard_as_we_say(shard):
    wds = pytest.importorskip("webdataset")
    read = []
    try:
        for found in wds.WebDataset(str(shard), shardshuffle=False):
            read.append((found["__key__"], [field for field in found if not field.startswith("__")]))
    except ValueError as error:
        assert "duplicate file name" in str(error)
    assert list(samples_of("webdataset", members(shard))) == read


BOTH = "webdataset and datasets"
EXPECTED = {  # as datasets 5.2.0 reads them too
    "plain": [],
    "apart": [
        f"2 of 2 samples whose files are not side by side in the tar, e.g. 0.tar: a: {BOTH} would read each part as a sample "
        "of its own",
        "the first samples of 0.tar have other files, .png and .txt: datasets refuses the set",
    ],
    "dots": [
        f"2 of 3 samples with a dot in the key, e.g. 0.tar: v1.0: {BOTH} would take the key only to the first dot",
        "the first samples of 0.tar have other files, .0.png .0.txt .1.png .1.txt and .png .txt: datasets refuses the set",
    ],
    "repeated": [
        f"2 of 2 samples in a tar that repeats a file of a sample, e.g. 0.tar: a: {BOTH} would end there with an error"
    ],
    "later": [],
    "two": [
        "2 of 4 samples behind the first end mark of their tar, as if two were written after one another, e.g. 0.tar: a: "
        f"{BOTH} would stop there"
    ],
    "texts behind": [
        "2 of 2 samples behind the first end mark of their tar, as if two were written after one another, e.g. 0.tar: a: "
        f"{BOTH} would stop there"
    ],
    "mixed": ["the first samples of 0.tar have other files, .png .txt and .jpg .txt: datasets refuses the set"],
    "mixed later": [
        "1 of 6 samples with files that the first sample has not, e.g. 0.tar: f: datasets would read them without these"
    ],
    "capitals": [],
    "hidden": [
        "1 of 1 samples whose files are not side by side in the tar, e.g. 0.tar: d/a: webdataset would read each part as a "
        "sample of its own"
    ],
    "strays": ["the first samples of 0.tar have other files, .md and .png .txt: datasets refuses the set"],
}


@pytest.mark.parametrize("shard, name", [(name, name) for name in SHARDS], indirect=["shard"])
def test_what_is_said(shard, name):
    assert peer_troubles({"0.tar": shard}) == EXPECTED[name]


def test_counts_are_of_all_shards(tmp_path):
    shards = {f"{n}.tar": write_tar(tmp_path / f"{n}.tar", alternating(f"a{n}", f"b{n}")) for n in range(3)}
    shards["gone.tar"] = tmp_path / "gone.tar"
    assert peer_troubles(shards)[0].startswith(
        "6 of 6 samples whose files are not side by side in the tar, e.g. 0.tar: a0:"
    )
