"""Whole sweeps: what is chosen and scored, what goes on after a kill, and several processes on one."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

import clipedu
from clipedu import load_run
from clipedu.data.scenes.dataset import Scenes
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.run import open_sweep, sweep
from clipedu.training.trainer import Trainer
from tests.helpers.errors import message_of
from tests.helpers.processes import ROOT, environment
from tests.studies.sweep.conftest import GRID

pytestmark = pytest.mark.usefixtures("optuna")


def test_the_best_on_the_pairs_held_out_is_trained_on_all_and_scored(found, tiny):
    assert found.complete and len(found.trials) == 4 and set(found.trials["state"]) == {"finished"}
    means = found.trials.groupby("lr")["average"].mean()
    best = found.best.iloc[0]
    assert best["mean"] == means.max() and best["lr"] == means.idxmax() == found.chosen["all"]["lr"]
    (runs,) = found.runs.values()
    assert [run.experiment for run in runs] == [tiny.replace(lr=best["lr"], seed=seed) for seed in (0, 1)]
    assert best["top1 mean"] == sum(run.metrics["top1"] for run in runs) / 2 and best["scored"] == 2
    sets = {entry["split"]: entry["rows"] for entry in json.loads((runs[0].folder / "data.json").read_text())}
    assert sets == {"train": 48, "val": 20, "zeroshot": 20}


def test_the_same_call_again_trains_nothing_and_another_is_refused(found, tiny, monkeypatch):
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained again"))
    vary, folder = {"lr": [1e-3, 1e-2]}, found.folder
    again = clipedu.sweep(tiny, vary, folder, seeds=[0, 1], **GRID)
    assert again.complete and again.best.equals(found.best)
    assert "tries something else: seeds was '0 1' and is now '0'. Give another --folder" in message_of(
        sweep, tiny, vary, folder, **GRID
    )
    assert "epochs was '1' and is now '2'" in message_of(
        sweep, tiny.replace(epochs=2), vary, folder, seeds=[0, 1], **GRID
    )
    message = message_of(sweep, tiny, vary, folder, seeds=[0, 1], storage=f"sqlite:///{folder}/other.db", **GRID)
    assert "with its studies in its folder: go on without --storage" in message


def test_a_folder_in_use_is_refused_unless_joined(found, tiny):
    call = {"seeds": [0, 1], **GRID}
    code = (
        "import sys; from pathlib import Path; from clipedu.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(found.folder)], env=environment(), stdin=-1, stdout=-1, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout.readline() == "held\n"
        message = message_of(sweep, tiny, {"lr": [1e-3, 1e-2]}, found.folder, **call)
        assert f"is in use by process {holder.pid}" in message and "add --join" in message
        assert clipedu.sweep(tiny, {"lr": [1e-3, 1e-2]}, found.folder, join=True, **call).complete
    finally:
        holder.communicate("")


def test_while_others_have_trials_the_best_is_left_to_them(plan, tmp_path):
    with open_sweep(plan, tmp_path) as work:
        studies = work.studies
        assert work.missing == 2 and work.score_best() == {}
        for _ in range(2):
            trial = studies["all"].ask()
            trial.set_user_attr("home", work.home)
            trial.suggest_categorical("lr", [1e-3, 1e-2])
            trial.set_user_attr("settings", trial.params)
            trial.set_user_attr("scores", {"0": {"average": 3.0}})
            studies["all"].tell(trial, 3.0)
        (tmp_path / "best").mkdir()
        code = f"from pathlib import Path\nfrom clipedu.runs.lock import locked\nwith locked(Path({str(tmp_path / 'best')!r})): print('held', flush=True); input()"
        holder = subprocess.Popen(
            [sys.executable, "-c", code], env=environment(), stdin=-1, stdout=-1, text=True, cwd=ROOT
        )
        assert holder.stdout.readline() == "held\n"
        assert work.score_best() == {} and not work.result({}).complete
        holder.communicate("\n")


def test_data_that_are_missing_are_told_before_the_first_trial(plan, tmp_path):
    for changes in ({"data": "no-such-set"}, {"eval_data": "no-such-set"}):
        message = message_of(
            sweep, plan.base.replace(**changes), {"lr": [1e-3, 1e-2]}, tmp_path / str(*changes), **GRID
        )
        assert "unknown data set 'no-such-set'" in message
        assert not (tmp_path / str(*changes) / "trials").exists()


def test_data_that_have_changed_are_told_and_not_mixed(plan, tmp_path, monkeypatch):
    with open_sweep(plan, tmp_path) as work:
        next(work.trials(progress=False))
    original = Scenes.captions
    monkeypatch.setattr(Scenes, "captions", lambda self, row: [f"{text}!" for text in original(self, row)])
    message = message_of(sweep, plan.base, {"lr": [1e-3, 1e-2]}, tmp_path, **GRID)
    assert "the pairs scenes/train are others than those of the trials before (the captions)" in message


def test_the_folder_of_a_run_takes_no_sweep(plan, tmp_path):
    (tmp_path / "experiment.json").write_text("{}")
    assert "holds a run: give another --folder" in message_of(sweep, plan.base, {"lr": [1e-3, 1e-2]}, tmp_path, **GRID)
    assert not (tmp_path / "sweep.json").exists()


def test_a_variant_without_a_score_is_named(tiny, tmp_path, monkeypatch):
    def diverge(self, *args):
        raise clipedu.utils.finite.NotFinite("the loss is not finite at step 0")

    monkeypatch.setattr(Trainer, "_train_on", diverge)
    found = sweep(tiny, {"lr": [1e-3]}, tmp_path, **GRID)
    assert found.best.empty and found.remarks == ["No trial of all has a score."]
    assert "the loss is not finite at step 0" in found.trials["note"].iloc[0]
    assert "no trial has a score" in message_of(found.experiment)


def work(tiny, folder, killed):
    """What each of several processes does on one sweep; one is killed in its second step."""
    if killed:
        original = Trainer._train_on

        def step(self, *args):
            if self.step == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *args)

        Trainer._train_on = step
    found = sweep(tiny, {"lr": [1e-3, 2e-3, 1e-2]}, folder, join=True, **GRID)
    sys.exit(3 if found.complete else 0)


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_two_processes_do_each_trial_once_and_what_a_killed_one_left(tiny, tmp_path):
    base, fork = tiny.replace(checkpoint_every=1), multiprocessing.get_context("fork")
    killed = fork.Process(target=work, args=(base, tmp_path, True))
    killed.start()
    killed.join()
    left = load_run(tmp_path / "trials/all/0000/seed-0")
    assert killed.exitcode == -9 and left.note == "its process was killed" and left.has_checkpoint
    workers = [fork.Process(target=work, args=(base, tmp_path, False)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {worker.exitcode for worker in workers} <= {0, 3} and any(worker.exitcode == 3 for worker in workers)
    plan = make_plan(base, {"lr": [1e-3, 2e-3, 1e-2]}, sampler="grid", pruner="none", holdout=0.25)
    with open_sweep(plan, tmp_path) as again:
        trials = again.studies["all"].trials
        assert [trial.user_attrs["attempts"] for trial in trials] == [2, 1, 1]
        assert [trial.user_attrs["settings"]["lr"] for trial in trials] == [1e-3, 2e-3, 1e-2]
        assert all(trial.state.name == "COMPLETE" for trial in trials) and again.missing == 0
    assert len(list(tmp_path.glob("best/all/*/seed-0/metrics.json"))) == 1
    assert load_run(tmp_path / "trials/all/0000/seed-0").status == "finished"
