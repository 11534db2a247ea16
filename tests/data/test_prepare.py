"""The cache made on purpose: by any number of processes, stopped anywhere, proved against its shards."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from clipedu.data import prepare
from clipedu.data.prepare import prepare_cache, verify_cache
from clipedu.data.shards import images
from clipedu.data.shards import pixel_cache as cache
from clipedu.data.shards.dataset import Shards
from clipedu.utils.errors import ClipeduError
from tests.helpers.cached_shards import (
    one_line,
)
from tests.helpers.shard_maker import DAMAGE, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


# What comes out


def test_report(mixed, cache_home, monkeypatch):
    report = prepare_cache(mixed, image_size=24, progress=False)
    assert report.rows == 17 and report.folder.parent == cache_home and report.seconds > 0
    assert [(where, why.split(" (")[0]) for where, why in report.dropped] == [
        ("0.tar: k03", "no caption"),
        ("1.tar: k06", "image cannot be decoded"),
        ("3.tar: k19", "image cannot be decoded"),
    ]
    assert report.bytes == sum(path.stat().st_size for path in report.folder.iterdir()) > 17 * 3 * 24 * 24
    monkeypatch.setattr(images, "decode", None)  # nothing is decoded any more
    pairs = Shards(mixed, image_size=24)
    assert pairs.keys == [f"k{i:02d}" for i in range(20) if i not in (3, 6, 19)] and pairs.cache == report.folder
    expected = np.stack([photo(int(key[1:])).transpose(2, 0, 1) for key in pairs.keys])
    assert torch.equal(pairs.pixels(torch.arange(17)), torch.from_numpy(expected))
    assert torch.equal(pairs.pixels(torch.tensor([16, 4, 5])), torch.from_numpy(expected[[16, 4, 5]]))
    again = prepare_cache(mixed, image_size=24, progress=False)
    assert (again.rows, again.dropped, again.bytes) == (report.rows, report.dropped, report.bytes)


# Stopped and begun again


def test_what_cannot_be_asked_for(mixed):
    for options, words in (({"workers": 0}, "workers=0"), ({"split": "test"}, "'test'"), ({"image_size": 0}, "=0")):
        with pytest.raises(ClipeduError) as error:
            prepare_cache(mixed, **options)
        assert words in one_line(error)
    for ask in (prepare_cache, verify_cache):
        with pytest.raises(ClipeduError, match="scenes are drawn"):
            ask("scenes")


# Proved against the shards


def test_a_right_cache(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    for count, compared in ((None, 17), (5, 5), (1000, 17)):
        check = verify_cache(mixed, image_size=24, images=count, progress=False)
        assert (check.folder, check.rows, check.compared, check.problems) == (folder, 17, compared, ())


def test_all_wrong_pixels_are_found(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    data = bytearray((folder / "pixels.npy").read_bytes())
    for slot in (0, 17):
        data[cache.slot_offset(slot, 24) + 1000] ^= 1
    (folder / "pixels.npy").write_bytes(data)
    for workers in (1, 2):
        check = verify_cache(mixed, image_size=24, images=None, workers=workers, progress=False)
        assert check.problems == ("0.tar: k00: other pixels", "3.tar: k18: other pixels")


def test_another_pillow_is_named(mixed, monkeypatch):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    data = bytearray((folder / "pixels.npy").read_bytes())
    data[-3000] ^= 1
    (folder / "pixels.npy").write_bytes(data)
    monkeypatch.setattr(prepare.PIL, "__version__", "0.1")
    (problem,) = verify_cache(mixed, image_size=24, images=None, progress=False).problems
    assert "the cache is by Pillow" in problem and "this is 0.1" in problem


@pytest.mark.parametrize("part", ["keys", "captions", "labels", "skipped"])
def test_wrong_rows_are_found(mixed, part):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    wrong = {"keys": "other", "captions": ["other"], "labels": None, "skipped": [1, "0.tar: k03", "bad UTF-8"]}
    rows[part] = rows[part] or [1] * 17
    rows[part][1] = wrong[part]
    (folder / "rows.json").write_text(json.dumps(rows))
    (problem,) = verify_cache(mixed, image_size=24, progress=False).problems
    assert problem.startswith(part) and ("number 1" in problem or part == "labels")


def test_a_hole_that_is_none(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    rows["holes"] = [5, 17]
    (folder / "rows.json").write_text(json.dumps(rows))
    assert any("holes" in problem for problem in verify_cache(mixed, image_size=24, progress=False).problems)


def test_another_number_of_images(mixed):
    folder = prepare_cache(mixed, image_size=24, progress=False).folder
    rows = json.loads((folder / "rows.json").read_text())
    rows["keys"].pop()
    rows["holes"] = [5, 17]
    (folder / "rows.json").write_text(json.dumps(rows))
    with cache.Draft(folder.with_name("other"), 24) as draft:
        draft.finish(18, {"keys": [], "holes": []})
    (folder / "pixels.npy").write_bytes((folder.with_name("other") / "pixels.npy").read_bytes())
    assert verify_cache(mixed, image_size=24, progress=False).problems == ("the shards have 19 images, the cache 18",)


def test_no_cache_to_verify(mixed):
    prepare_cache(mixed, image_size=24, progress=False)
    write_tar(mixed / "3.tar", sample("other", photo(0), ["a text"]))
    for size in (24, 8):
        with pytest.raises(ClipeduError) as error:
            verify_cache(mixed, image_size=size, progress=False)
        assert f"at {size} px" in one_line(error) and "clipedu data cache" in one_line(error)


def test_a_set_of_every_damage_is_prepared_and_proved(tmp_path):
    files = sample("first", photo(0), ["zero"])
    for number, what in enumerate(DAMAGE):
        files += DAMAGE[what](f"bad{number}")
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=24, workers=2, progress=False)
    assert report.rows == 2 and len(report.dropped) == len(DAMAGE)  # of the duplicate key, the first is good
    assert not verify_cache(tmp_path / "toy", image_size=24, images=None, progress=False).problems
