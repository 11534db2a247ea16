"""The study of extra tokens: intervals and paired differences typed out, costs, what is said, and the comparison itself."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.runner import COMPARISONS, comparison_cells, run_comparison
from clipedu.studies.vit import cost, differences, measurements, plot_vit, table_text, verdict, vit_table, write_study
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval

VARIANTS = COMPARISONS["vit"].variants


def made_up(variant, seed, score, status="finished", **metrics):
    options = VARIANTS[variant]["image_options"]
    experiment = Experiment(image_encoder="fractal_vit_nano_patch4_32", image_options=options, seed=seed)
    metrics = {"average": score, "tr@1": score + 1, "foil_place": 50.0} | metrics if status == "finished" else {}
    return SimpleNamespace(name=f"{variant}-seed{seed}", experiment=experiment, metrics=metrics, status=status)


RUNS = [
    made_up(variant, seed, score + 10 * seed)
    for variant, scores in {
        "registers+none": (20.0, 21.0, 19.0),
        "fractal+none": (22.0, 22.0, 21.0),
        "registers+sincos2d": (40.0, 41.0, 42.0),
        "fractal+sincos2d": (39.0, 41.0, 43.0),
    }.items()
    for seed, score in enumerate(scores)
]


def test_differences_are_paired_by_seed():
    table = differences(RUNS, peers := "fractal", ("registers",))
    assert peers == "fractal"
    rows = table[table["score"] == "average"].set_index("at")
    expected = {"none": [2.0, 1.0, 2.0], "sincos2d": [-1.0, 0.0, 1.0], "all": [0.5, 0.5, 1.5]}
    for at, values in expected.items():
        mean, half = interval(values)
        assert rows.loc[at, "difference"] == pytest.approx(mean) and rows.loc[at, "+-"] == pytest.approx(half)
        assert rows.loc[at, "seeds"] == 3
    assert (
        rows.loc["none", "+-"] < 2 < interval([20.0, 31.0, 39.0])[1]
    )  # unpaired, the seeds' own spread would drown it


def test_differences_along_the_position_encodings():
    table = differences(RUNS, "sincos2d", ("none", "rope"), "positions")
    assert set(table["other"]) == {"none"} and set(table["at"]) == {"registers", "fractal", "all"}
    rows = table[table["score"] == "average"].set_index("at")
    assert rows.loc["registers", "difference"] == pytest.approx(21.0)
    assert rows.loc["fractal", "difference"] == pytest.approx((17 + 19 + 22) / 3)


def test_one_seed_has_no_interval_and_unfinished_runs_do_not_count():
    few = [run for run in RUNS if run.experiment.seed == 0] + [made_up("plain+none", 0, 0, status="failed")]
    assert "plain" not in set(measurements(few)["arm"])
    assert differences(few)["+-"].isna().all() and verdict(few) == []
    assert "20.0 |" in table_text(vit_table(few)) and "±" not in table_text(vit_table(few))
    with pytest.raises(ClipeduError, match="no run is finished"):
        measurements(few[-1:])


def test_verdict_counts_what_chance_would_find():
    lines = verdict(RUNS)
    assert lines[0].startswith("fractal - registers: average +0.8 ± 1.4, TR@1 +0.8 ± 1.4, foil place +0.0 ± 0.0")
    assert any(line.startswith("sincos2d - none: average +20.2") for line in lines)
    assert lines[-1] == "Of these 3 differences between arms 0 exclude 0; if none were real, 0.1 would by chance"


def test_costs_are_matched_but_for_plain():
    encoder = {"image_encoder": "fractal_vit_nano_patch4_32"}
    found = {}
    for name in ("plain", "wide", "registers", "summary", "fractal"):
        options = VARIANTS[f"{name}+none"]["image_options"]
        found[name] = cost(SimpleNamespace(experiment=Experiment(**encoder, image_options=options)))
    assert {name: one[0] for name, one in found.items()} == {"plain": 64, "wide": 64} | dict.fromkeys(
        ("registers", "summary", "fractal"), 85
    )
    d, n = 64, 85
    assert found["fractal"][1] * 1e6 == 4 * (12 * n * d**2 + 2 * n**2 * d) + 64 * 48 * d
    assert found["registers"][1] == found["summary"][1] == found["fractal"][1]
    assert (
        found["wide"][1] == pytest.approx(found["fractal"][1], rel=2e-3) and found["plain"][1] < 0.75 * found["wide"][1]
    )
    assert found["registers"][2] == found["summary"][2] + 21 * 64  # registers are learned


def test_figure_has_a_panel_a_score_and_a_mark_an_arm():
    figure = plot_vit(RUNS)
    assert [ax.get_title() for ax in figure.axes] == [
        "TR@1",
        "True caption before one that is wrong in where the object is",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["registers", "fractal"]
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["none", "sincos2d"]
    low, high = figure.axes[1].get_ylim()
    assert low < 50 < high


def test_variants_are_extra_tokens_times_positions():
    assert len(VARIANTS) == 26 and len({json.dumps(v) for v in VARIANTS.values()}) == 26
    cells = comparison_cells("vit", Experiment(), [0, 1, 2])
    assert sum(map(len, cells.values())) == 78
    shared = {ex.replace(image_options={}, seed=0).to_json() for of_seed in cells.values() for ex in of_seed.values()}
    assert len(shared) == 1
    with pytest.raises(ClipeduError, match="image_options"):
        comparison_cells("vit", Experiment(), [0], given={"image_options"})


def test_the_comparison_itself(tmp_path):
    """Four of its runs, very small: the real way from the command to the files."""
    base = Experiment.preset("tiny", train_size=96, batch_size=32)
    only = ["registers+none", "fractal+none"]
    cells = comparison_cells("vit", base.replace(epochs=1), [0, 1], only=only, given={"epochs"})
    runs = list(run_comparison(cells, tmp_path, progress=False))
    assert [run.status for run in runs] == ["finished"] * 4
    text = write_study(runs, tmp_path)
    assert "| fractal+none | 85 | 20.6 | 203,200 | 2 |" in text and "fractal - registers: average" in text
    assert set(pd.read_csv(tmp_path / "vit-differences.csv")["other"]) == {"registers"}
    assert len(pd.read_csv(tmp_path / "vit.csv")) == 2
    assert (tmp_path / "vit.png").read_bytes().startswith(b"\x89PNG")
    assert "vit.png" in (tmp_path / "vit.md").read_text()
