"""`clipedu blend`: lines and soups from the command line."""

import pytest

from clipedu import load_run
from clipedu.cli.parser import main
from tests.helpers.blends import small_runs

pytestmark = pytest.mark.xdist_group("blends")


@pytest.fixture(autouse=True)
def no_reports(monkeypatch):
    """They have tests of their own, and take long."""
    for place in ("clipedu.workflow.blend_folder", "clipedu.report.writer"):
        monkeypatch.setattr(f"{place}.write_report", lambda runs, folder: folder / "report.html")


@pytest.fixture
def folders():
    return [str(run.folder) for run in small_runs(2)]


def test_a_line_is_printed_and_a_point_is_kept(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["blend", *folders, "--points", "3", "--keep", "0.5", "--folder", str(out)]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    averages = {
        " ".join(words[:-3]): words[-1]
        for words in lines
        if len(words) > 3 and words[0] in ("0", "0.5", "1", "0,", "1,")
    }
    for name, run in zip("01", small_runs(2), strict=True):
        assert averages[name] == f"{run.metrics['average']:.2f}"
    assert "0, statistics recomputed" in averages and "recomputed on 16 pictures of own/train" in shown
    assert "barrier" in shown and "best average" in shown
    assert {path.name for path in out.iterdir()} == {"blend.csv", "blend.png", "t-0.5"}
    kept = load_run(out / "t-0.5")
    assert averages["0.5"] == f"{kept.metrics['average']:.2f}"
    assert main(["evaluate", str(kept.folder)]) == 0
    assert averages["0.5"] in capsys.readouterr().out
    assert kept.command == f"clipedu blend {folders[0]} {folders[1]} --keep 0.5"


def test_interpolated_statistics_are_said_to_mislead(folders, tmp_path, capsys):
    words = ["--statistics", "interpolate", "--points", "2", "--folder", str(tmp_path / "out")]
    assert main(["blend", *folders, *words]) == 0
    assert "the middle is better than it looks" in capsys.readouterr().out


def test_a_greedy_soup(tmp_path, capsys):
    folders = [str(run.folder) for run in small_runs(2, holdout=0.25, image_frozen=True)]
    assert main(["blend", *folders, "--soup", "greedy", "--folder", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "Chosen by the average on 4 pairs of own/held-out, which are not scored below" in shown
    assert "Scored on 6 rows of own/val." in shown and "of 2 models are in the soup" in shown
    assert load_run(tmp_path / "out" / "soup").experiment.holdout is None
    assert "--soup greedy" in load_run(tmp_path / "out" / "soup").command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "a line is between two models, and 1 is given"),
        (["a", "b", "c"], "3 are given: give two, or --soup uniform or --soup greedy"),
        (["a", "b", "--choose-data", "x"], "--choose-data x has no effect"),
        (["a", "b", "--soup", "mean"], "unknown soup 'mean'"),
        (["a", "b", "--soup", "uniform", "--points", "3"], "--points has no effect on a soup"),
        (["a", "b", "--soup", "greedy", "--keep", "0.5"], "--keep has no effect on a soup"),
        (["a", "b", "--soup", "uniform", "--choose-data", "x"], "which chooses nothing"),
        (["a", "nowhere"], "'a' does not exist"),
    ],
)
def test_what_cannot_be_blended(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["blend", *words]) == 2
    assert said in (shown := capsys.readouterr().err) and len(shown.splitlines()) <= 3


@pytest.mark.parametrize("value", ["1.5", "-0.1", "x", "nan"])
def test_points_off_the_line(value, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["blend", "a", "b", f"--keep={value}"])
    assert stop.value.code == 2 and "is not a number from 0 to 1: 0 is A, 1 is B" in capsys.readouterr().err


def test_a_folder_that_is_not_empty(folders, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["blend", *folders, "--folder", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
