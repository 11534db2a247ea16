"""Scores during training: what a finished run would get, and no trace of them in the training."""

import json
import signal

import pandas as pd
import pytest
import torch

from clipedu import fit, load_run, resume, workflow
from clipedu.evaluation.metrics import AVERAGED_PREFIX
from clipedu.report.score_table import scores_text
from clipedu.runs.checkpoint import checkpoints, step_of
from clipedu.training.datasets import evaluation_sets
from tests.helpers.errors import message_of
from tests.helpers.failing_writes import killed_at
from tests.helpers.small_runs import QUIET, assert_same, assert_same_tables, stop_at


@pytest.fixture(scope="module")
def watched(small):
    return small.replace(evaluate_every=3, ema_decay=0.5, checkpoint_every=2)


@pytest.fixture(scope="module")
def seen(watched, tmp_path_factory):
    """The run that is scored after 3, 6 and 8 steps, with averaged weights."""
    return fit(watched, tmp_path_factory.mktemp("seen") / "run", **QUIET)


def test_the_training_is_the_same_with_and_without(seen, whole):
    theirs = whole.weights()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in seen.weights().items())
    assert_same_tables(seen.folder, whole.folder, ("history", "norms", "layers"))
    assert {key: value for key, value in seen.metrics.items() if not key.startswith(AVERAGED_PREFIX)} == whole.metrics
    assert len(whole.validation) == 0 and whole.best_step is None


def test_the_rows_are_scores_of_the_model_at_these_steps(seen, watched, tmp_path):
    rows = load_run(seen.folder).validation
    assert rows["step"].tolist() == [3, 3, 6, 6, 8, 8] and rows["epoch"].tolist()[::2] == [0.75, 1.5, 2.0]
    assert rows["weights"].tolist() == ["model", "averaged"] * 3
    last = rows.iloc[-2:].set_index("weights")
    for key in ("tr@1", "ir@5", "average", "alignment"):
        assert last.loc["model", key] == pytest.approx(seen.metrics[key], rel=1e-6)
        assert last.loc["averaged", key] == pytest.approx(seen.metrics[AVERAGED_PREFIX + key], rel=1e-6)
    best = seen.model("best")
    scores = workflow.scoring.score_set(best, evaluation_sets(watched)[0], progress=False)[0]
    row = rows[(rows["step"] == seen.best_step) & (rows["weights"] == "model")].iloc[0]
    assert (
        scores["alignment"] == pytest.approx(row["alignment"], rel=1e-5)
        and row["average"] == rows["average"][::2].max()
    )


def test_the_last_two_and_the_best_are_kept(seen):
    assert {step_of(path) for path in checkpoints(seen.folder)} == {6, 8} | {seen.best_step}


def test_scored_again_the_averaged_weights_are_scored_too(seen, watched, whole):
    before = dict(seen.metrics)
    run = load_run(seen.folder)
    assert workflow.score(run, evaluation_sets(watched), progress=False) == pytest.approx(before, rel=1e-5)
    assert not torch.equal(run.model(averaged=True).text_projection.weight, run.model().text_projection.weight)
    shown = f"with averaged weights (ema_decay): TR@1 {run.metrics['averaged/tr@1']:.2f}, IR@1 "
    assert shown in scores_text(run.metrics) and "averaged" not in scores_text(whole.metrics)


