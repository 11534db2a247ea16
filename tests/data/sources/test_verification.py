"""Verification: every byte against its checksum, every pair counted."""

from __future__ import annotations

import json

import pytest

from clipedu.data.load import load_pairs
from clipedu.data.sources.fetching import fetch
from clipedu.data.sources.shard_writer import write_manifest
from clipedu.data.sources.verification import verify
from clipedu.utils.errors import ClipeduError
from tests.helpers.fetching import SHARDS, contents, serving, there
from tests.helpers.shard_maker import DAMAGE, encode, make_shards, photo, sample, write_tar


def test_a_damaged_shard_is_found_by_verify_alone(root, home, birds, monkeypatch):
    """Size and date say nothing: only the checksum does, and then the set is not used until it is mended."""
    with serving(root, monkeypatch) as seen:
        folder = fetch(birds, progress=False).folder
        damaged = bytearray((folder / SHARDS[2]).read_bytes())
        damaged[-1] ^= 128
        (folder / SHARDS[2]).write_bytes(damaged)
        before = len(seen)
        fetch(birds, progress=False)
        assert len(seen) == before
        assert len(verify(birds, progress=False).damaged) == 1
        with pytest.raises(ClipeduError, match=f"lacks 1 of its files, e.g. {SHARDS[2]}"):
            load_pairs("birds", image_size=8)
        assert fetch(birds, progress=False).transferred == len(damaged)
        assert contents(folder) == there(root) and len(load_pairs("birds", image_size=8)) == 12
        (folder / SHARDS[2]).write_bytes(damaged)
        verify(birds, progress=False)
        (folder / SHARDS[2]).write_bytes(there(root)[SHARDS[2]])  # mended by hand
        assert verify(birds, progress=False).damaged == {} and len(load_pairs("birds", image_size=8)) == 12


def test_a_folder_of_ones_own(tmp_path):
    folder = make_shards(tmp_path / "birds", 9)
    make_shards(folder, 3, name="birds", split="val", captions=2)
    write_tar(folder / "birds-train-009.tar", DAMAGE["no caption"]("x") + sample("y", photo(3), ["fine"]))
    write_manifest(folder)
    found = verify(folder, progress=False)
    assert (found.damaged, found.surprises, found.pairs) == ({}, [], {"train": 10, "val": 3})
    assert found.skipped == {"no caption": 1} and found.files == 5
    assert found.bytes == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert json.loads((folder / "verified.json").read_text())["pairs"] == {"train": 10, "val": 3}

    content = bytearray((folder / "birds-train-001.tar").read_bytes())
    content[600] ^= 4
    (folder / "birds-train-001.tar").write_bytes(content)
    (folder / "birds-train-000.tar").write_bytes((folder / "birds-train-000.tar").read_bytes()[:5000])
    (folder / "birds-val-000.tar").unlink()
    write_tar(folder / "birds-train-010.tar", sample("z", photo(5), ["new"]))
    found = verify(folder, progress=False)
    shards = ["birds-train-000.tar", "birds-train-001.tar", "birds-val-000.tar"]
    assert list(found.damaged) == shards and found.damaged[shards[2]] == "missing"
    assert "5000 bytes, not" in found.damaged[shards[0]] and "checksum" in found.damaged[shards[1]]
    assert json.loads((folder / "verified.json").read_text())["damaged"] == found.damaged
    assert any("no shards of split 'val'" in line for line in found.surprises)
    assert "birds-train-010.tar: not in the manifest" in found.surprises
    assert any(line.startswith("train: ") and "10 were expected" in line for line in found.surprises)


def test_every_picture_is_decoded(tmp_path):
    """88 of 359 damaged samples passed for usable: counts and names are of what decodes."""
    boxed = photo(1, 64, 64).copy()
    boxed[:, :9] = boxed[:, -9:] = 255
    pictures = [photo(i) for i in range(3)] + [encode(photo(4))[:150], b"GIF89a", boxed, photo(0) * 0]
    files = [file for i, picture in enumerate(pictures) for file in sample(f"k{i}", picture, ["a text"])]
    folder = write_tar(tmp_path / "birds" / "birds-train-0.tar", files).parent
    write_manifest(folder)
    found = verify(folder, progress=False)
    assert (found.pairs, found.decoded, found.fields) == ({"train": 5}, 5, {"train": {"image": 5, "captions": 5}})
    assert found.skipped == {"image cannot be decoded": 1, "image is not a JPEG, PNG or WebP": 1}
    assert found.surprises == [
        "train: 2 of 7 pictures do not decode, e.g. birds-train-0.tar: k3; birds-train-0.tar: k4"
    ]  # and no word on the count, which is that of the manifest
    assert (found.letterboxes, found.plain) == ({"train": 1}, {"train": 1})
    boxes, plain = found.remarks
    assert boxes.startswith("train: 1 of 5 pictures have letterboxes") and boxes.endswith("e.g. birds-train-0.tar: k5")
    assert plain == "train: 1 of 5 pictures show one plain colour and nothing else, e.g. birds-train-0.tar: k6"
    assert json.loads((folder / "verified.json").read_text())["letterboxes"] == {"train": 1}

    quick = verify(folder, decode=False, progress=False)
    assert (quick.pairs, quick.decoded, quick.skipped, quick.remarks) == ({"train": 7}, None, {}, [])
    with pytest.raises(ClipeduError, match="workers=0"):
        verify(folder, workers=0, progress=False)


def test_what_peers_cannot_read_and_what_is_not_read(tmp_path):
    files = (
        sample("v1.0", photo(0), ["a text"])
        + sample("b", photo(1), ["b text"])
        + [("b.mask.png", b"x"), ("c.npy", b"x")]
    )
    folder = write_tar(tmp_path / "birds" / "birds-train-0.tar", files).parent
    write_manifest(folder)
    (folder / "birds-train-1.tar.gz").write_bytes(b"x")
    found = verify(folder, progress=False)
    assert found.pairs == {"train": 2} and found.left_out == ["1: no image, e.g. birds-train-0.tar: c (not read: .npy)"]
    assert found.remarks[0].startswith(
        "train: 1 of 2 samples with a dot in the key, e.g. birds-train-0.tar: v1.0: webdataset"
    )
    assert found.remarks[-1] == "1 other files of usable pairs are not read: 1 .mask.png"
    assert found.surprises == ["birds-train-1.tar.gz: not used, it is compressed: unpack it to a .tar"]
