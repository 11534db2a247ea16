"""A trial: its runs and their mean, pruning, failure, and going on."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest

from clipedu import ClipeduError, load_run
from clipedu.runs.checkpoint import checkpoints
from clipedu.studies.sweep.claims import next_trial
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.storage import open_storage, open_studies
from clipedu.studies.sweep.trials import SharedData, run_trial
from clipedu.training.trainer import Trainer
from tests.helpers.small_runs import stop_at

pytestmark = pytest.mark.usefixtures("optuna")


def do(plan, folder, data=None):
    """Do the next trial: how it ended, and the trial as it is kept."""
    studies = open_studies(open_storage(folder), plan, "sweep")
    with next_trial(studies, plan, folder, "here") as claim:
        return run_trial(claim, plan, data or SharedData(2), progress=False), claim.frozen


def test_the_score_is_the_mean_over_seeds_on_the_pairs_held_out(plan, tmp_path):
    plan = replace(plan, seeds=(0, 1), metric="ir@5")
    state, frozen = do(plan, tmp_path)
    runs = [load_run(tmp_path / f"trials/all/0000/seed-{seed}") for seed in (0, 1)]
    assert state == "finished" and frozen.value == np.mean([run.metrics["ir@5"] for run in runs])
    assert frozen.user_attrs["scores"]["1"]["tr@1"] == runs[1].metrics["tr@1"]
    for run in runs:
        sets = {entry["split"]: entry["rows"] for entry in json.loads((run.folder / "data.json").read_text())}
        assert sets == {"train": 36, "held-out": 12} and run.metrics["retrieval_images"] == 12
        assert "top1" not in run.metrics and not checkpoints(run.folder)


def test_a_trial_that_was_stopped_goes_on_from_its_checkpoint(plan, tmp_path, monkeypatch):
    whole = do(plan, tmp_path / "whole")[1].value if (tmp_path / "whole").mkdir() is None else None
    (tmp_path / "cut").mkdir()
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            do(plan, tmp_path / "cut")
    run = load_run(tmp_path / "cut/trials/all/0000/seed-0")
    assert run.status == "stopped" and len(checkpoints(run.folder)) == 1
    state, frozen = do(plan, tmp_path / "cut")
    assert (state, frozen.number, frozen.value, frozen.user_attrs["attempts"]) == ("finished", 0, whole, 1)


def test_one_that_diverges_has_failed_and_says_why(plan, tmp_path, monkeypatch):
    original = Trainer._train_on

    def diverge(self, *args):
        output = original(self, *args)
        return replace(output, total=output.total * float("nan"))

    monkeypatch.setattr(Trainer, "_train_on", diverge)
    state, frozen = do(plan, tmp_path)
    assert state == frozen.state.name.lower() + "ed" == "failed"
    assert "not finite at step 0" in frozen.user_attrs["note"]


def test_settings_that_do_not_go_together_have_failed(tiny, tmp_path):
    plan = make_plan(tiny, {"batch_size": [32, 16]}, sampler="grid", holdout=0.5, pruner="none")
    state, frozen = do(plan, tmp_path)
    assert state == "failed" and "48 pairs" not in frozen.user_attrs["note"]
    assert (
        "batch_size=32 is larger than the data: scenes has 24 pairs left to train on with holdout=0.5"
        in frozen.user_attrs["note"]
    )
    assert do(plan, tmp_path)[0] == "finished"


def test_a_full_disk_is_no_failure_of_the_settings(plan, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise ClipeduError("history.csv cannot be written: no space left")

    with monkeypatch.context() as patch:
        patch.setattr("clipedu.runs.run.Run.append_rows", full)
        with pytest.raises(ClipeduError, match="no space left"):
            do(plan, tmp_path)
    assert do(plan, tmp_path)[1].number == 0


def test_one_that_is_begun_too_often_has_failed(plan, tmp_path):
    studies = open_studies(open_storage(tmp_path), plan, "sweep")
    for _ in range(3):
        with next_trial(studies, plan, tmp_path, "here") as claim:
            assert claim.number == 0  # and its process is killed
    state, frozen = do(plan, tmp_path)
    assert (state, frozen.number) == ("failed", 0) and "it was begun 3 times" in frozen.user_attrs["note"]


def test_a_damaged_run_of_it_is_named(plan, tmp_path):
    folder = tmp_path / "trials/all/0000/seed-0"
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{")
    with pytest.raises(ClipeduError, match=r"experiment.json.*Remove .*seed-0 to have this run done again"):
        do(plan, tmp_path)


def test_what_is_worse_than_the_median_is_pruned_in_its_first_seed(optuna, tiny, tmp_path, monkeypatch):
    """The scores during training are made up: the seventh trial is worse than all before it."""
    plan = make_plan(tiny.replace(evaluate_every=1), ["lr=1e-3..1e-2"], trials=7, holdout=0.25, seeds=(0, 1))
    study = open_studies(open_storage(tmp_path), plan, "sweep")["all"]
    count = [5]
    for _ in range(count[0]):
        study.add_trial(
            optuna.create_trial(
                params={"lr": 2e-3}, distributions={"lr": optuna.distributions.FloatDistribution(1e-3, 1e-2)}, value=50.0,
                intermediate_values={1: 50.0, 2: 50.0}, user_attrs={"home": "here"},
            )
        )  # fmt: skip

    def scores(model, pairs, progress):
        found = {"tr@1": 50.0, "ir@1": 50.0} if count[0] < 6 else {"tr@1": 1.0, "ir@1": 1.0}
        return {**found, "retrieval_images": 12, "retrieval_captions": 60}, None

    monkeypatch.setattr("clipedu.workflow.validation.score_set", scores)
    monkeypatch.setattr("clipedu.workflow.scoring.score_set", scores)
    data, states = SharedData(2), []
    for number in (5, 6):
        count[0] = number
        state, frozen = do(plan, tmp_path, data)
        states.append(state)
    assert states == ["finished", "pruned"]
    assert frozen.value == 1.0 and frozen.intermediate_values == {1: 1.0}
    run = load_run(tmp_path / "trials/all/0006/seed-0")
    assert run.status == "stopped" and "Pruned" in run.note and not checkpoints(run.folder)
    assert not (tmp_path / "trials/all/0006/seed-1").exists()


def test_data_are_shared_by_trials_that_need_the_same(tiny, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "clipedu.studies.sweep.trials.load_data", lambda e: opened.append((e.data_seed, e.image_size)) or object()
    )
    data = SharedData(2)
    for changes in (
        {},
        {"lr": 0.5, "seed": 1},
        {"data_seed": 1},
        {"loss": "cyclip", "epochs": 9},
        {"data_seed": 1, "seed": 2},
    ):
        data.of(tiny.replace(**changes))
    assert opened == [(0, 32), (1, 32)]
    data.of(tiny.replace(image_size=64))
    data.of(tiny)
    assert opened == [(0, 32), (1, 32), (0, 64), (0, 32)]


def test_ctrl_c_does_not_count_as_an_attempt(plan, tmp_path, monkeypatch):
    original = Trainer._train_on

    def stop(self, *args):
        signal.raise_signal(signal.SIGINT)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", stop)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                do(plan, tmp_path)
    state, frozen = do(plan, tmp_path)
    assert (state, frozen.user_attrs["attempts"]) == ("finished", 1)
