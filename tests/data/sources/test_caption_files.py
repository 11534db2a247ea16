"""Which form a file of captions has, and how its text is encoded."""

from __future__ import annotations

import json

import pytest

from clipedu.data.sources.caption_files import read_captions
from clipedu.utils.errors import ClipeduError

TABLE = "image\tcaption\r\n0.jpg\tein Kätzchen\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["captions.csv", "captions.json", "captions.txt", "captions"])
def test_the_contents_decide(tmp_path, encoding, name):
    for text in (TABLE, json.dumps([{"image": "0.jpg", "caption": "ein Kätzchen"}], ensure_ascii=False)):
        (tmp_path / name).write_bytes(text.encode(encoding))
        (row,) = read_captions(tmp_path / name).rows
        assert (row.image, row.captions) == ("0.jpg", ("ein Kätzchen",))


def test_a_mark_that_stands_twice_and_blank_lines(tmp_path):
    (tmp_path / "t").write_text("\ufeff\ufeff\n" + TABLE, "utf-8")
    assert len(read_captions(tmp_path / "t").rows) == 1
    (tmp_path / "t").write_text('\ufeff\ufeff\n [{"image": "0.jpg", "caption": "x"}]', "utf-8")
    assert len(read_captions(tmp_path / "t").rows) == 1


def test_a_nul_costs_one_row(tmp_path):
    (tmp_path / "t").write_bytes(b"image,caption\n0.jpg,a\0b\n1.jpg,c\n")
    table = read_captions(tmp_path / "t")
    assert [row.image for row in table.rows] == ["1.jpg"] and "row 2: 0.jpg: holds a NUL" in str(table.left_out[0])


@pytest.mark.parametrize(
    "data, told",
    [
        (
            b"image,caption\n0.jpg,x\n1.jpg,caf\xe9\n",
            "is not UTF-8 .line 3.. Give a CSV, TSV or JSON file, saved as UTF-8",
        ),
        (b"PK\x03\x04\xff\xfe" * 9**6, "is not UTF-8"),
        (b"\xff\xfe\0", "is not UTF-16"),
        (b"\x1f\x8b\x08\0\0", "is not UTF-8"),
        (None, "Is a directory"),
    ],
)
def test_files_that_are_no_text(tmp_path, data, told):
    (tmp_path / "t").mkdir() if data is None else (tmp_path / "t").write_bytes(data)
    with pytest.raises(ClipeduError, match=told) as error:
        read_captions(tmp_path / "t")
    assert len(str(error.value)) < 400


def test_a_file_that_is_not_there(tmp_path):
    for name in ("nowhere.csv", "x" * 300, "nul\0"):
        with pytest.raises(ClipeduError, match="cannot be read"):
            read_captions(tmp_path / name)
