"""Comparisons: what is varied, what is shared, and the table over seeds."""

import math
from types import SimpleNamespace

import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.comparison import comparison_table, comparison_text, variant, write_comparison
from clipedu.studies.runner import COMPARISONS, comparison_cells, run_comparison
from clipedu.utils.errors import ClipeduError

SMALL = Experiment.preset("tiny", train_size=64, batch_size=32, epochs=1)


def measured(name, **metrics):
    return SimpleNamespace(name=name, metrics={key.replace("_at_", "@"): value for key, value in metrics.items()})


def test_geometries_differ_in_geometry_and_entailment_alone():
    cells = comparison_cells("geometries", SMALL, (0, 7))
    assert list(cells) == [0, 7]
    assert [variant(SimpleNamespace(name=name)) for name in cells[7]] == list(COMPARISONS["geometries"].variants)
    varied = {"geometry", "entailment", "entailment_options", "temperature"}
    first = cells[7]["cosine-seed7"]
    assert first.learn_temperature and first.seed == 7
    for experiment in cells[7].values():
        same = {name: getattr(first, name) for name in varied}
        assert experiment.replace(**same) == first
    assert {ex.geometry for ex in cells[0].values()} == {"cosine", "euclidean-squared", "lorentz"}
    assert sorted(ex.entailment > 0 for ex in cells[0].values()) == [False, False, False, True, True]


def test_unknown_comparison_is_told():
    with pytest.raises(ClipeduError, match="unknown comparison 'geometry'. Did you mean 'geometries'"):
        comparison_cells("geometry", SMALL, (0,))


def test_base_that_does_not_fit_is_told_before_anything_runs(tmp_path):
    with pytest.raises(ClipeduError, match="vicreg"):
        comparison_cells("geometries", SMALL.replace(loss="vicreg"), [0])
    assert not list(tmp_path.iterdir())


def test_table_over_seeds():
    runs = [
        measured("a-seed0", tr_at_1=10.0, ir_at_1=20.0, average=15.0),
        measured("a+b-seed0", tr_at_1=1.0, ir_at_1=2.0, average=1.5),
        measured("a-seed1", tr_at_1=14.0, ir_at_1=20.0, average=17.0),
        measured("a+b-seed1"),  # failed
    ]
    table = comparison_table(runs)
    assert list(table.index) == ["a", "a+b"]
    assert list(table["runs"]) == [2, 1]
    assert table.loc["a", "TR@1 mean"] == 12 and table.loc["a", "TR@1 sd"] == pytest.approx(math.sqrt(8))
    assert math.isnan(table.loc["a+b", "TR@1 sd"])
    assert "top-1 mean" not in table.columns
    assert comparison_text(table).splitlines() == [
        "| variant | runs | TR@1 | IR@1 | average |",
        "|---|---|---|---|---|",
        "| a | 2 | 12.00 ± 2.83 | 20.00 ± 0.00 | 16.00 ± 1.41 |",
        "| a+b | 1 | 1.00 | 2.00 | 1.50 |",
    ]


def test_written_table_can_be_read_back(tmp_path):
    import pandas

    table = comparison_table([measured("a-seed0", average=1.0), measured("a-seed1", average=2.0)])
    path = write_comparison(table, tmp_path)
    assert path.read_text() == comparison_text(table) + "\n"
    assert pandas.read_csv(tmp_path / "comparison.csv").loc[0, "average mean"] == 1.5


def test_comparison_runs_every_variant_once(tmp_path):
    runs = list(run_comparison(comparison_cells("geometries", SMALL, [3]), tmp_path, progress=False))
    assert [run.status for run in runs] == ["finished"] * 5
    assert {run.experiment.seed for run in runs} == {3}
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    assert len(stamps) == 5
    again = list(run_comparison(comparison_cells("geometries", SMALL, [3]), tmp_path, progress=False))
    assert [run.metrics for run in again] == [run.metrics for run in runs]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
