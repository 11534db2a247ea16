"""Rows that are taken, and rows that are left out with a reason."""

import pytest

from clipedu.data.sources.caption_rows import CaptionTable


def test_a_row_is_taken():
    table = CaptionTable()
    table.take(3, " a.jpg#2 ", [" one ", "", "  ", "two\nlines"], "RestVal")
    table.take(4, "b.jpg", ["x"], unit="item")
    assert [(row.where, row.image, row.captions, row.split) for row in table.rows] == [
        ("row 3", "a.jpg", ("one", "two\nlines"), "train"),
        ("item 4", "b.jpg", ("x",), "train"),
    ]
    assert table.left_out == []


@pytest.mark.parametrize(
    "image, captions, split, kind, line",
    [
        ("", ["x"], None, "no image name", "row 7: no image name"),
        ("a.jpg", [], None, "empty caption", "row 7: a.jpg: empty caption"),
        ("a.jpg", [" \t", "\u2003"], None, "empty caption", "row 7: a.jpg: empty caption"),
        ("a.jpg", ["\u200b", "\ufeff \u200d"], None, "empty caption", "row 7: a.jpg: empty caption"),
        ("a.jpg", ["x\0"], None, "holds a NUL character", "row 7: a.jpg: holds a NUL character"),
        ("a\0.jpg", ["x"], None, "holds a NUL character", "row 7: a?.jpg: holds a NUL character"),
        ("a.jpg", ["\ud800"], None, "holds half a surrogate pair", "row 7: a.jpg: holds half a surrogate pair"),
        ("a.jpg", ["x"], "", "no split", "row 7: a.jpg: no split. Allowed: train, training,"),
        ("a.jpg", ["x"], "more", "unknown split", "row 7: a.jpg: unknown split 'more'. Allowed: train,"),
        ("a.jpg", ["x"], "train/val", "names two splits", "row 7: a.jpg: names two splits 'train/val'"),
        ("n" * 10**6, ["x"], "s" * 10**6, "unknown split", "row 7: nnn"),
    ],
)
def test_a_row_is_left_out_and_named(image, captions, split, kind, line):
    table = CaptionTable()
    table.take(7, image, captions, split)
    (row,) = table.left_out
    assert table.rows == [] and row.kind == kind and str(row).startswith(line) and len(str(row)) < 300
