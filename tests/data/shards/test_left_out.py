"""Sums of what was left out."""

from __future__ import annotations

from clipedu.data.shards.left_out import kind_of, one_line, summary


def test_kinds():
    assert [kind_of(why) for why in ("no caption", "no image (not read: .md)", "bad JSON: not an object")] == [
        "no caption",
        "no image",
        "bad JSON",
    ]


def test_kinds_are_counted_with_examples():
    left_out = [("0.tar", "damaged (after 3 files: x)")] + [(f"0.tar: k{i}", f"bad JSON: {i}") for i in range(5)]
    assert summary(left_out) == [
        "5: bad JSON, e.g. 0.tar: k0 (0); 0.tar: k1; 0.tar: k2",
        "1: damaged, e.g. 0.tar (after 3 files: x)",
    ]
    assert summary([]) == []


def test_one_line():
    assert one_line("a\nb\x1b[31mé") == "a?b?[31mé"