def test_wherever_it_is_killed_it_goes_on_to_the_same(seen, watched, tmp_path):
    """At each 29th file operation after the folder is made."""
    number, killed = 60, 0
    while killed_at(number, folder := tmp_path / str(number), lambda f=folder: fit(watched, f, **QUIET)):
        assert_same(resume(folder, **QUIET), seen)
        assert {step_of(path) for path in checkpoints(folder)} >= {8, seen.best_step}
        number, killed = number + 29, killed + 1
    assert killed > 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_is_scored_a_run_is_scored_when_it_goes_on(seen, watched, tmp_path, monkeypatch, number):
    from clipedu.workflow import validation

    original, calls = validation.score_set, []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # of step 6
            signal.raise_signal(number)
            pytest.fail("a signal is heard at once")
        return original(*args, **kwargs)

    monkeypatch.setattr(validation, "score_set", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(watched, tmp_path / "run", **QUIET)
    monkeypatch.undo()
    run = load_run(tmp_path / "run")
    who = "the user" if number == signal.SIGINT else "SIGTERM"
    assert (run.status, run.note) == ("stopped", f"by {who} after step 6 of 8") and run.validation["step"].max() == 3
    assert_same(resume(run.folder, **QUIET), seen)


def test_whatever_a_set_draws_at_random_the_training_does_not_see(watched, seen, tmp_path, monkeypatch):
    from clipedu.workflow import validation

    scored = validation.score_set

    def score_set(*args, **kwargs):
        torch.rand(5)
        return scored(*args, **kwargs)

    monkeypatch.setattr(validation, "score_set", score_set)
    run = fit(watched.replace(text_options={**watched.text_options, "dropout": 0.5}), tmp_path / "noisy", **QUIET)
    monkeypatch.undo()
    calm = fit(
        watched.replace(text_options={**watched.text_options, "dropout": 0.5}, evaluate_every=None),
        tmp_path / "calm",
        **QUIET,
    )
    assert run.history["loss"].tolist() == calm.history["loss"].tolist() != seen.history["loss"].tolist()


def test_damaged_rows_are_named(seen, tmp_path):
    path = seen.folder / "validation.csv"
    before = path.read_bytes()
    path.write_text("step,epoch\n3,0.75\n")
    assert f"{path} cannot be read: the column 'weights' is missing" in message_of(
        lambda: load_run(seen.folder).validation
    )
    path.write_bytes(before)
    metrics = json.loads((seen.folder / "metrics.json").read_text())
    (seen.folder / "metrics.json").write_text(json.dumps({**metrics, "averaged/tr@1": 200}))
    assert "averaged/tr@1" in message_of(load_run, seen.folder)
    (seen.folder / "metrics.json").write_text(json.dumps(metrics))
    assert isinstance(load_run(seen.folder).validation, pd.DataFrame)


def test_whoever_asks_gets_the_scores_and_can_end_the_run(watched, seen, tmp_path):
    heard = []

    def hear(number, scores):
        heard.append((number, scores["average"], scores[f"{AVERAGED_PREFIX}average"]))
        if number == 2:
            raise RuntimeError("that is enough")

    with pytest.raises(RuntimeError, match="that is enough"):
        fit(watched, tmp_path / "run", on_scores=hear, **QUIET)
    run = load_run(tmp_path / "run")
    assert run.status == "stopped" and "that is enough" in run.note
    own = seen.validation
    rows = [own[own["weights"] == weights]["average"].tolist()[:2] for weights in ("model", "averaged")]
    assert [number for number, *_ in heard] == [1, 2]
    assert [score for _, *two in heard for score in two] == pytest.approx(
        [rows[0][0], rows[1][0], rows[0][1], rows[1][1]]
    )
    again = []
    run = resume(tmp_path / "run", on_scores=lambda number, scores: again.append(number), **QUIET)
    assert_same(run, seen)
    assert again in ([], [2])  # as it was stopped before or after the checkpoint of that step


def test_a_run_with_pairs_held_out_goes_on_as_any_other(small, tmp_path, monkeypatch):
    experiment = small.replace(holdout=0.25, batch_size=3, evaluate_every=2)
    whole = fit(experiment, tmp_path / "whole", **QUIET)
    sets = {entry["split"]: entry["rows"] for entry in json.loads((whole.folder / "data.json").read_text())}
    assert sets == {"train": 12, "held-out": 4} and whole.metrics["retrieval_images"] == 4
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            fit(experiment, tmp_path / "run", **QUIET)
    assert_same(resume(tmp_path / "run", **QUIET), whole)
