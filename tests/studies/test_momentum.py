"""Which step size transfers: planted curves with a known answer, and runs of the real comparison."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.momentum import (
    ALPHAS,
    COMPARISON,
    RATES,
    best_table,
    measurements,
    peaks,
    transfer_table,
    verdict,
    write_study,
)
from clipedu.studies.runner import comparison_cells, run_comparison
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval


def planted(power: float, *, seeds=(0, 1, 2), wobble=0.05, alphas=ALPHAS, at=0.03):
    """Runs whose best lr is `at` / ((2 - alpha) / alpha)^(power / 2), but for a wobble of each."""
    noise, runs = np.random.default_rng(7), []
    for seed in seeds:
        for alpha in alphas:
            best = at * ((2 - alpha) / alpha) ** (-power / 2) * math.exp(wobble * noise.standard_normal())
            for lr in RATES:
                score = max(0.0, 40 - 3 * math.log(lr / best) ** 2)
                experiment = Experiment(
                    optimizer="scion", optimizer_options={"alpha": alpha}, lr=lr, seed=seed, holdout=0.25
                )
                name = f"alpha{alpha:g}+lr{lr:g}-seed{seed}"
                runs.append(
                    SimpleNamespace(name=name, experiment=experiment, metrics={"average": score}, status="finished")
                )
    return runs


def test_the_frame_holds_both_step_sizes():
    frame = measurements(planted(1.0))
    assert len(frame) == 63 and list(dict.fromkeys(frame["alpha"])) == [1.0, 0.3, 0.1]
    assert np.allclose(frame["gamma_eff"], frame["lr"] * np.sqrt((2 - frame["alpha"]) / frame["alpha"]))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_exponent_and_ratios_of_planted_curves(power):
    frame = measurements(planted(power, wobble=0.0, seeds=(0, 1)))
    table, factor = transfer_table(frame), math.sqrt(19.0)  # (2 - 0.1) / 0.1
    assert table.loc["exponent", "value"] == pytest.approx(power, abs=1e-6)
    assert table.loc["ratio in lr", "value"] == pytest.approx(factor**power)
    assert table.loc["ratio in gamma_eff", "value"] == pytest.approx(factor ** (power - 1))
    assert peaks(frame)["inside"].all() and len(peaks(frame)) == 6


def test_intervals_are_students_over_seeds_of_the_logarithm():
    frame = measurements(planted(1.0))
    found = peaks(frame).pivot(index="seed", columns="alpha", values="lr")
    middle, half = interval(np.log(found[1.0] / found[0.1]))
    row = transfer_table(frame).loc["ratio in lr"]
    assert row["value"] == pytest.approx(math.exp(middle)) and row["low"] == pytest.approx(math.exp(middle - half))
    assert row["high"] == pytest.approx(math.exp(middle + half)) and row["seeds"] == 3
    middle, half = interval(np.log(found[0.3]))
    best = best_table(frame).set_index("alpha").loc[0.3]
    assert best["lr"] == pytest.approx(math.exp(middle)) and best["lr high"] == pytest.approx(math.exp(middle + half))


def test_the_verdict_says_no_more_than_the_intervals():
    text = " ".join(verdict(measurements(planted(1.0))))
    assert "lr: best at alpha 1 over best at 0.1 is" in text and "it does not stay the same" in text
    assert (
        "gamma_eff: best at alpha 1 over best at 0.1" in text
        and "no difference was seen; one by less than a factor of" in text
    )
    assert "it agrees with the transfer of gamma_eff (1)." in text
    assert "it agrees with the transfer of lr (0)." in " ".join(verdict(measurements(planted(0.0))))
    assert "of neither gamma_eff (1) nor lr (0)" in " ".join(verdict(measurements(planted(0.5))))
    wide = " ".join(verdict(measurements([*planted(0.0, seeds=(0,)), *planted(1.0, seeds=(1,))])))
    assert "gamma_eff (1) and of lr (0)" in wide
    assert verdict(measurements(planted(1.0, seeds=(0,)))) == ["One seed has no interval: nothing is claimed."]
    assert verdict(measurements(planted(1.0, alphas=(0.3,)))) == ["One alpha alone: nothing to compare."]


def test_a_best_value_at_an_end_is_named():
    lines = verdict(measurements(planted(1.0, at=0.3)))
    assert lines[0].startswith("At alpha 1 the best lr is at an end of those tried in 3 of 3 seeds")


def test_runs_without_scores_are_an_error_and_failed_ones_count_as_the_worst():
    runs = planted(1.0)
    for run in runs:
        if run.experiment.lr > 0.1:
            run.metrics, run.status = {}, "failed"
    frame = measurements(runs)
    assert frame["score"].isna().sum() == 9 and transfer_table(frame).loc["exponent", "value"] == pytest.approx(
        1, abs=0.2
    )
    for run in runs:
        run.metrics = {}
    with pytest.raises(ClipeduError, match="there is no best value"):
        measurements(runs)


def test_files_and_text(tmp_path):
    text = write_study(planted(1.0), tmp_path)
    assert "| ratio in gamma_eff |" in text and "momentum.csv" in text
    table = pd.read_csv(tmp_path / "momentum.csv")
    assert (
        list(table.columns) == ["variant", "alpha", "lr", "gamma_eff", "seed", "status", "score"] and len(table) == 63
    )
    assert (tmp_path / "momentum.png").read_bytes().startswith(b"\x89PNG")
    assert "gamma_eff = lr sqrt" in (tmp_path / "momentum.md").read_text()


def test_the_comparison_itself(tmp_path):
    """Six of its runs, very small: what differs is alpha and lr, and the scores are of pairs held out."""
    base = Experiment.preset("tiny", train_size=96, batch_size=24, epochs=1)
    only = [f"alpha{alpha:g}+lr{lr:g}" for alpha in (1.0, 0.1) for lr in RATES[2:5]]
    assert set(only) < set(COMPARISON.variants) and len(COMPARISON.variants) == 21
    cells = comparison_cells("momentum", base, [0], given={"train_size", "batch_size", "epochs"}, only=only)[0]
    one, other = cells[f"{only[0]}-seed0"], cells[f"{only[-1]}-seed0"]
    assert one.replace(lr=other.lr, optimizer_options=other.optimizer_options) == other
    assert one.optimizer == "scion" and one.weight_decay == 0 and one.holdout == 0.25
    runs = list(run_comparison({0: cells}, tmp_path, progress=False))
    assert "One seed has no interval" in write_study(runs, tmp_path)
    with pytest.raises(ClipeduError, match="holdout=None cannot be given: 'momentum' chooses settings"):
        comparison_cells("momentum", base, [0], given={"holdout"})
