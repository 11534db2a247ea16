"""`clipedu data ...` as a person types it, against a hub on loopback."""

from __future__ import annotations

import argparse
import io
import subprocess

import pytest

from clipedu.cli.data import add_data
from clipedu.utils.errors import ClipeduError
from tests.helpers.fetching import SHARDS, command, contents, serving, write_birds
from tests.helpers.hub_server import serve_hub
from tests.helpers.shard_maker import encode, photo, sample, write_tar


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    add_data(parser.add_subparsers())
    given = parser.parse_args(["data", *map(str, words)])
    given.command(given)


@pytest.fixture
def birds(tmp_path):
    return write_birds(tmp_path / "birds.toml", ask=True)


def test_fetch_verify_cache(root, home, birds, monkeypatch, capsys, caplog):
    caplog.set_level("INFO", "clipedu")
    with serving(root, monkeypatch):
        run("fetch", birds, "--yes")
    shown = capsys.readouterr().out
    assert "be kind to birds" in shown and "4 files" in shown and str(home / "birds") in shown
    size = sum(map(len, contents(home / "birds").values()))
    assert f"4 files, {size / 1000:.1f} kB; {size / 1000:.1f} kB to fetch into {home / 'birds'}" in caplog.text
    assert f"clipedu data verify {birds}, then clipedu train --data birds" in shown
    run("fetch", birds)  # there is no hub any more, and nothing to accept
    assert "is here already" in capsys.readouterr().out
    run("verify", birds)
    shown = capsys.readouterr().out
    assert "0 damaged" in shown and "12 usable pairs (12 with captions)" in shown and "2 usable pairs" in shown
    for split in ("train", "val"):
        run("cache", "birds", "--image-size", 16, "--split", split)
    shown = capsys.readouterr().out
    assert "12 images of 16 px" in shown and "clipedu train --data birds --image-size 16" in shown
    run("verify", birds, "--image-size", 16)
    assert "cache of 12 images, 12 decoded again, 0 problems" in capsys.readouterr().out


def test_verify_looks_at_the_caches_that_there_are(root, home, birds, monkeypatch, capsys):
    with serving(root, monkeypatch):
        run("fetch", birds, "--yes")
    with pytest.raises(ClipeduError, match="clipedu data cache"):  # none yet: how to make one
        run("verify", birds, "--image-size", 20)
    run("cache", "birds", "--image-size", 20, "--split", "val")
    capsys.readouterr()
    run("verify", birds, "--image-size", 20)
    shown = capsys.readouterr().out
    assert "cache of 2 images" in shown and "cache of 12 images" not in shown


def test_verify_tells_damage_and_fails(root, home, birds, monkeypatch, capsys):
    with serving(root, monkeypatch):
        run("fetch", birds, "--yes")
    (home / "birds" / SHARDS[0]).write_bytes(b"oops")
    with pytest.raises(ClipeduError, match="1 files of .* damaged or missing: get them again: clipedu data fetch"):
        run("verify", birds)
    assert f"{SHARDS[0]}: 4 bytes, not" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, fetched", [("yes\n", True), ("Y\n", True), ("no\n", False), ("", False), ("\n", False)]
)
def test_terms_are_asked_for(root, home, birds, monkeypatch, answer, fetched):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with serving(root, monkeypatch) as seen:
        if fetched:
            run("fetch", birds)
        else:
            with pytest.raises(ClipeduError, match="were not accepted: nothing was fetched"):
                run("fetch", birds)
            assert seen == []
    assert (home / "birds").exists() == fetched


