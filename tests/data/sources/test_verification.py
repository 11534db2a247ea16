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
from tests.helpers.shard_maker import DAMAGE, make_shards, photo, sample, write_tar


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
