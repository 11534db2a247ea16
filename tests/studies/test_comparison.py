"""The table of a comparison over seeds."""

import math
from types import SimpleNamespace

import pytest

from clipedu.evaluation.metrics import COMPARED, METRICS
from clipedu.studies.comparison import (
    MEANING,
    comparison_notes,
    comparison_table,
    comparison_text,
    paired_differences,
    smallest_differences,
    variant,
    write_comparison,
)


def measured(name, **metrics):
    metrics = {key.replace("_at_", "@"): value for key, value in metrics.items()}
    return SimpleNamespace(name=name, metrics=metrics, experiment=SimpleNamespace(seed=int(name[-1])))


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
    assert table.loc["a", "TR@1 interval"] == pytest.approx(12.706 * 2, rel=1e-3), (
        "t of one degree of freedom, times the error"
    )
    assert "top-1 mean" not in table.columns
    assert comparison_text(table).splitlines() == [
        "| variant | runs | TR@1 | IR@1 | average |",
        "|---|---|---|---|---|",
        "| a | 2 | 12.00 ± 25.41 | 20.00 ± 0.00 | 16.00 ± 12.71 |",
        "| a+b | 1 | 1.00 | 2.00 | 1.50 |",
    ]


def test_differences_are_taken_seed_by_seed():
    """Of 3 and 5 more with two seeds: 4 on average, t = 12.706, a standard error of 1."""
    runs = [measured(f"a-seed{seed}", average=100.0 * seed) for seed in (0, 1)]
    runs += [measured(f"b-seed{seed}", average=100.0 * seed + 3 + 2 * seed) for seed in (1, 0)]
    runs += [measured(f"c-seed{seed}", average=100.0 * seed) for seed in (0, 1, 2)]
    table = paired_differences(runs).set_index(["one", "other"])
    assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")] and set(table["seeds"]) == {2}
    assert table.loc[("a", "b"), "difference"] == 4 and table.loc[("a", "c"), "interval"] == 0
    assert table.loc[("a", "b"), "interval"] == pytest.approx(12.706, rel=1e-4)
    assert table.loc[("b", "c"), "difference"] == -4
    smallest = smallest_differences(paired_differences(runs))
    assert smallest == {"average": pytest.approx(12.706 * math.sqrt(2 / 3), rel=1e-4)}
    notes = comparison_notes(runs).splitlines()
    assert notes[0] == MEANING and "Minus a, seed by seed:" in notes
    assert "| b | 2 | 4.00 ± 12.71 |" in notes and "| c | 2 | 0.00 ± 0.00 |" in notes
    assert notes[-1].endswith("that could have been seen (half of its interval, over all pairs): average 10.37.")


@pytest.mark.parametrize("names", [["a-seed0", "b-seed0"], ["a-seed0", "a-seed1"], ["a-seed0", "b-seed1"], []])
def test_without_pairs_there_is_nothing_to_see(names):
    runs = [measured(name, average=1.0) for name in names]
    assert smallest_differences(paired_differences(runs)) == {}
    assert comparison_notes(runs) == "" or "no difference can be told" in comparison_notes(runs)


def test_written_table_can_be_read_back(tmp_path):
    import pandas

    table = comparison_table([measured("a-seed0", average=1.0), measured("a-seed1", average=2.0)])
    path = write_comparison(table, tmp_path)
    assert path.read_text() == comparison_text(table) + "\n"
    assert write_comparison(table, tmp_path, "a note").read_text() == comparison_text(table) + "\n\na note\n"
    assert pandas.read_csv(tmp_path / "comparison.csv").loc[0, "average mean"] == 1.5


def test_columns_are_those_that_were_measured_in_the_order_of_the_keys():
    run = SimpleNamespace(name="a-seed0", metrics={key: 1.0 for key in reversed(COMPARED)} | {"alignment": 2.0})
    headings = [f"{METRICS[key].heading} {what}" for key in COMPARED for what in ("mean", "sd", "interval")]
    assert list(comparison_table([run]).columns) == ["runs", *headings]
    assert list(comparison_table([run], ("alignment", "average")).columns[1:3]) == ["alignment mean", "alignment sd"]
    assert not comparison_table([run])["average interval"].notna().any(), "one run has none"


def test_variant_is_the_name_without_the_seed():
    names = {"a+b-seed12": "a+b", "clip-seed-seed0": "clip-seed", "by-hand": "by-hand"}
    assert [variant(SimpleNamespace(name=name)) for name in names] == list(names.values())