def test_without_a_person_terms_need_a_word(root, home, birds, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    with serving(root, monkeypatch) as seen:
        with pytest.raises(ClipeduError, match="accept them with --yes"):
            run("fetch", birds)
        assert seen == []
    assert "be kind to birds" in capsys.readouterr().out


def test_list_and_show(root, home, tmp_path, monkeypatch, capsys):
    run("list")
    lines = capsys.readouterr().out.splitlines()
    assert str(home) in lines[0]
    states = {words[0]: words for line in lines[3:] if (words := line.split())}
    assert set(states) == {"cc3m-100k", "coco-5k", "flickr30k-test", "flickr8k", "imagenet-val", "scenes"}
    assert states["scenes"][2] == "drawn" and states["coco-5k"][3] == "no" and states["cc3m-100k"][1:3] == ["9.8", "GB"]
    run("show", "cc3m-100k")
    shown = " ".join(capsys.readouterr().out.split())
    for told in (
        "Every 29th shard",
        "46f3d69f840e59d77d52e8decfe5baec97e94c7f",
        "100,900 pairs (+- 2%)",
        "cc3m-train-0551.tar",
    ):
        assert told in shown
    for told in (
        "--subset 10k: about 1.1 GB",
        "belong to their owners",
        "not sure whether the order",
        "free for any purpose",
    ):
        assert told in shown
    run("show", "imagenet-val")
    assert "gated: accept its terms on its page and log in" in " ".join(capsys.readouterr().out.split())
    run("show", "scenes")
    assert "needs no download" in capsys.readouterr().out


def test_list_says_what_is_here(tmp_path, home, monkeypatch, capsys):
    (home / "cc3m-100k" / ".partial").mkdir(parents=True)
    run("list")
    assert "cc3m-100k          9.8 GB  begun" in capsys.readouterr().out
    from clipedu.data.sources.manifests import find_manifest
    from tests.helpers.shard_maker import sample, write_tar

    manifest = find_manifest("cc3m-100k")
    part = manifest.subset("10k")
    for number, name in enumerate(manifest.files):
        write_tar(
            tmp_path / "hub" / "datasets" / manifest.hub / name, sample(f"{number:09d}", photo(number), ["a text"])
        )
    with serving(tmp_path / "hub", monkeypatch, commits=(manifest.revision,)):
        run("fetch", "cc3m-100k", "--subset", "10k", "--yes")  # the pinned shard is not in this part
        assert sorted(contents(home / "cc3m-100k")) == sorted(part.files)
        capsys.readouterr()
        run("list")
        assert "cc3m-100k          9.8 GB  10k    100,000" in capsys.readouterr().out
        with pytest.raises(ClipeduError, match="cc3m-train-0029.tar on the hub is another file than the manifest"):
            run("fetch", "cc3m-100k", "--yes")


def test_own_images(home, tmp_path, capsys):
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "a.png").write_bytes(encode(photo(1)))
    (tmp_path / "t.csv").write_text("image,caption\na.png,a cat\n" + "gone.png,x\n" * 12)
    run("manifest", folder, "--captions", tmp_path / "t.csv")
    shown = capsys.readouterr().out
    assert "1 images with 1 captions" in shown and "row 3: gone.png: no such file" in shown
    assert (
        "left out  12 rows, all in" in shown and "12 no such file, e.g. row 3" in shown and shown.count("gone.png") == 3
    )
    assert "captions  read: image from 'image', captions from 'caption'" in shown
    assert shown.endswith("Next: clipedu train --data pets\n")
    run("verify", "pets")
    assert "1 usable pairs" in capsys.readouterr().out
    run("manifest", home / "pets")
    assert "manifest.toml" in capsys.readouterr().out
    with pytest.raises(ClipeduError, match="--folder goes with --captions"):
        run("manifest", home / "pets", "--folder", tmp_path)


def test_a_process_of_its_own(root, home, birds):
    """As from a shell: the client reads HF_ENDPOINT by itself, and says one line when it is refused."""
    with serve_hub(root) as (endpoint, _):
        words, environment = command(endpoint, home, "fetch", str(birds))
        refused = subprocess.run(
            words, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        assert refused.returncode == 1 and "Traceback" not in refused.stderr
        assert refused.stderr.splitlines()[-1] == "clipedu: birds has terms, shown above: accept them with --yes"
        done = subprocess.run([*words, "--yes"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(contents(home / "birds")) == sorted(SHARDS) and "is here, checked: 4 files" in done.stdout


def test_what_verify_and_cache_say_of_pictures_and_groups(tmp_path, home, capsys):
    files = [file for i in range(12) for file in sample(f"k{i:02d}", photo(i) if i else b"GIF89a", ["a text"])]
    files += [("x.caption", b"x"), ("v1.0.png", encode(photo(20))), ("v1.0.txt", b"a text")]
    folder = write_tar(tmp_path / "toy" / "toy-train-0.tar", files).parent
    (folder / "toy-train-1.tar.gz").write_bytes(b"x")
    run("manifest", folder)
    assert f"Next: clipedu data verify {folder}, which decodes" in capsys.readouterr().out
    run("verify", folder, "--workers", 1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "12 usable pairs" in shown and "1: image is not a JPEG, PNG or WebP, e.g. toy-train-0.tar: k00" in shown
    assert "1: no image, e.g. toy-train-0.tar: x (not read: .caption)" in shown
    assert "train: 1 of 13 pictures do not decode" in shown and "1 of 13 samples with a dot in the key" in shown
    run("verify", folder, "--no-decode")
    shown = " ".join(capsys.readouterr().out.split())
    assert "13 usable pairs" in shown and "pictures were not decoded" in shown
    run("cache", folder, "--image-size", 8)
    shown = " ".join(capsys.readouterr().out.split())
    assert "12 images of 8 px" in shown and "1: no image, e.g. toy-train-0.tar: x" in shown
    assert "toy-train-1.tar.gz: not used, it is compressed" in shown
