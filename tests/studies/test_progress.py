"""The bar of a study: what is counted, and what is not."""

import pytest

from clipedu.studies.progress import StudyBar


@pytest.fixture
def bar():
    bar = StudyBar(["a", "b", "c"], shown=True)
    yield bar
    bar.close()


def state(bar):
    return bar._bar.n, bar._bar.total, bar._bar.desc.rstrip(": ")


def test_steps_and_runs_are_counted(bar):
    assert state(bar) == (0, 0, "0 of 3 runs")
    bar.expect({"a": 10, "b": 10, "c": 10})
    bar.step("a", 0, 10)
    bar.step("b", 0, 10)
    bar.step("a", 4, 10)
    bar.step("b", 3, 10)
    assert state(bar) == (7, 30, "0 of 3 runs")
    bar.step("a", 10, 10)
    bar.end("a")
    assert state(bar) == (13, 30, "1 of 3 runs")


def test_steps_of_an_earlier_part_do_not_count_and_those_of_a_failed_run_no_longer(bar):
    bar.expect({"a": 10, "b": 10, "c": 10})
    bar.step("a", 6, 10)
    assert state(bar) == (0, 24, "0 of 3 runs")
    bar.step("a", 8, 10)
    bar.end("a")  # NaN
    assert state(bar) == (2, 22, "1 of 3 runs")
    bar.end("b")  # never began
    assert state(bar) == (2, 12, "2 of 3 runs")
    bar.step("c", 20, 20)
    bar.end("c")
    assert state(bar) == (2, 2, "3 of 3 runs")


def test_without_a_bar_nothing_is_shown(capsys):
    for names, shown in ((["a"], False), ([], True)):
        bar = StudyBar(names, shown=shown)
        bar.expect({"a": 3})
        bar.step("a", 0, 3)
        bar.step("a", 3, 3)
        bar.end("a")
        with bar.hidden():
            pass
        bar.close()
    assert capsys.readouterr().err == ""
