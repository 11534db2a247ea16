"""Manifests: those that come with clipedu say what they must, and a wrong one is told in one line."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from clipedu.data.sources.manifests import data_home, find_manifest, manifest_names, read_manifest
from clipedu.utils.errors import ClipeduError

NAMES = ["cc3m-100k", "coco-5k", "flickr30k-test", "flickr8k", "imagenet-val", "scenes"]


def test_the_sets_that_come_with_clipedu():
    assert manifest_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_a_person_must_know(name):
    manifest = find_manifest(name)
    assert manifest.name == name and manifest.about and manifest.why and manifest.licence and manifest.fields
    if name == "scenes":
        assert not manifest.hub and not manifest.ask and not manifest.files
        return
    assert manifest.ask and manifest.terms and manifest.url.startswith("https://")
    assert re.fullmatch("[0-9a-f]{40}|[0-9a-f]{7}|main", manifest.revision) and manifest.hub.count("/") == 1
    pinned = re.fullmatch("[0-9a-f]{40}", manifest.revision)
    assert pinned or any("revision" in fact for fact in manifest.unconfirmed)
    assert manifest.gigabytes > 0 and len(set(manifest.files)) == len(manifest.files) > 0
    assert all(split.pairs > 0 for split in manifest.splits.values())
    assert set(manifest.sha256) <= set(manifest.files)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_file_names_say_their_split(name, tmp_path):
    """`Shards` tells splits by names, so each split's files must be found as that split, and only as that."""
    from clipedu.data.shards.samples import shard_names

    manifest = find_manifest(name)
    for file in manifest.files:
        (tmp_path / file.replace("*", "00")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.replace("*", "00")).write_bytes(b"")
    for split, part in manifest.splits.items():
        assert set(shard_names(tmp_path, split)[0]) == {file.replace("*", "00") for file in part.files}
    assert shard_names(tmp_path, next(iter(manifest.splits)))[1] == []


def test_cc3m_is_twenty_shards_evenly_spread():
    manifest = find_manifest("cc3m-100k")
    train = manifest.splits["train"]
    numbers = [int(re.fullmatch(r"cc3m-train-(\d{4})\.tar", file)[1]) for file in train.files]
    assert (
        len(numbers) == 20 and {b - a for a, b in zip(numbers, numbers[1:], strict=False)} == {29} and numbers[-1] < 576
    )
    mean = Fraction(2_905_954, 576)  # pairs a shard, of the whole copy
    assert train.expects(round(20 * mean)) and abs(train.pairs - 20 * mean) < 100
    for name, count in (("10k", 2), ("50k", 10)):
        part = manifest.subset(name).splits["train"]
        assert len(part.files) == count and set(part.files) < set(train.files) and part.expects(round(count * mean))
        assert part.pairs >= int(name[:-1]) * 1000 and manifest.subset(name).splits["val"] == manifest.splits["val"]
    assert manifest.sha256["cc3m-train-0029.tar"].startswith("7c4203a1") and manifest.subset(None) is manifest


def test_tolerance_is_a_share():
    part = find_manifest("cc3m-100k").splits["train"]  # 100,900, 2 %
    assert part.expects(98_882) and part.expects(102_918) and not part.expects(98_881) and not part.expects(102_919)
    exact = find_manifest("coco-5k").splits["val"]
    assert exact.expects(5000) and not exact.expects(4999) and not exact.expects(5001)


def test_where_sets_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_home() == tmp_path / "sets"
    monkeypatch.delenv("CLIPEDU_DATA")
    assert data_home() == tmp_path / ".cache" / "clipedu" / "data"


GOOD = 'name = "x"\n[source]\nhub = "a/b"\n[splits.train]\nfiles = ["x-train-0.tar"]\n'
WRONG = {
    "'name' is missing": "about = 'x'",
    "is not a TOML file": "name = ",
    "'../x' is no name of a folder": GOOD.replace('"x"', '"../x"'),
    "'a/b' is no name of a folder": GOOD.replace('"x"', '"a/b"'),
    "'../out.tar' is no name of a file": GOOD.replace("x-train-0.tar", "../out.tar"),
    "'/etc/x.tar' is no name of a file": GOOD.replace("x-train-0.tar", "/etc/x.tar"),
    "'a/../../x.tar' is no name of a file": GOOD.replace("x-train-0.tar", "a/../../x.tar"),
    "'.partial/lock' is no name of a file": GOOD.replace("x-train-0.tar", ".partial/lock"),
    "unknown split 'tests'. Allowed: train, val, zeroshot": GOOD.replace("splits.train", "splits.tests"),
    "'files' is missing": GOOD.replace("files", "file"),
    "unknown entry 'sorce'": GOOD.replace("[source]", "[sorce]"),
    "the sha256 of x-train-0.tar has not 64": GOOD + '[sha256]\n"x-train-0.tar" = "abc"\n',
    "is no manifest": GOOD.replace('["x-train-0.tar"]', "[3]"),
    "is no manifest: ": "name = 3",
}


@pytest.mark.parametrize("told", WRONG)
def test_wrong_manifests(tmp_path, told):
    (tmp_path / "good.toml").write_text(GOOD)
    assert read_manifest(tmp_path / "good.toml").files == ("x-train-0.tar",)
    (tmp_path / "wrong.toml").write_text(WRONG[told])
    with pytest.raises(ClipeduError) as error:
        find_manifest(tmp_path / "wrong.toml")
    assert told in str(error.value) and "wrong.toml" in str(error.value) and "\n" not in str(error.value)


def test_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path))
    with pytest.raises(ClipeduError, match="nowhere.toml cannot be read: No such file"):
        find_manifest("nowhere.toml")
    with pytest.raises(ClipeduError, match="unknown data set 'cc3m'.*Did you mean 'cc3m-100k'.*a folder of yours"):
        find_manifest("cc3m")
    with pytest.raises(ClipeduError, match="write one with: clipedu data manifest"):
        find_manifest(tmp_path)
