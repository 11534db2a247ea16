"""Tables that grow: appended, cut where a run goes on, and whole whatever is killed or full."""

import sys

import pandas as pd
import pytest

from clipedu.runs.rows import NewRows, append_rows, cut_rows
from clipedu.utils.tables import read_table
from tests.helpers.errors import message_of


def table(first: int, end: int, each: int = 2) -> pd.DataFrame:
    steps = [step for step in range(first, end) for _ in range(each)]
    return pd.DataFrame(
        {"step": steps, "part": ["a, b", "c"] * (len(steps) // 2), "loss": [1 / (n + 3) for n in steps]}
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.csv"


def test_parts_are_the_whole(path, tmp_path):
    append_rows(tmp_path / "whole.csv", table(0, 30))
    for first, end in ((0, 1), (1, 1), (1, 12), (12, 30)):
        append_rows(path, table(first, end))
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_nothing_measured_makes_no_file(path):
    append_rows(path, pd.DataFrame([]))
    cut_rows(path, 3)
    assert not path.exists()


@pytest.mark.parametrize("step", [0, 1, 7, 9, 10, 99])
def test_rows_from_a_step_on_are_dropped(path, tmp_path, step):
    append_rows(path, table(0, 12))
    append_rows(tmp_path / "wanted.csv", table(0, min(step, 12)) if step else table(0, 1))
    cut_rows(path, step)
    wanted = (tmp_path / "wanted.csv").read_bytes()
    assert path.read_bytes() == (wanted if step else wanted.splitlines(keepends=True)[0])


def test_wherever_an_append_was_killed_it_is_done_again(path):
    """At each byte of it: readers see whole lines, and the run that goes on writes the same file."""
    append_rows(path, table(0, 9))
    before = path.read_bytes()
    append_rows(path, table(9, 12))
    whole = path.read_bytes()
    for end in range(len(before), len(whole)):
        path.write_bytes(whole[:end])
        assert len(read_table(path, ("step",), words=("part",), grows=True)) >= 18
        cut_rows(path, 9)
        append_rows(path, table(9, 12))
        assert path.read_bytes() == whole, end


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
def test_a_full_disk_leaves_the_table_as_it_was(path):
    import resource

    append_rows(path, table(0, 9))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        message = message_of(append_rows, path, table(9, 30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{path} cannot be written: File too large" in message and path.read_bytes() == before


def test_columns_of_another_version_are_added_and_no_cell_changes(path):
    path.write_text("step,loss,old\n0,0.10,1e3\n1,0.2,\n")
    append_rows(path, pd.DataFrame({"step": [2], "loss": [0.3], "new": [True]}))
    assert path.read_text() == "step,loss,old,new\n0,0.10,1e3,\n1,0.2,,\n2,0.3,,True\n"


def test_what_is_no_table_of_steps_is_named_and_left_alone(path):
    for content in ("step;loss\n0;0.1\n", "a,b\nx,1\n", "step,loss\n,1\n"):
        path.write_text(content)
        assert f"{path} cannot be read: the row" in message_of(cut_rows, path, 5)
        assert path.read_text() == content
    path.write_text("")
    cut_rows(path, 5)


def test_each_row_is_written_once(path):
    """The file is the same one, however long it gets."""
    append_rows(path, table(0, 1))
    inode = path.stat().st_ino
    for first in range(1, 50):
        append_rows(path, table(first, first + 1))
    assert path.stat().st_ino == inode and len(pd.read_csv(path)) == 100


def test_new_rows_are_those_since_the_last_time(tmp_path):
    path = tmp_path / "history.csv"
    new = NewRows(path, 1)
    assert list(new.take()) == []  # there is no file yet
    append_rows(path, pd.DataFrame({"step": [0, 1], "loss": [1.0, 0.1]}))
    assert list(new.take()) == [(1, {"loss": "0.1"})]
    with path.open("a") as file:
        file.write("2,3.5\n3,4")  # a line that is not whole
    assert list(new.take()) == [(2, {"loss": "3.5"})]
    with path.open("a") as file:
        file.write(".5\n")
    assert list(new.take()) == [(3, {"loss": "4.5"})] and list(new.take()) == []
    append_rows(path, pd.DataFrame({"step": [4], "loss": [1.0], "added": [2.0]}))  # the file is written anew
    assert list(new.take()) == [(4, {"loss": "1", "added": "2"})]


def test_new_rows_of_a_step_with_many(tmp_path):
    path = tmp_path / "norms.csv"
    append_rows(path, pd.DataFrame({"step": [0, 0, 1, 1], "part": ["all", "a, b"] * 2}))
    assert [(step, row["part"]) for step, row in NewRows(path, 1).take()] == [(1, "all"), (1, "a, b")]
