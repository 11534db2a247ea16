"""Markdown tables."""

import pandas

from clipedu.utils.markdown import frame_table, markdown_row, markdown_table


def test_a_table_is_written_as_it_is():
    assert markdown_table(["a", "b|c"], [["1", ""], ["x y", "±2"]]) == "| a | b|c |\n|---|---|\n| 1 |  |\n| x y | ±2 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"


def test_columns_of_numbers_are_aligned_to_the_right():
    assert markdown_table(["a", "b"], iter([("x", "1")]), right=[False, True]) == "| a | b |\n| --- | --: |\n| x | 1 |"


def test_a_frame_has_so_many_digits():
    frame = pandas.DataFrame({"name": ["a", "b"], "n": [3, 12], "x": [0.1234, float("nan")]}, index=[7, 8])
    assert frame_table(frame, 2) == "| name | n | x |\n|---|---|---|\n| a | 3 | 0.12 |\n| b | 12 | nan |"


def test_rows_may_be_written_one_by_one():
    whole = markdown_table(["a", "b"], [["1", "2"]])
    assert whole == markdown_table(["a", "b"], []) + "\n" + markdown_row(["1", "2"])
