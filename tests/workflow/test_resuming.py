"""A run that was stopped, killed, damaged or out of room goes on to the numbers of one that was not."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from clipedu import ClipeduError, fit, load_run, resume
from clipedu.cli.parser import main
from clipedu.runs.checkpoint import checkpoints, step_of
from clipedu.runs.lock import locked
from clipedu.studies.grid import run_grid
from clipedu.training.datasets import load_data
from clipedu.training.trainer import Trainer
from tests.helpers.errors import message_of
from tests.helpers.failing_writes import ROOM, acting_at, full_at, killed_at
from tests.helpers.shard_maker import make_shards
from tests.helpers.small_runs import QUIET, assert_same, stop_at


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# full disks and kills


def test_whatever_write_of_a_resume_fails_the_next_resume_goes_on(stopped, whole, tmp_path):
    """One write after the other (here every fourth) finds the disk full; what was there before is never lost."""
    (stopped / "tokenizer" / "tokenizer.json").write_text("{")
    (stopped / "text_encoder" / "config.json").write_text("{")
    (stopped / "data.json").unlink()
    number = 0
    while True:
        folder = shutil.copytree(stopped, tmp_path / str(number))
        with full_at(number, folder) as seen:
            try:
                resume(folder, **QUIET)
            except ClipeduError as error:
                assert "cannot be written: No space left on device" in str(error) and str(folder) in str(error)
        if len(seen) <= number:
            break
        assert_same(resume(folder, **QUIET), whole)
        number += 4
    assert number > 40


def test_a_disk_that_stays_full_leaves_a_status_that_says_so(stopped, whole, monkeypatch):
    original = Trainer._train_on

    def fill(self, *arguments):
        full.__enter__()
        monkeypatch.undo()
        return original(self, *arguments)

    full = full_at(None, stopped)
    monkeypatch.setattr(Trainer, "_train_on", fill)
    try:
        message = message_of(resume, stopped, **QUIET)
    finally:
        full.__exit__(None, None, None)
    assert f"{stopped / 'history.csv'} cannot be written: No space left on device" in message
    run = load_run(stopped)
    assert run.status == "stopped" and f"{stopped / 'history.csv'} cannot be written" in run.note
    assert_same(resume(stopped, **QUIET), whole)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("before", [0, 3])
def test_a_disk_that_fails_in_the_middle_of_an_epoch_loses_nothing(small, whole, tmp_path, monkeypatch, number, before):
    """The tables, of which an append has begun, are those of the last checkpoint; and the line says how to go on."""
    folder, original = tmp_path / "run", Trainer._train_on

    def refuse():
        raise OSError(number, os.strerror(number))

    disk = acting_at(None, folder, refuse, ROOM)

    def fail(self, *arguments):
        if self.step == before:
            disk.__enter__()
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", fail)
        try:
            message = message_of(fit, small.replace(checkpoint_every=3), folder, **QUIET)
        finally:
            disk.__exit__(None, None, None)
    assert f"{folder / 'history.csv'} cannot be written: {os.strerror(number)}. " in message
    kept = "step-00000003 is kept" if before else "There is no checkpoint yet"
    assert f"{kept}. When the disk has room and can be written, go on with: clipedu train --resume {folder}" in message
    run = load_run(folder)
    assert len(run.history) == before
    assert run.status == "stopped" and "cannot be written" in run.note
    assert_same(resume(folder, **QUIET), whole)


def test_killed_at_any_moment_a_cell_is_done_by_the_same_command(small, whole, tmp_path):
    """At every fifth file operation; `scripts/kill_and_resume.py` kills at any moment."""
    data = load_data(small)
    number, killed = 0, 0
    while True:
        folder = tmp_path / str(number)
        if not killed_at(number, folder, lambda f=folder: list(run_grid({"cell": small}, f, progress=False))):
            break
        killed += 1
        (run,) = run_grid({"cell": small}, folder, data=lambda: data, progress=False)
        assert_same(run, whole)
        assert not list(folder.rglob("*.partial"))
        number += 5
    assert killed > 12


def test_a_killed_process_leaves_a_run_that_says_so(small, tmp_path):
    folder = tmp_path / "run"
    assert killed_at(60, folder, lambda: fit(small, folder, **QUIET))
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    assert (load_run(folder).status, load_run(folder).note) == ("stopped", "its process was killed")


# the lock


def test_a_run_in_use_is_told_at_once_by_every_command_that_writes(small, unreported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("clipedu.studies.cell.PATIENCE", 0.2)  # a grid waits for a worker that is about to end
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with locked(unreported):
            os.write(ready[1], b"x")
            os.read(done[0], 1)
            os._exit(0)
    os.read(ready[0], 1)
    edit(unreported / "status.json", status="running")
    for words in (["train", "--resume"], ["evaluate"], ["train", "--folder"]):
        assert main([*words, str(unreported)]) == 2
        said = capsys.readouterr().err
        assert f"{unreported} is in use by process {child} on " in said and said.count("\n") == 1
    with pytest.raises(ClipeduError, match=f"in use by process {child}"):
        list(run_grid({unreported.name: small}, unreported.parent, progress=False))
    os.write(done[1], b"x")
    os.waitpid(child, 0)


@pytest.mark.parametrize("words", [["grid"], ["train"], ["compare", "norms"], ["quickstart"]])
def test_one_of_several_processes_without_the_others_is_refused_in_a_line(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(words) == 2
    assert "MASTER_ADDR, MASTER_PORT is not set" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.json"))


# what a run keeps


def test_what_is_damaged_beside_the_checkpoint_is_made_again(stopped, whole, caplog):
    (stopped / "tokenizer" / "captions.json").write_text('{"clean": true}')
    edit(stopped / "text_encoder" / "config.json", n_layers=3)
    run = resume(stopped, **QUIET)
    assert "the tokenizer in" in caplog.text and "is damaged: making it again" in caplog.text
    assert "the text configuration in" in caplog.text
    assert_same(run, whole)
    assert run.model().tokenizer.clean is False
    assert json.loads((stopped / "text_encoder" / "config.json").read_text())["n_layers"] == 1


@pytest.mark.parametrize("lost", ["text_encoder/config.json", "metrics.json"])
def test_a_finished_run_gets_back_what_was_changed_or_lost(unreported, whole, lost):
    assert main(["report", str(unreported)]) == 0
    if lost == "metrics.json":
        (unreported / lost).write_text("{}")
    else:
        edit(unreported / lost, n_heads=1)
    run = resume(unreported, **QUIET)
    assert_same(run, whole)
    assert json.loads((unreported / lost).read_text()) == json.loads((whole.folder / lost).read_text())


def test_what_is_whole_is_not_written_again(stopped):
    before = {
        path: path.stat().st_mtime_ns for name in ("tokenizer", "text_encoder") for path in (stopped / name).iterdir()
    }
    resume(stopped, **QUIET)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_tokenizer_that_cannot_be_made_again_is_left_alone(stopped, monkeypatch):
    from clipedu.data.tokenizer import train_tokenizer

    (stopped / "tokenizer" / "tokenizer.json").write_text("{")
    other = train_tokenizer(["quite other words", "these are"], 12)
    monkeypatch.setattr("clipedu.training.datasets.build_tokenizer", lambda *args: other)
    assert "the one made again of the data is another: put a copy" in message_of(resume, stopped, **QUIET)
    assert (stopped / "tokenizer" / "tokenizer.json").read_text() == "{"


# what is missing of a run


def test_interrupted_while_scored_or_reported_a_run_is_not_finished(stopped, whole, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    for where, note in (
        ("clipedu.workflow.scoring.score_pairs", "scored"),
        ("clipedu.report.writer.write_report", "drawn"),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(where, interrupt)
            resume(stopped, progress=False)
        run = load_run(stopped)
        assert run.status == "stopped" and note in run.note and run.note.startswith("by the user while")
    assert run.scored == 8 and not (stopped / "report.html").exists()
    monkeypatch.setattr("clipedu.workflow.pipeline.prepare_resumed", lambda *args, **kwargs: pytest.fail("not needed"))
    run = resume(stopped, progress=False)
    assert (stopped / "report.html").is_file() and "its report was drawn" not in (stopped / "report.md").read_text()
    assert_same(load_run(stopped), whole)


def test_a_finished_run_without_a_report_gets_it(unreported, caplog):
    caplog.set_level(logging.INFO, "clipedu")
    before = (unreported / "metrics.json").stat().st_mtime_ns
    assert resume(unreported, **QUIET).status == "finished" and not (unreported / "report.html").exists()
    resume(unreported, progress=False)
    assert (unreported / "report.html").is_file() and "drawing its report" in caplog.text
    assert (unreported / "metrics.json").stat().st_mtime_ns == before


# checkpoints


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checkpoint.json"])
def test_a_damaged_checkpoint_is_passed_over(stopped, unreported, whole, caplog, name):
    for folder, step in ((stopped, 4), (unreported, 4)):
        flip(load_run(folder).checkpoint() / name)
        if name == "model.safetensors":
            assert f"{name} cannot be read" in message_of(load_run(folder).model)
        assert_same(resume(folder, **QUIET), whole)
        assert f"the checkpoint before it, step-{step:08d}" in caplog.text
        caplog.clear()


def test_killed_after_it_was_passed_over_a_finished_run_is_not_taken_for_whole(unreported, whole, monkeypatch):
    flip(load_run(unreported).checkpoint() / "state.pt")
    monkeypatch.setattr("clipedu.workflow.pipeline.prepare_resumed", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        resume(unreported, **QUIET)
    monkeypatch.undo()
    assert_same(resume(unreported, **QUIET), whole)


# settings


def test_an_edited_experiment_is_refused(stopped, unreported, whole):
    for folder in (stopped, unreported):
        original = (folder / "experiment.json").read_text()
        edit(folder / "experiment.json", lr=0.5, epochs=3)
        edit(folder / "status.json", status="stopped")
        message = message_of(resume, folder, **QUIET)
        assert "lr was 0.003 and is now 0.5" in message
        assert "epochs was 2 and is now 3" in message and "Put the old values back" in message
        assert "is not what the run was trained with" in message_of(load_run(folder).model)
        (folder / "experiment.json").write_text(original)
        assert_same(resume(folder, **QUIET), whole)


def test_a_field_taken_out_of_the_experiment_is_noticed(stopped):
    settings = json.loads((stopped / "experiment.json").read_text())
    del settings["embedding_dim"]
    (stopped / "experiment.json").write_text(json.dumps(settings))
    assert "experiment.json cannot be read: the field 'embedding_dim' is missing" in message_of(
        resume, stopped, **QUIET
    )
    settings["embedding_dim"] = 8
    del settings["image_size"]  # which older versions need not have had: it is what it is by default, and that differs
    (stopped / "experiment.json").write_text(json.dumps(settings))
    assert "image_size was 16 and is now" in message_of(resume, stopped, **QUIET)


def test_what_changes_no_result_may_be_changed(stopped, whole, small, caplog):
    moved = shutil.copytree(small.data, stopped.parent / "elsewhere" / "own")
    edit(stopped / "experiment.json", norms_every=1, checkpoint_every=1, keep_checkpoints=3, data=str(moved))
    assert_same(resume(stopped, **QUIET), whole, ("history", "norms"))
    assert [step_of(path) for path in checkpoints(stopped)] == [8, 7, 6]
    assert "norms_every was 3 and is now 1" in caplog.text and f"and is now {str(moved)!r}" in caplog.text


def test_what_changes_no_result_may_be_given_when_a_run_goes_on(stopped, whole, caplog, capsys, monkeypatch):
    monkeypatch.setattr("clipedu.report.writer.write_report", lambda runs, folder: None)
    before = (stopped / "experiment.json").read_text()
    assert "lr=0.5 cannot be changed when a run goes on" in message_of(resume, stopped, lr=0.5, **QUIET)
    assert "checkpoint_every='often' must be a number of steps" in message_of(
        resume, stopped, checkpoint_every="often", **QUIET
    )
    assert (stopped / "experiment.json").read_text() == before
    words = ["train", "--resume", str(stopped), "--keep-checkpoints", "1", "--checkpoint-every", "5", "--device", "cpu"]
    assert main(words) == 0, capsys.readouterr()
    run = load_run(stopped)
    assert (run.experiment.keep_checkpoints, run.experiment.checkpoint_every) == (1, 5)
    assert "goes on with other settings: checkpoint_every was '1min' and is now 5" in caplog.text
    assert_same(run, whole)
    assert [step_of(path) for path in checkpoints(stopped)] == [8]
    assert resume(stopped, keep_checkpoints=4, **QUIET).experiment.keep_checkpoints == 1  # nothing is left to do


def test_other_pairs_are_refused(stopped, tmp_path):
    other = make_shards(tmp_path / "other" / "own", 16, name="own")
    make_shards(other, 3, name="own", split="val")
    edit(stopped / "experiment.json", eval_data=str(other))
    assert "names other pairs to score on" in message_of(resume, stopped, **QUIET)
    edit(stopped / "experiment.json", eval_data=None, data=str(other))
    message_of(resume, stopped, **QUIET)


def test_a_run_of_another_version_says_so(stopped, whole, caplog):
    edit(stopped / "environment.json", torch="1.0")
    assert_same(resume(stopped, **QUIET), whole)
    assert "began with torch 1.0 and goes on with" in caplog.text


def test_a_run_of_an_older_version_goes_on(stopped, whole):
    """It has no sums, no experiment in its checkpoint, no format, and its data by a relative path."""
    for path in stopped.rglob("checkpoint.json"):
        path.unlink()
    settings = json.loads((stopped / "experiment.json").read_text())
    del settings["format"]
    (stopped / "experiment.json").write_text(json.dumps(settings))
    (stopped / ".lock").unlink()
    assert_same(resume(stopped, **QUIET), whole)


# cells of a grid


def test_a_damaged_cell_is_set_aside_and_done_again(small, whole, unreported, caplog):
    (unreported / "experiment.json").write_text("{")
    (run,) = run_grid({unreported.name: small}, unreported.parent, progress=False)
    assert_same(run, whole)
    assert (unreported.parent / f".damaged-{unreported.name}" / "experiment.json").read_text() == "{"
    assert "set aside" in caplog.text


def test_a_cell_of_other_settings_or_of_a_newer_version_is_not_set_aside(small, unreported):
    for changes, said in (({"lr": 0.5}, "with other settings: lr was 0.5"), ({"format": 99}, "newer clipedu")):
        original = (unreported / "experiment.json").read_text()
        edit(unreported / "experiment.json", **changes)
        with pytest.raises(ClipeduError, match=said):
            list(run_grid({unreported.name: small}, unreported.parent, progress=False))
        (unreported / "experiment.json").write_text(original)


def test_a_cell_goes_on_with_new_settings_that_change_no_result(small, whole, stopped, unreported, caplog):
    often = small.replace(checkpoint_every=1, keep_checkpoints=5, norms_every=3)
    cells = {stopped.name: often, unreported.name: often}
    there = stopped.parent
    runs = list(run_grid(cells, there, progress=False))
    for run in runs:
        assert_same(run, whole)
    assert runs[0].experiment == load_run(stopped).experiment != small and len(checkpoints(stopped)) == 4
    assert load_run(unreported).experiment.checkpoint_every == "1min"  # it was finished
    with pytest.raises(ClipeduError, match="with other settings: device was 'cpu'"):
        list(run_grid({stopped.name: small.replace(device="auto")}, there, progress=False))


def test_a_run_of_a_relative_folder_is_resumed_and_scored_from_anywhere(small, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(Path(small.data).parent)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 6)
        fit(small.replace(data="own"), tmp_path / "run", **QUIET)
    monkeypatch.chdir(tmp_path)
    assert_same(resume("run", **QUIET), whole)
    monkeypatch.chdir("/")
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "--data own" in load_run(tmp_path / "run").command


def test_what_needs_no_lock_writes_none(unreported):
    """A run that is complete is returned, and read, as it is: its folder may be read-only."""
    before = {path: path.stat().st_mtime_ns for path in unreported.rglob("*")}
    with full_at(None, unreported):
        assert resume(unreported, **QUIET).status == "finished"
        load_run(unreported).model()
    assert {path: path.stat().st_mtime_ns for path in unreported.rglob("*")} == before
