"""Tables: read whole, or with the column and the line of what is wrong."""

import math

import pandas as pd
import pytest

from clipedu.utils.tables import read_table
from tests.helpers.errors import message_of

GOOD = "step,part,loss\n0,all,1.5\n1,,inf\n1,text,\n2,all,NaN\n"


def read(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, ("step", "loss"), **{"words": ("part",), "counted": ("step",), **options})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.csv"


def test_numbers_and_words(path):
    frame = read(path, "step,part,loss\n0,1,1.5\n3,none,inf\n4,NA,\n5,x,nan\n")
    assert frame["step"].tolist() == [0, 3, 4, 5] and frame["part"].tolist() == ["1", "none", "NA", "x"]
    assert frame["loss"].tolist()[:2] == [1.5, math.inf] and frame["loss"].isna().tolist() == [False, False, True, True]


def test_what_a_frame_writes_is_read(path):
    frame = pd.DataFrame({"step": [0, 1], "loss": [1e-30, math.nan], "part": ['a, "b"', "c\nd"]})
    pd.testing.assert_frame_equal(read(path, frame.to_csv(index=False)), frame)


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_nothing_is_a_table_without_rows(path, text):
    assert read(path, text).columns.tolist() == ["step", "loss"] and len(read(path, "step,loss\n")) == 0
    with pytest.raises(FileNotFoundError):
        read_table(path.with_name("other.csv"), ("step",))


@pytest.mark.parametrize(
    "text, fault",
    [
        ("step,part\n0,a\n", "the column 'loss' is missing"),
        ("step;part;loss\n0;a;1\n", "the column 'step' is missing"),
        ("step,part,loss\n0,a,1\n1,a,x\n", "column 'loss', line 3: 'x', expected a number up to 1e+100"),
        ("step,part,loss\n0,a,1\n1,a,1e308\n", "column 'loss', line 3: 1e+308, expected a number up to 1e+100"),
        (f"step,part,loss\n0,a,{'9' * 400}\n", "column 'loss', line 2: "),
        ("step,part,loss\n0,a,True\n", "column 'loss', line 2: true, expected a number"),
        ("step,part,loss\n0,a,1\n,a,1\n", "column 'step', line 3: nothing, expected a whole number >= 0"),
        ("step,part,loss\n0,a,1\n1.5,a,1\n", "column 'step', line 3: 1.5, expected a whole number >= 0"),
        ("step,part,loss\n-1,a,1\n", "column 'step', line 2: -1, expected a whole number >= 0"),
        ("step,part,loss\ninf,a,1\n", "column 'step', line 2: Infinity, expected a whole number >= 0"),
        ("step,part,loss\n0,,1\n", "column 'part', line 2: nothing, expected a text"),
        ("step,part,loss\n0,a\n", "line 2 has 2 cells, the header has 3"),
        ("step,part,loss\n0,a,1,2\n", "line 2 has 4 cells, the header has 3"),
        ('step,part,loss\n0,a,1\n"0,a,1', "line 3: unexpected end of data"),
        (b"step,part,loss\n0,\xff,1\n", "byte 17 is not UTF-8 text"),
    ],
)
def test_a_damaged_table(path, text, fault):
    message = message_of(read, path, text)
    assert message.startswith(f"{path} cannot be read: {fault}") and len(message) < len(str(path)) + 200


def test_rows_that_are_there_twice(path):
    text = "step,part,loss\n0,a,1\n0,b,1\n1,a,1\n0,b,3\n"
    assert len(read(path, text)) == 4
    assert message_of(read, path, text, key=("step", "part")).endswith("line 5 is a second one of step 0, part 'b'")


def test_a_folder(path):
    path.mkdir()
    assert message_of(read_table, path, ("step",)) == f"{path} cannot be read: it is a folder"
