"""Maps of lr x decay: planted surfaces with a known answer, and runs of the real comparison."""

import math

import pandas as pd
import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.decay_maps import DECAYS, RATES, best_settings, differences, final_scores, measurements
from clipedu.studies.decoupling import COMPARISON, follow, verdict, write_study
from clipedu.studies.runner import comparison_cells, run_comparison
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval
from tests.helpers.decay_maps import BASE, planted, run_of


def finals(runs):
    return [
        run_of(
            name.rpartition("-seed")[0], seed, 20.0 + seed + 5 * ("w-" in name), optimizer=one.optimizer, holdout=None
        )
        for seed, cells in follow(runs).items()
        for name, one in cells.items()
    ]


def test_every_map_has_as_many_settings_over_as_many_powers_of_ten():
    assert len(COMPARISON.variants) == 100
    for optimizer in RATES:
        for values, powers in ((RATES[optimizer], 2), (DECAYS[optimizer], 4)):
            assert len(values) == 5 and math.log10(values[-1] / values[0]) == pytest.approx(powers)


def test_decoupled_decay_is_the_share_that_a_step_takes():
    cells = comparison_cells("decoupling", BASE, [0])[0]
    one = cells["adamw+lr0.003+decay0.01-seed0"]
    assert one.lr * one.weight_decay == pytest.approx(0.01, rel=1e-5) and one.optimizer == "adamw"
    assert cells["adam+lr0.003+decay0.01-seed0"].weight_decay == 0.01
    with pytest.raises(ClipeduError, match="'decoupling' compares by lr"):
        comparison_cells("decoupling", BASE, [0], given={"lr"})


def test_a_true_difference_of_maps_is_told():
    text = " ".join(verdict(measurements(planted()), final_scores([])))
    assert "tilt, AdamW - Adam: +0." in text and "excludes 0" in text


def test_the_choice_is_made_by_the_mean_and_trained_on_all_pairs():
    runs = planted(seeds=(0, 4), optimizers=("adamw", "sgd"))
    cells = follow(runs)
    assert {seed: list(of_seed) for seed, of_seed in cells.items()} == {
        seed: [f"adamw-seed{seed}", f"sgd-seed{seed}"] for seed in (0, 4)
    }
    best, one = best_settings(measurements(runs)).loc["adamw"], cells[4]["adamw-seed4"]
    assert (one.lr, one.weight_decay, one.holdout, one.seed) == (best["lr"], best["weight_decay"], None, 4)
    means = measurements(runs).groupby("variant")["score"].mean()
    assert best["variant"] == means[means.index.str.startswith("adamw")].idxmax()


def test_differences_are_taken_seed_by_seed():
    runs = planted()
    table = final_scores(finals(runs))
    table.loc[table["optimizer"] == "adamw", "average"] += [0.5, 0.0, 1.0]
    apart = differences(table, ["average"]).set_index(["one", "other"])
    mean, half = interval([5.5, 5.0, 6.0])
    row = apart.loc[("adamw", "adam")]
    assert row["difference"] == pytest.approx(mean) and row["+-"] == pytest.approx(half) and row["seeds"] == 3
    assert len(apart) == 6 and list(apart.index)[0] == ("sgd", "adam")
    lines = verdict(measurements(runs), table)
    assert any(line.startswith("average, AdamW - Adam: +5.5 ± 1.2: excludes 0.") for line in lines)
    assert lines[-1].startswith("Of these 6 differences of scores")


def test_one_seed_and_the_ends_of_the_grid_are_named():
    runs = [run_of(f"adamw+lr{lr:g}+decay{decay:g}", 0, 10 * lr) for lr in RATES["adamw"] for decay in (1e-5, 1e-4)]
    lines = verdict(measurements(runs), final_scores([]))
    assert lines[0] == "AdamW: the best lr and decay are at an end of the grid."
    pair = verdict(measurements(planted(seeds=(0,))), final_scores([]))
    assert pair and all(line.endswith("one seed has no interval.") for line in pair[-4:])


def test_files_and_text(tmp_path):
    runs = planted()
    text = write_study([*runs, *finals(runs)], tmp_path)
    assert "| AdamW | 0.003 | 0.001 | 0.333 |" in text and "| best setting, all pairs | seeds |" in text
    assert (
        len(pd.read_csv(tmp_path / "decoupling.csv")) == 300
        and len(pd.read_csv(tmp_path / "decoupling-best.csv")) == 12
    )
    for name in ("decoupling.png", "decoupling-scores.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "1711.05101" in (tmp_path / "decoupling.md").read_text()


def test_the_comparison_itself(tmp_path):
    """Four of its runs and the two that follow, very small."""
    base = Experiment.preset("tiny", train_size=96, batch_size=24, epochs=1)
    only = [f"{optimizer}+lr0.003+decay{decay:g}" for optimizer in ("adam", "adamw") for decay in (1e-3, 1e-2)]
    cells = comparison_cells("decoupling", base, [0], given={"train_size", "batch_size", "epochs"}, only=only)
    runs = list(run_comparison(cells, tmp_path, progress=False))
    after = list(run_comparison(follow(runs), tmp_path / "best", progress=False))
    assert [run.name for run in after] == ["adam-seed0", "adamw-seed0"]
    assert all(run.experiment.holdout is None and "top1" in run.metrics for run in after)
    assert "| AdamW | 1 |" in write_study([*runs, *after], tmp_path)
