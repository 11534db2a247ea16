"""Cells and rows of tables, with quotes that close and quotes that do not."""

import csv
import io
import random

import pytest

from clipedu.data.sources.csv_records import records


def cells(text, separator=",", starts_row=None):
    return [record.cells for record in records(text, separator, starts_row)]


def is_row(row):
    return len(row) > 1 and row[0].endswith(".jpg")


def test_tables_that_csv_writes_are_read_back():
    """Against Python's csv as the writer: quotes, separators and line ends in cells."""
    rng = random.Random(0)
    for separator in ",;\t|":
        for ending in ("\n", "\r\n"):
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
                rows = [["".join(rng.choices('ab" ,;|\t\n', k=rng.randrange(9))) for _ in range(3)] for _ in range(200)]
                file = io.StringIO(newline="")
                csv.writer(file, delimiter=separator, lineterminator=ending, quoting=quoting).writerows(rows)
                assert cells(file.getvalue(), separator) == [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize("separator", ",;\t|")
@pytest.mark.parametrize(
    "text, expected",
    [
        ('0.jpg,"a\n1.jpg,b\n2.jpg,c', [["0.jpg", '"a'], ["1.jpg", "b"], ["2.jpg", "c"]]),
        ('0.jpg,"a\n1.jpg,b 12"\n2.jpg,c\n', [["0.jpg", '"a'], ["1.jpg", 'b 12"'], ["2.jpg", "c"]]),
        ('0.jpg,"a\n1.jpg,b\n2.jpg,"c"\n', [["0.jpg", '"a'], ["1.jpg", "b"], ["2.jpg", "c"]]),
        ('0.jpg,"a\n1.jpg,""\n2.jpg,"c"\n', [["0.jpg", '"a'], ["1.jpg", ""], ["2.jpg", "c"]]),
        ('"0.jpg","a"\n"1.jpg","b\n"2.jpg","c"\n', [["0.jpg", "a"], ["1.jpg", '"b'], ["2.jpg", "c"]]),
        ('"0.jpg,a\n1.jpg,b"\n', [['"0.jpg', "a"], ["1.jpg", 'b"']]),
        ('0.jpg,"\n1.jpg,"\n', [["0.jpg", '"'], ["1.jpg", '"']]),
        ('0.jpg,"a\n1.jpg,b 3",val\n', [["0.jpg", '"a'], ["1.jpg", 'b 3"', "val"]]),
        ('0.jpg,"Stop" sign\n1.jpg,x\n', [["0.jpg", '"Stop" sign'], ["1.jpg", "x"]]),
        ('0.jpg,"a" and "b"\n', [["0.jpg", '"a" and "b"']]),
        ('0.jpg,12" pizza\n1.jpg,14" pan\n', [["0.jpg", '12" pizza'], ["1.jpg", '14" pan']]),
        ('0.jpg,"one\n\n ""two"", three"\n1.jpg,x', [["0.jpg", 'one\n\n "two", three'], ["1.jpg", "x"]]),
        ('0.jpg, "a, b" , c', [["0.jpg", "a, b", "c"]]),
        ('0.jpg,"a" b, c', [["0.jpg", '"a" b', "c"]]),
        ('0.jpg,""""', [["0.jpg", '"']]),
    ],
)
def test_quotes(text, expected, separator):
    text = text.replace(",", separator)
    assert cells(text, separator, is_row) == [[cell.replace(",", separator) for cell in row] for row in expected]


def test_line_ends():
    assert cells("a,b\rc,d\r") == cells("a,b\r\nc,d\r\n") == cells("a,b\nc,d") == [["a", "b"], ["c", "d"]]
    assert cells("a,b\rx\nc,\u2028d\x0b\x85e\n") == [["a", "b\rx"], ["c", "d\x0b\x85e"]]
    assert cells("a,b\r\r\nc,d\r\r\n") == [["a", "b"], ["c", "d"]]
    assert cells('a,"b\r\nc"\r\n') == [["a", "b\r\nc"]] and cells('a,"b\rc"\rd,e') == [["a", "b\nc"], ["d", "e"]]
    assert cells("") == [] and cells("\n\na,b\n") == [[""], [""], ["a", "b"]]


def test_what_is_written_can_be_put_together_again():
    text = '0.jpg,"Stop", he said,, twice'
    (record,) = records(text, ",")
    assert ",".join(record.raw) == text and record.cells == ["0.jpg", "Stop", "he said", "", "twice"]


def test_quotes_that_never_close_are_marked():
    text = '0.jpg,"a\n1.jpg,b\n2.jpg,"Stop" sign\n3.jpg,"c"\n'
    assert [record.unclosed for record in records(text, ",", is_row)] == [True, False, False, False]


def test_a_large_table_with_open_quotes_takes_linear_time():
    text = "".join(f'{number}.jpg,"a ""\n' for number in range(30_000))
    assert len(cells(text, ",", is_row)) == 30_000
