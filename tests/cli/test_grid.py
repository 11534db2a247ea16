"""`clipedu grid`."""

import json
import signal
from types import SimpleNamespace

import pytest

from clipedu import load_run
from clipedu.cli.parser import main
from clipedu.training.trainer import Trainer
from clipedu.utils.statistics import interval
from tests.cli.options import TINY
from tests.helpers.small_runs import assert_same


def test_grid_prints_the_time_of_each_cell_and_goes_on(tmp_path, capsys):
    words = ["grid", *TINY, "--losses", "clip", "vicreg", "--optimizers", "adamw", "--folder", str(tmp_path / "grid")]
    words += ["--jobs", "1"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "adamw-clip" in first and "adamw-vicreg" in first
    assert "cell                   TR@1   IR@1  top-1  average  seconds" in first.splitlines()
    assert (tmp_path / "grid" / "report.html").is_file()
    assert main(words) == 0  # everything is there already
    again = capsys.readouterr().out
    scores = [[line.split()[:-1] for line in shown.splitlines() if "adamw-" in line] for shown in (first, again)]
    assert len(scores[0]) == 2 and scores[0] == scores[1]


def test_cells_without_scores_and_the_baseline_have_a_line(tmp_path, monkeypatch, capsys):
    lost = SimpleNamespace(name="adamw-clip", metrics={}, status="failed", note="the loss is nan", seconds=0.0)
    part = SimpleNamespace(name="adamw-cyclip", metrics={"tr@1": 12.5, "ir@1": 5.0, "average": 8.75}, seconds=3.0)
    monkeypatch.setattr("clipedu.studies.grid.run_grid", lambda *arguments, **options: (run for run in (lost, part)))
    scores = {"name": "ridge", "tr@1": 8.61, "ir@1": 12.13, "seconds": 3.2}
    monkeypatch.setattr("clipedu.studies.grid.grid_baseline", lambda base, folder, data: scores)
    monkeypatch.setattr(
        "clipedu.report.writer.write_report",
        lambda runs, folder, baseline, left_out: f"{len(runs)}, {baseline['name']}",
    )
    assert main(["grid", *TINY, "--losses", "clip", "cyclip", "--optimizers", "adamw", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "adamw-clip           failed: the loss is nan",
        "adamw-cyclip          12.50   5.00            8.75      3.0",
        "ridge, no CLIP         8.61  12.13   (3 s)",
        "",
        "Report: 2, ridge",
    ]


def test_sigterm_keeps_what_is_done_of_a_grid(tmp_path, monkeypatch, capsys):
    original, folder = Trainer._train_on, tmp_path / "grid"

    def terminate(self, *arguments):
        if (self.experiment.loss, self.step) == ("vicreg", 1):
            signal.raise_signal(signal.SIGTERM)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", terminate)
    words = ["grid", *TINY, "--losses", "clip", "vicreg", "--optimizers", "adamw", "--folder", str(folder)]
    words[words.index("--epochs") + 1] = "2"
    words += ["--jobs", "1"]  # in this process, where a step can send the signal
    assert main(words) == 143
    assert "stopped by SIGTERM; what was done is kept. The same command continues" in capsys.readouterr().err
    assert load_run(folder / "adamw-clip").status == "finished"
    run = load_run(folder / "adamw-vicreg")
    assert run.status == "stopped" and run.note == "by SIGTERM after step 2 of 4" and len(run.history) == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_damaged_cell_is_named_the_others_are_reported_and_the_exit_code_says_so(tmp_path, capsys):
    folder = tmp_path / "grid"
    words = [
        "grid",
        *TINY,
        "--losses",
        "clip",
        "vicreg",
        "--optimizers",
        "adamw",
        "--folder",
        str(folder),
        "--jobs",
        "1",
    ]
    assert main(words) == 0
    (folder / "adamw-clip" / "norms.csv").write_text("step,part\n0,all,1\n")
    capsys.readouterr()
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "adamw-vicreg " in shown.out and f"Report: {folder}" in shown.out
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("clipedu: 1 of 2 cells is left out, all others are done. adamw-clip: ")
    assert f"{folder / 'adamw-clip' / 'norms.csv'} cannot be read" in last and "Traceback" not in shown.err
    assert "Left out, because they cannot be read or were not done" in (folder / "report.html").read_text()
    for name in ("adamw-clip", "adamw-vicreg"):
        (folder / name / "norms.csv").write_text("step\n")
    assert main(words) == 2
    assert "2 of 2 cells are left out" in capsys.readouterr().err


def test_cells_at_once_give_the_numbers_of_one_after_the_other(tmp_path, capsys):
    words = ["grid", *TINY, "--losses", "clip", "vicreg", "--optimizers", "adamw", "sgd"]
    shown = []
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        assert main([*words, "--folder", str(folder), "--jobs", jobs]) == 0
        out = capsys.readouterr().out
        shown.append([line.split()[:-1] for line in out.splitlines() if "-clip" in line or "-vicreg" in line])
    assert shown[0] == shown[1] and [line[0] for line in shown[0]][0] == "adamw-clip" and len(shown[0]) == 4
    for name in ("adamw-clip", "sgd-vicreg"):
        assert_same(load_run(tmp_path / "2" / name), load_run(tmp_path / "1" / name))


def test_seeds_give_a_mean_and_an_interval_and_keep_the_cells_of_one_seed(tmp_path, capsys):
    words = [
        "grid",
        *TINY,
        "--losses",
        "clip",
        "vicreg",
        "--optimizers",
        "adamw",
        "--jobs",
        "1",
        "--folder",
        str(tmp_path),
    ]
    assert main(words) == 0
    stamp = (tmp_path / "adamw-clip" / "metrics.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "--seeds", "0", "1"]) == 0
    out = capsys.readouterr().out
    assert "4 cells in" in out and (tmp_path / "adamw-clip" / "metrics.json").stat().st_mtime_ns == stamp
    assert sorted(path.parent.name for path in tmp_path.glob("*/metrics.json")) == [
        *("adamw-clip", "adamw-clip-seed1", "adamw-vicreg", "adamw-vicreg-seed1")
    ]
    tr = [
        json.loads((tmp_path / name / "metrics.json").read_text())["tr@1"]
        for name in ("adamw-clip", "adamw-clip-seed1")
    ]
    mean, half = interval(tr)
    assert f"| adamw-clip | 2 | {mean:.2f} ± {half:.2f} |" in out
    assert f"Table: {tmp_path / 'comparison.md'}" in out and "±" in (tmp_path / "report.md").read_text()


def test_seed_and_seeds_cannot_both_be_given(tmp_path, capsys):
    words = ["grid", *TINY, "--folder", str(tmp_path / "grid")]
    assert main([*words, "--seed", "3", "--seeds", "0", "1"]) == 2
    assert "--seed 3 and --seeds 0 1 cannot both be given" in capsys.readouterr().err
    for bad in (["--jobs", "0"], ["--threads", "two"], ["--seeds", "1", "1"]):
        try:
            code = main([*words, *bad])
        except SystemExit as error:
            code = error.code
        assert code == 2 and bad[0] in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()


def test_each_cell_is_tuned_on_pairs_held_out_once_for_all_seeds(tmp_path, capsys):
    folder = tmp_path / "grid"
    words = ["grid", *TINY, "--losses", "clip", "--optimizers", "adamw", "sgd", "--seeds", "0", "1", "--jobs", "1"]
    words += ["--tune", "lr=0.001,0.01", "--folder", str(folder)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    trials = sorted(folder.glob("tuning/*/experiment.json"))
    assert len(trials) == 4  # two values, for two cells, of one seed
    assert all((known := json.loads(trial.read_text()))["holdout"] and known["seed"] == 0 for trial in trials)
    for optimizer in ("adamw", "sgd"):
        runs = [load_run(folder / f"{optimizer}-clip-seed{seed}").experiment for seed in (0, 1)]
        assert runs[0].lr == runs[1].lr in (0.001, 0.01) and runs[0].holdout is None
        assert f"| {optimizer}-clip-seed0 | {runs[0].lr:g} | " in shown
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("4 runs. Report:")  # trials are none of them
    assert main(words) == 0  # the same command finds the same values, and everything is there


def test_a_setting_that_cannot_be_tuned(tmp_path, capsys):
    pytest.importorskip("optuna")
    words = ["grid", *TINY, "--losses", "clip", "--optimizers", "adamw", "--folder", str(tmp_path / "grid")]
    assert main([*words, "--tune", "epochs"]) == 2
    assert "unknown setting to tune without a range 'epochs'" in capsys.readouterr().err
