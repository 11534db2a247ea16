"""The loop of a run: its status says how it has ended, and what was done is kept."""

import pytest

from clipedu import Experiment, fit, resume
from clipedu.runs.folders import load_run, new_run
from clipedu.training.datasets import load_data
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.interrupts import Terminated
from clipedu.utils.memory import OutOfMemory
from clipedu.workflow.keeping import keep_beside_checkpoints
from clipedu.workflow.loop import end_recorded, train_run
from clipedu.workflow.tracking import Tracking
from clipedu.workflow.validation import Validation
from tests.helpers.small_runs import QUIET, assert_same, assert_same_tables, stop_at


@pytest.mark.parametrize(
    ("error", "status", "note"),
    [
        (KeyboardInterrupt(), "stopped", "by the user while it was scored"),
        (Terminated(), "stopped", "by SIGTERM while it was scored"),
        (NotFinite("the embedding is NaN"), "failed", "the embedding is NaN"),
        (ClipeduError("no space"), "stopped", "while it was scored by ClipeduError: no space"),
        (ValueError("one\ntwo"), "stopped", "while it was scored by ValueError: one"),
        (MemoryError(), "stopped", "while it was scored by OutOfMemory: "),
    ],
)
def test_the_status_says_how_a_block_has_ended(error, status, note, tmp_path):
    run = new_run(Experiment(), tmp_path / "run")
    expected = OutOfMemory if isinstance(error, MemoryError) else type(error)
    with pytest.raises(expected), end_recorded(run, "while it was scored"):
        raise error
    kept = load_run(tmp_path / "run")
    assert kept.status == status and kept.note.startswith(note) and "\n" not in kept.note


def test_a_block_that_ends_well_says_nothing(tmp_path):
    run = new_run(Experiment(), tmp_path / "run")
    with end_recorded(run, "while it was scored"):
        pass
    assert load_run(tmp_path / "run").status == "running"


def test_progress_is_told_and_an_error_in_it_keeps_a_stopped_run(tmp_path):
    experiment = Experiment(train_size=48, batch_size=16, epochs=2, embedding_dim=16, checkpoint_every=2)
    data = load_data(experiment)
    trainer, seen = prepare(experiment, data, progress=False), []
    run = new_run(experiment, tmp_path / "run")
    keep_beside_checkpoints(run, trainer, data)

    def told(done, of):
        seen.append((done, of))
        if done == 4:
            raise ValueError("enough")

    with Tracking(run, 0) as tracking, pytest.raises(ValueError, match="enough"):
        train_run(run, trainer, Validation(run, trainer, data.scored), tracking, progress=told)
    assert seen == [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6)]
    kept = load_run(tmp_path / "run")
    assert kept.status == "stopped" and kept.note == "by ValueError: enough"
    assert kept.checkpoint().name == "step-00000003"  # written at the end of the first epoch


def late(monkeypatch):
    """Look at records as on a GPU."""
    monkeypatch.setattr(Trainer, "look_late", lambda self: setattr(self, "late", True))


@pytest.mark.parametrize("every", [1, 3])
def test_looked_at_late_a_run_is_the_same(tmp_path, monkeypatch, every):
    experiment = Experiment(
        train_size=64, batch_size=16, epochs=2, embedding_dim=16, checkpoint_every=every, evaluate_every="1epoch"
    )
    whole = fit(experiment, tmp_path / "whole", **QUIET)
    late(monkeypatch)
    run = fit(experiment, tmp_path / "late", **QUIET)
    assert_same(run, whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 6)
        fit(experiment, tmp_path / "stopped", **QUIET)
    stopped = load_run(tmp_path / "stopped")
    assert stopped.note == "by the user after step 6 of 8" and len(stopped.history) == 6
    assert_same(resume(tmp_path / "stopped", **QUIET), whole)


def test_a_run_that_fails_late_keeps_the_rows_of_its_good_steps(tmp_path, monkeypatch):
    experiment = Experiment(
        train_size=64, batch_size=16, epochs=2, embedding_dim=16, optimizer="sgd", lr=1e12, warmup=0
    )
    folders = tmp_path / "at once", tmp_path / "late"
    notes = []
    for folder in folders:
        with pytest.raises(NotFinite):
            fit(experiment, folder, **QUIET)
        notes.append(load_run(folder).note)
        late(monkeypatch)
    assert notes[0] == notes[1] and "is not finite at step " in notes[0]
    assert_same_tables(folders[1], folders[0])
