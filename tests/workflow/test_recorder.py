"""What a recorder writes: a row a step, and those of an earlier part up to the checkpoint."""

import pandas as pd
import pytest

from clipedu import load_run
from clipedu.runs.folders import new_run
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.workflow.recorder import RunRecorder


@pytest.fixture
def trainer(quick):
    experiment = quick.replace(norms_every=2)
    return prepare(experiment, load_training_data(experiment), progress=False)


def test_rows_of_all_steps(trainer, tmp_path):
    run = new_run(trainer.experiment, tmp_path / "run")
    recorder = RunRecorder(run, trainer)
    records = []
    for record in trainer.run():
        recorder.append(record)
        records.append(record)
    recorder.save()
    again = load_run(run.folder)
    assert again.history["step"].tolist() == list(range(8))
    assert again.history["loss"].tolist() == pytest.approx([record.loss for record in records], rel=1e-6)
    assert {"epoch", "lr", "image_norm", "text_norm", "pairs_per_second", "seconds"} <= set(again.history)
    assert again.norms.groupby("step")["part"].apply(list).tolist() == [["all", "image", "text"]] * 8
    assert again.layers["step"].unique().tolist() == [0, 2, 4, 6]
    assert run.seconds == trainer.seconds > 0 and run.has_checkpoint
    assert run.checkpoint().name == "step-00000008"


def test_a_resumed_run_keeps_the_rows_before_its_checkpoint(trainer, tmp_path):
    run = new_run(trainer.experiment, tmp_path / "run")
    first = RunRecorder(run, trainer)
    for record in trainer.run():
        first.append(record)
    first.write_rows()
    trainer.step = trainer.monitor.first_step = 5  # as if the last checkpoint had been there
    resumed = RunRecorder(load_run(run.folder), trainer)
    resumed.append(record)  # a row of step 7
    resumed.write_rows()
    assert pd.read_csv(run.folder / "history.csv")["step"].tolist() == [0, 1, 2, 3, 4, 7]
    assert pd.read_csv(run.folder / "norms.csv")["step"].max() == 7


def test_layers_of_a_step_that_failed_are_left_out(trainer, tmp_path):
    run = new_run(trainer.experiment, tmp_path / "run")
    recorder, loop = RunRecorder(run, trainer), trainer.run()
    for _ in range(2):
        recorder.append(next(loop))
    next(loop)  # step 2 is measured, but gives no record: as if it had raised
    recorder.write_rows()
    assert run.layers["step"].unique().tolist() == [0]


def test_checkpoints_by_steps_and_after_epochs(trainer, tmp_path):
    run = new_run(trainer.experiment.replace(checkpoint_every=3), tmp_path / "run")
    recorder, due = RunRecorder(run, trainer), []
    for record in trainer.run():
        recorder.append(record)
        if recorder.due:
            recorder.save()
            due.append(trainer.step)
    assert due == [3, 4, 6, 8] and load_run(run.folder).history["step"].tolist() == list(range(8))


def test_checkpoints_by_the_minute_take_a_small_share_of_the_time(trainer, tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("clipedu.workflow.recorder.time.monotonic", lambda: now[0])
    recorder = RunRecorder(new_run(trainer.experiment.replace(checkpoint_every="2min"), tmp_path / "run"), trainer)
    trainer.step = 1
    for seconds, due in ((0, False), (119, False), (120, True)):
        now[0] = 1000.0 + seconds
        assert recorder.due is due
    monkeypatch.setattr(type(recorder), "write_rows", lambda self: now.__setitem__(0, now[0] + 9))  # it takes 9 s
    recorder.save()
    for seconds, due in ((0, False), (299, False), (301, True)):
        now[0] = 1129.0 + seconds
        assert recorder.due is due


def test_nothing_measured_yet(trainer, tmp_path):
    run = new_run(trainer.experiment, tmp_path / "run")
    RunRecorder(run, trainer).write_rows()
    assert len(load_run(run.folder).history) == 0
