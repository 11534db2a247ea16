"""Sizes for people, and disks with too little space."""

from collections import namedtuple

import pytest

from clipedu.utils import disk_space
from clipedu.utils.disk_space import check_free_space, free_bytes, size_text
from clipedu.utils.errors import ClipeduError


@pytest.fixture
def asked(monkeypatch):
    """A disk with 1,000 bytes free; which folders were asked about."""
    usage, folders = namedtuple("usage", "total used free"), []
    monkeypatch.setattr(
        disk_space.shutil, "disk_usage", lambda folder: folders.append(folder) or usage(2000, 1000, 1000)
    )
    return folders


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (123_456, "123 kB"),
        (9.8e9, "9.8 GB"),
        (2.5e12, "2500 GB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


def test_a_folder_that_does_not_exist_yet_is_on_the_disk_of_its_parent(tmp_path, asked):
    assert free_bytes(tmp_path / "not" / "yet") == 1000 and asked == [tmp_path]


def test_what_fits_is_no_error_and_a_byte_more_is_one(tmp_path, asked):
    check_free_space(tmp_path, 1000, "birds", "or take a subset")
    with pytest.raises(ClipeduError) as caught:
        check_free_space(tmp_path, 1001, "birds", "or take a subset")
    message = f"birds needs 1.0 kB more, and the disk of {tmp_path} has 1.0 kB free: free some space, or take a subset"
    assert str(caught.value) == message
