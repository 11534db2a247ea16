"""Every picture is decoded once: which fail, which are odd."""

from __future__ import annotations

import pytest
from PIL import Image

from clipedu.data.shards.tar_reader import read_shard
from clipedu.data.sources.picture_check import check_pictures
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import encode, photo, sample, write_tar


@pytest.fixture
def samples(tmp_path):
    boxed = photo(3, 64, 64).copy()
    boxed[:10] = boxed[-10:] = 255
    pictures = [photo(0), b"no picture", boxed, Image.new("RGB", (1, 1)), encode(photo(4, 90, 90))[:500], photo(5)]
    files = [file for key, picture in enumerate(pictures) for file in sample(str(key), picture, ["a text"])]
    return list(read_shard(write_tar(tmp_path / "0.tar", files), "0.tar"))


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_what_is_found(samples, workers, monkeypatch):
    monkeypatch.setattr("clipedu.data.shards.decoding.PART", 2)
    found = check_pictures(samples, "train", workers, progress=False)
    assert list(found.failed) == [1, 4] and found.failed[1] == "image is not a JPEG, PNG or WebP"
    assert (found.letterboxes, found.plain) == ([2], [3])


def test_no_workers(samples):
    with pytest.raises(ClipeduError, match="workers=0"):
        check_pictures(samples, "train", 0, progress=False)
