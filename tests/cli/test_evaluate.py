"""`clipedu evaluate` and `report`."""

import shutil

import pytest

from clipedu import load_run
from clipedu.cli.parser import main
from tests.cli.options import TINY
from tests.helpers.shard_maker import photo, sample, write_tar


def test_a_trained_run_is_scored_again_and_reported(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *TINY, "--loss", "sogclr", "--loss-options", "gamma=0.5", "--folder", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "TR@1" in shown and "image -> text" in shown and "chance" in shown and str(run) in shown
    assert load_run(run).experiment.loss_options == {"gamma": 0.5}
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert (
        main(["evaluate", str(run), "--zeroshot-data", "scenes"]) == 0
    )  # other sets: shown with the average of all scores
    shown = {
        words[0]: float(words[1])
        for line in capsys.readouterr().out.splitlines()
        if len(words := line.split()) > 3 and words[0] in ("TR@1", "IR@1", "top-1", "average")
    }
    assert shown["average"] == pytest.approx((shown["TR@1"] + shown["IR@1"] + shown["top-1"]) / 3, abs=0.01)
    assert main(["report", str(run), "--folder", str(tmp_path / "paper")]) == 0
    assert (tmp_path / "paper" / "report.html").is_file() and (tmp_path / "paper" / "report.md").is_file()


def test_a_run_folder_that_is_not_one(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    assert main(["evaluate", str(tmp_path / "other")]) == 2
    assert "is not a run's folder: it has no experiment.json" in capsys.readouterr().err


def test_a_report_shows_the_baseline_that_a_grid_has_kept(finished, tmp_path, capsys):
    shutil.copytree(finished.folder, tmp_path / "runs" / "one")
    (tmp_path / "runs" / "baseline.json").write_text('{"name": "ridge", "tr@1": 12.34}')
    assert main(["report", str(tmp_path / "runs"), "--folder", str(tmp_path / "paper")]) == 0
    assert capsys.readouterr().out == f"1 run. Report: {tmp_path / 'paper' / 'report.html'}\n"
    assert "baseline: ridge" in (page := (tmp_path / "paper" / "report.md").read_text()) and "12.34" in page


def test_what_is_left_out_of_other_pairs_is_said(finished, tmp_path, capsys):
    files = [file for i in range(8) for file in sample(f"k{i}", photo(i), [f"text {i}"])]
    folder = write_tar(tmp_path / "own" / "own-val-0.tar", [*files, ("k9.caption", b"x")]).parent
    assert main(["evaluate", str(finished.folder), "--eval-data", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "1 samples of own/val were left out" in shown
    assert "1: no image, e.g. own-val-0.tar: k9 (not read: .caption)" in shown


def test_best_and_averaged_weights_are_scored_and_not_kept(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--evaluate-every", "2", "--ema-decay", "0.9", "--keep-checkpoints", "1", "--folder", str(folder)]
    assert main(["train", *TINY, *options]) == 0
    run, before = load_run(folder), (folder / "metrics.json").read_text()
    capsys.readouterr()
    rows = run.validation[run.validation["weights"] == "model"].set_index("step")
    assert main(["evaluate", str(folder), "--checkpoint", "best"]) == 0
    shown = capsys.readouterr().out
    last = rows.index.max()
    assert f"The scores after step {run.best_step} of {last}, the best during training:" in shown
    assert f"{rows['average'].max():.2f}" in shown
    assert main(["evaluate", str(folder), "--averaged"]) == 0
    assert f"{run.metrics['averaged/average']:.2f}" in capsys.readouterr().out
    assert (folder / "metrics.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"), [(["--checkpoint", "best"], "has no best checkpoint"), (["--averaged"], "averaged")]
)
def test_a_run_without_them_says_so(words, message, finished, capsys):
    assert main(["evaluate", str(finished.folder), *words]) == 2
    assert message in (said := capsys.readouterr().err) and len(said.splitlines()) <= 3


def test_a_run_with_pairs_held_out_is_scored_on_other_sets_where_these_are_asked_for(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", *TINY, "--holdout", "0.25", "--folder", str(folder)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 0
    held_out = capsys.readouterr().out
    assert main(["evaluate", str(folder), "--eval-data", "scenes"]) == 0
    others = capsys.readouterr().out
    assert "top-1" not in held_out and "top-1" in others and "on 40 images with 200 captions" in others
