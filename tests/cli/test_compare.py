"""`clipedu compare`."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipedu.cli.parser import main
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.studies.comparison import MEANING
from clipedu.studies.runner import COMPARISONS
from clipedu.studies.tuning import Tuned
from tests.cli.options import TINY


@pytest.fixture
def studied(monkeypatch):
    """The cells that were to be run; nothing is trained, and the study of decay only counts its runs."""
    seen = {}

    def run_comparison(cells, folder, *, jobs, threads, stacked, keep_weights):
        seen["cells"] = cells
        seen.setdefault("folders", []).append((folder, stacked, keep_weights))
        for of_seed in cells.values():
            for name, experiment in of_seed.items():
                metrics = {} if "adam-" in name else {"tr@1": 10.0 + experiment.seed, "average": 5.0}
                yield SimpleNamespace(name=name, experiment=experiment, metrics=metrics, status="failed", note="nan")

    monkeypatch.setattr("clipedu.cli.compare.run_comparison", run_comparison)
    monkeypatch.setattr("clipedu.report.writer.write_report", lambda runs, folder, left_out: seen.update(report=runs))
    decay = replace(COMPARISONS["decay"], study=lambda runs, folder: f"studied {len(runs)} runs in {folder}")
    monkeypatch.setitem(COMPARISONS, "decay", decay)
    return seen


def test_each_run_has_a_line_and_each_variant_a_row(studied, tmp_path, capsys):
    words = ["compare", "geometries", *TINY, "--seeds", "0", "2", "--variants", "cosine", "lorentz"]
    assert main([*words, "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [f"4 runs in {tmp_path}/", "cosine, seed 0: TR@1 10.00, average 5.00"]
    assert "| lorentz | 2 | 11.00 ± 12.71 | 5.00 ± 0.00 |" in shown
    assert MEANING in shown and "| lorentz | 2 | 0.00 ± 0.00 | 0.00 ± 0.00 |" in shown
    assert any(line.startswith("The smallest difference of two variants that could") for line in shown)
    assert MEANING in (tmp_path / "comparison.md").read_text()
    assert (tmp_path / "comparison.md").read_text().startswith("| variant | runs | TR@1 | average |")
    first = studied["cells"][2]["cosine-seed2"]
    assert first.seed == 2 and first.train_size == 32 and first.learn_temperature


def test_a_comparison_has_its_own_seeds_and_study(studied, tmp_path, capsys):
    words = ["compare", "decay", *TINY, "--variants", "clip+adamw", "sogclr+adam-no-decay", "--folder", str(tmp_path)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert list(studied["cells"]) == [0] and shown.endswith(f"\nstudied 2 runs in {tmp_path}\n")
    assert "sogclr+adam-no-decay, seed 0: failed: nan" in shown


def test_each_variant_is_tuned_with_the_first_seed_for_all(studied, tmp_path, monkeypatch, capsys):
    def tune_cells(experiments, what, folder, *, jobs, threads):
        assert list(experiments) == ["cosine", "lorentz"] and {one.seed for one in experiments.values()} == {2}
        assert (what, folder, jobs) == (["lr=0.1,0.2", "temperature=0.3,0.4"], tmp_path, 2)
        best = {name: one.replace(lr=0.1 if name == "cosine" else 0.2) for name, one in experiments.items()}
        return Tuned(best, "the values")

    monkeypatch.setattr("clipedu.studies.tuning.tune_cells", tune_cells)
    words = ["compare", "geometries", *TINY, "--seeds", "2", "0", "--variants", "cosine", "lorentz", "--jobs", "2"]
    assert main([*words, "--tune", "lr=0.1,0.2", "temperature=0.3,0.4", "--folder", str(tmp_path)]) == 0
    rates = {name: (one.lr, one.seed) for cells in studied["cells"].values() for name, one in cells.items()}
    assert rates == {
        **{"cosine-seed2": (0.1, 2), "lorentz-seed2": (0.2, 2)},
        **{"cosine-seed0": (0.1, 0), "lorentz-seed0": (0.2, 0)},
    }
    assert "held out, seed 2:\n\nthe values" in capsys.readouterr().out
    assert (tmp_path / "comparison.md").read_text().endswith("held out, seed 2:\n\nthe values\n")


def test_what_a_preset_says_of_an_optimizer_holds_unless_it_is_given(studied, tmp_path):
    words = ["compare", "decay", *TINY, "--variants", "clip+sgd", "--folder", str(tmp_path)]
    assert main(words) == 0
    lr = PRESETS["laptop"].per_optimizer["sgd"]["lr"]
    assert lr != Experiment().lr and studied["cells"][0]["clip+sgd-seed0"].lr == lr
    assert main([*words, "--lr", "0.125"]) == 0
    assert studied["cells"][0]["clip+sgd-seed0"].lr == 0.125


def test_a_scan_chooses_and_then_runs_the_best(studied, tmp_path, monkeypatch, capsys):
    """Its table of all variants is not printed, and the report is of the runs that follow."""
    scan = replace(
        COMPARISONS["decoupling"],
        follow=lambda runs: {0: {"adamw-seed0": runs[0].experiment.replace(holdout=None)}},
        study=lambda runs, folder: f"studied {len(runs)} runs",
    )
    monkeypatch.setitem(COMPARISONS, "decoupling", scan)
    only = ["adamw+lr0.001+decay0.001", "sgd+lr0.1+decay0.001"]
    words = ["compare", "decoupling", *TINY, "--seeds", "0", "--variants", *only, "--folder", str(tmp_path)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert studied["folders"] == [(tmp_path, True, False), (tmp_path / "best", True, True)]
    assert shown.endswith("\nstudied 3 runs\n") and "| variant |" not in shown and "adamw, seed 0: TR@1 10.00" in shown
    assert [run.name for run in studied["report"]] == ["adamw-seed0"] and (tmp_path / "comparison.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "decoupling", "--holdout", "none"], "holdout=None cannot be given: 'decoupling' chooses settings"),
        (["compare", "decoupling", "--tune", "lr=1,2"], "--tune lr=1,2 cannot be given: 'decoupling' tries settings"),
        (["compare", "geometry"], "unknown comparison 'geometry'. Did you mean 'geometries'?"),
        (["compare", "decoupling", "--variants", "x"], "adam+lr0.001+decay0.01 and 92 more"),
        (["compare", "geometries", "--variants", "cosin"], "unknown variant of 'geometries' 'cosin'"),
        (["compare", "geometries", "--geometry", "cosine"], "cannot be given: 'geometries' compares by geometry"),
    ],
)
def test_errors_are_one_line_before_anything_runs(words, message, studied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err and not studied and not list(Path().iterdir())
