"""Fixtures of the tests of data: a cache of their own, and a small set with damage in it."""

import pytest

from tests.helpers.shard_maker import encode, photo, sample, write_tar


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """The cache folder of this test alone; it does not exist yet."""
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mixed(tmp_path):
    """20 samples in 4 shards: some good, one without a caption, two whose images cannot be decoded."""
    cut = encode(photo(0))[:200]
    for shard in range(4):
        files = []
        for i in range(5 * shard, 5 * shard + 5):
            files += sample(f"k{i:02d}", cut if i in (6, 19) else photo(i), None if i == 3 else [f"picture {i}"])
        write_tar(tmp_path / "mixed" / f"{shard}.tar", files)
    return tmp_path / "mixed"
