"""Fetching on the real path: the hub's own client against a hub on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipedu.data.load import load_pairs
from clipedu.data.sources import fetching as fetch_module
from clipedu.data.sources.fetching import check_finished, fetch
from clipedu.data.sources.manifests import find_manifest
from clipedu.data.sources.verification import verify
from clipedu.utils.errors import ClipeduError
from tests.helpers.fetching import REPOSITORY, SHARDS, contents, serving, there, write_birds
from tests.helpers.hub_server import REVISION


def test_fetch_puts_all_shards_in_place_and_never_asks_again(root, home, birds, monkeypatch):
    with serving(root, monkeypatch) as seen:
        done = fetch(birds, progress=False)
        size = sum(map(len, there(root).values()))
        assert (done.folder, done.files, done.bytes, done.transferred) == (home / "birds", 4, size, size)
        assert contents(home / "birds") == there(root)
        assert sum("resolve" in request for request in seen) == 4
        asked = len(seen)
        again = fetch(birds, progress=False)
        assert (again.files, again.bytes, again.transferred) == (4, size, 0) and len(seen) == asked
    record = json.loads((home / "birds" / "fetched.json").read_text())
    assert (record["commit"], record["hub"], record["subset"]) == (REVISION, REPOSITORY, None)
    monkeypatch.undo()
    monkeypatch.setenv("CLIPEDU_DATA", str(home))
    pairs = load_pairs("birds", image_size=8)  # no hub any more
    assert len(pairs) == 12 and pairs.captions(4) == ["bird 10"]


def test_a_subset_then_the_rest(root, home, birds, monkeypatch):
    with serving(root, monkeypatch) as seen:
        small = fetch(birds, subset="4", progress=False)
        assert small.files == 2 and contents(home / "birds") == there(root, [SHARDS[1], SHARDS[3]])
        fetch(birds, subset="4", progress=False)
        assert verify(birds, progress=False).surprises == []  # the subset's count is expected, not the whole set's
        before = len(seen)
        whole = fetch(birds, progress=False)
        assert contents(home / "birds") == there(root)
        assert sorted(request.split("/")[-1] for request in seen[before:] if "resolve" in request) == [
            SHARDS[0],
            SHARDS[2],
        ]
        assert whole.transferred == sum(map(len, there(root, [SHARDS[0], SHARDS[2]]).values()))
        asked = len(seen)
        assert fetch(birds, subset="4", progress=False).transferred == 0 and len(seen) == asked
        assert verify(birds, progress=False).pairs == {"train": 12, "val": 2}
        (home / "birds" / SHARDS[1]).unlink()
        fetch(birds, subset="4", progress=False)  # mended by a smaller part, it is still the whole set
        assert verify(birds, progress=False).surprises == []
    with pytest.raises(ClipeduError, match="unknown subset of birds '5'.*Allowed: 4"):
        fetch(birds, subset="5")


def test_another_folder(root, home, birds, tmp_path, monkeypatch):
    with serving(root, monkeypatch):
        done = fetch(birds, folder=tmp_path / "elsewhere" / "mine", progress=False)
    assert done.folder == tmp_path / "elsewhere" / "mine" and contents(done.folder) == there(root) and not home.exists()


def test_terms_are_accepted_first(root, home, tmp_path, monkeypatch):
    strict = write_birds(tmp_path / "strict.toml", ask=True)
    with serving(root, monkeypatch) as seen:
        with pytest.raises(ClipeduError, match="birds has terms.*--yes"):
            fetch(strict, progress=False)
        assert seen == [] and not home.exists()
        assert fetch(strict, accept_terms=True, progress=False).files == 4
        fetch(strict, progress=False)  # it is here: nothing to accept


def test_a_real_manifest_against_its_own_repository(tmp_path, home, monkeypatch):
    """The names in coco-5k.toml, at the revision it pins."""
    from tests.helpers.shard_maker import photo, sample, write_tar

    manifest = find_manifest("coco-5k")
    repository = tmp_path / "hub" / "datasets" / manifest.hub
    for number, name in enumerate([*manifest.files, "train/0.tar"]):
        write_tar(
            repository / name, sample(f"s{number:07d}", photo(number), ["a dog\na brown dog\nit sleeps"], kind="jpg")
        )
    (repository / "test" / "nshards.txt").write_text("5")
    with serving(tmp_path / "hub", monkeypatch, commits=(manifest.revision,)) as seen:
        done = fetch("coco-5k", accept_terms=True, progress=False)
        assert done.folder == home / "coco-5k" and set(contents(done.folder)) == set(manifest.files)
        assert all(manifest.revision in request for request in seen if "resolve" in request or "tree" in request)
        pairs = load_pairs("coco-5k", "val", image_size=8)
        assert len(pairs) == 5 and pairs.captions(0) == ["a dog", "a brown dog", "it sleeps"]
        found = verify("coco-5k", progress=False)
        assert found.pairs == {"val": 5} and found.surprises == ["val: 5 usable pairs, 5000 were expected"]


def test_pins_are_compared_before_anything_is_fetched(root, home, tmp_path, monkeypatch):
    other = write_birds(tmp_path / "pinned.toml", sha256={SHARDS[2]: "ab" * 32})
    with serving(root, monkeypatch) as seen:
        with pytest.raises(ClipeduError, match="birds-train-02.tar on the hub is another file.*not abababababab"):
            fetch(other, progress=False)
        assert not any("resolve" in request for request in seen) and not home.exists()


def test_the_beginning_of_a_commit_and_a_branch(root, home, tmp_path, monkeypatch):
    commits = ("f" * 40, "652f8f3" + "0" * 33, REVISION)
    with serving(root, monkeypatch, commits=commits):
        short = write_birds(tmp_path / "short.toml", revision="652f8f3")
        fetch(short, folder=tmp_path / "a", progress=False)
        assert json.loads((tmp_path / "a" / "fetched.json").read_text())["commit"] == commits[1]
        fetch(write_birds(tmp_path / "main.toml", revision="main"), folder=tmp_path / "b", progress=False)
        assert json.loads((tmp_path / "b" / "fetched.json").read_text())["commit"] == commits[0]
        with pytest.raises(ClipeduError, match="no commit that begins with '7777777'"):
            fetch(write_birds(tmp_path / "gone.toml", revision="7777777"), folder=tmp_path / "c", progress=False)


def test_a_shard_that_went_missing_or_changed_is_fetched_again(root, home, birds, monkeypatch):
    with serving(root, monkeypatch) as seen:
        folder = fetch(birds, progress=False).folder
        (folder / SHARDS[0]).unlink()
        with pytest.raises(
            ClipeduError, match=f"lacks 1 of its files, e.g. {SHARDS[0]}.*same command again .clipedu data fetch"
        ):
            load_pairs("birds", image_size=8)
        damaged = bytearray((folder / SHARDS[1]).read_bytes())
        damaged[700] ^= 1
        (folder / SHARDS[1]).write_bytes(damaged)
        found = verify(birds, progress=False)
        assert found.damaged == {SHARDS[0]: "missing", SHARDS[1]: "other contents, its checksum differs"}
        before = len(seen)
        fetch(birds, progress=False)
        assert sorted(request.split("/")[-1] for request in seen[before:] if "resolve" in request) == [
            SHARDS[0],
            SHARDS[1],
        ]
        assert contents(folder) == there(root) and verify(birds, progress=False).damaged == {}


def test_another_source_of_the_same_name_is_another_set(root, home, birds, tmp_path, monkeypatch):
    with serving(root, monkeypatch, commits=("a" * 40, REVISION)) as seen:
        fetch(birds, progress=False)
        asked = len(seen)
        newer = write_birds(tmp_path / "newer.toml", revision="a" * 40)
        assert (
            fetch(newer, progress=False).transferred == 0 and len(seen) > asked
        )  # asked again; the same contents are kept
    assert json.loads((home / "birds" / "fetched.json").read_text())["commit"] == "a" * 40


def test_right_files_without_a_record_are_kept(root, home, birds, monkeypatch):
    """Shards copied from a friend's disk: hashed, and only what differs is fetched."""
    for name, body in there(root).items():
        (home / "birds").mkdir(parents=True, exist_ok=True)
        (home / "birds" / name).write_bytes(body if name != SHARDS[2] else body[:-1] + b"x")
    with serving(root, monkeypatch) as seen:
        assert fetch(birds, progress=False).transferred == len(there(root)[SHARDS[2]])
        assert [request.split("/")[-1] for request in seen if "resolve" in request] == [SHARDS[2]]
    assert contents(home / "birds") == there(root)


