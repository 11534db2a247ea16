import re

from clipedu.config.course import LOSSES, OPTIMIZERS
from clipedu.config.experiment import Experiment
from tests.helpers.fake_run import fake_run
from tests.report.pages import read, rows


def test_many_runs_are_in_the_courses_order_with_the_best_marked(grid, tmp_path):
    text, markdown = read(grid[::-1], tmp_path, baseline={"name": "ridge", "tr@1": 8.6, "ir@1": 12.1, "seconds": 3.0})
    names = [line.split(" | ")[0].strip("|* ") for line in markdown.splitlines() if line[:1] == "|"]
    names = [name for name in names if re.fullmatch(r"(adamw|sgd|adam)-\w+", name)]
    assert names[:15] == [f"{o}-{k}" for o in OPTIMIZERS for k in LOSSES]
    assert "15 runs (15 finished)" in text and "is that of adamw-cyclip" in text
    assert "| **adamw-cyclip** | **AdamW** | **CyCLIP** | **90.00**" in markdown
    assert rows(markdown, "adamw-sogclr")[0][-1] == "≈ best" and rows(markdown, "adam-onlineclr")[0][-1] == ""
    assert rows(markdown, "chance") == [["chance", "", "", "2.5", "2.5", "8.33", "4.44", "", "", ""]]
    assert rows(markdown, "ridge") == [["ridge", "", "", "8.60", "12.10", "–", "–", "", "3.0 s", "baseline"]]
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") == 3 and html.count("<tr class=best>") == 1


def test_no_run_is_dropped(grid, tmp_path):
    stopped = fake_run(
        "halted", loss="clip", optimizer="adam", steps=3, status="stopped", note="by the user after step 3"
    )
    text, markdown = read([*grid[:2], stopped, fake_run("gone", steps=0, status="failed", note="nan | inf")], tmp_path)
    assert "4 runs (2 finished, 1 stopped, 1 failed)" in text
    (row,) = [row for row in rows(markdown, "halted") if len(row) == 10]
    assert row[3:8] == ["–"] * 5 and row[-1] == "stopped: by the user after step 3"
    assert "failed: nan | inf" in text


def test_nothing_is_scored_yet(tmp_path):
    runs = [fake_run(name, steps=0, status="running") for name in ("a", "b")]
    text, _ = read(runs, tmp_path)
    assert "None has scores yet" in text and "No figure here" in text and "Spearman" not in text


def test_settings_are_split_into_common_and_different_even_for_runs_of_one_name(tmp_path):
    runs = [fake_run("same", steps=2, rows=2), fake_run("same", steps=2, rows=2, seed=1, lr=0.5)]
    text, markdown = read(runs, tmp_path)
    assert "| run | lr | seed |" in markdown
    assert [row for row in rows(markdown, "same") if len(row) == 3] == [
        ["same", f"{Experiment().lr:g}", "0"],
        ["same", "0.5", "1"],
    ]
    assert rows(markdown, r"batch\_size") == [[r"batch\_size", "128"]]
    assert "date" not in text  # never the same, says nothing
    (repeat,) = [row for row in rows(markdown, "AdamW") if len(row) == 7]
    assert repeat == ["AdamW", "CLIP", "2", "20.00", "±0.00", "0.00", "lr, seed"]


def test_scores_of_different_test_sets_are_not_compared_in_silence(tmp_path):
    runs = [fake_run("a", steps=2, rows=2), fake_run("b", steps=2, rows=2, seed=1)]
    assert "different test sets" not in read(runs, tmp_path)[0]
    runs[1].metrics["retrieval_captions"] = 40
    assert "different test sets" in read(runs, tmp_path)[0]


def test_a_run_that_learned_nothing_is_called_so(tmp_path):
    run = fake_run("blind", steps=2, rows=2, average=5.0)  # chance is 4.44
    assert "no better than chance: this model has learned nothing" in read(run, tmp_path)[0]
    _, markdown = read([run, fake_run("seeing", steps=2, rows=2, seed=1)], tmp_path)
    assert rows(markdown, "blind")[0][-1] == "at chance" and rows(markdown, "seeing")[0][-1] == "best"