def test_shards_of_another_set_are_not_mixed_in(root, home, birds, monkeypatch):
    (home / "birds").mkdir(parents=True)
    (home / "birds" / "cats-train-00.tar").write_bytes(b"cats")
    with serving(root, monkeypatch), pytest.raises(ClipeduError, match="shards of another set, e.g. cats-train-00.tar"):
        fetch(birds, progress=False)
    assert contents(home / "birds") == {"cats-train-00.tar": b"cats"}


def test_too_little_space_is_reported_before(root, home, birds, monkeypatch):
    """The numbers that are compared: what is still to come, and what the disk has."""
    size = sum(map(len, there(root).values()))
    with serving(root, monkeypatch) as seen:
        monkeypatch.setattr("clipedu.utils.disk_space.free_bytes", lambda folder: size - 1)
        with pytest.raises(
            ClipeduError, match=r"needs .* kB more, and the disk of .* has .* free.*--subset 4.*CLIPEDU_DATA"
        ):
            fetch(birds, progress=False)
        assert not any("resolve" in request for request in seen)
        small = fetch(birds, subset="4", progress=False)
        left = size - small.bytes
        monkeypatch.setattr("clipedu.utils.disk_space.free_bytes", lambda folder: left)
        assert fetch(birds, progress=False).transferred == left


def test_one_process_at_a_time(root, home, birds, monkeypatch):
    refused = pytest.raises(ClipeduError, match="another process is fetching into")
    with serving(root, monkeypatch), fetch_module._locked(home / "birds"), refused:
        fetch(birds, progress=False)


def test_an_unfinished_set_is_not_used(root, home, birds, monkeypatch):
    folder = home / "birds"
    folder.mkdir(parents=True)
    check_finished(folder)
    (folder / ".partial").mkdir()
    with pytest.raises(ClipeduError, match="was not fetched to the end: give the same command again"):
        load_pairs("birds")
    with serving(root, monkeypatch):
        fetch(birds, progress=False)
    assert len(load_pairs("birds", image_size=8)) == 12 and not (folder / ".partial").exists()


def test_sets_without_a_source():
    with pytest.raises(ClipeduError, match="scenes is drawn"):
        fetch("scenes")
    with pytest.raises(ClipeduError, match="unknown data set 'coco'.*Did you mean 'coco-5k'"):
        fetch("coco")


def test_a_set_that_is_known_but_not_here_says_how_to_get_it(home):
    with pytest.raises(ClipeduError, match="coco-5k is not in .*: fetch it with: clipedu data fetch coco-5k"):
        load_pairs("coco-5k", "val")


def test_a_place_that_cannot_be_written(root, tmp_path, birds, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "home"))
    with serving(root, monkeypatch), pytest.raises(ClipeduError, match="cannot be (written|read)"):
        fetch(birds, progress=False)


def test_killed_while_files_get_their_names(root, home, birds, monkeypatch):
    """Everything is whole, some shards have their names, some don't: the set isn't used, and nothing is fetched again."""
    from clipedu.data.load import load_pairs

    class Killed(BaseException):
        pass

    real, calls = Path.replace, []

    def replace(self, target):
        if str(target).endswith(".tar"):
            calls.append(target)
            if len(calls) == 3:
                raise Killed
        return real(self, target)

    with serving(root, monkeypatch) as seen:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "replace", replace)
            fetch(birds, progress=False)
        assert len(list((home / "birds").glob("*.tar"))) == 2
        with pytest.raises(ClipeduError, match="lacks 4 of its files"):
            load_pairs("birds")
        before = len(seen)
        fetch(birds, progress=False)
        assert not any("/resolve/" in request for request in seen[before:])
    assert contents(home / "birds") == there(root) and len(load_pairs("birds", image_size=8)) == 12
