"""From an experiment to a run's folder: train, score, draw, report.

    fit(experiment)          a new run, start to finish
    resume(folder)           a stopped run, from its last checkpoint; the same numbers as if it had never stopped
    score(run, sets)         evaluate a finished or stopped run again

Ctrl-C, SIGTERM, a NaN and a crash leave a run whose status says what happened, with all that was done up to its last checkpoint. A run
is finished when it is trained, scored and reported; `resume` does what is missing of that.
"""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import hashed_once
from clipedu.runs.blended import check_not_blended
from clipedu.runs.folders import check_free, load_run, make_folder, new_run, new_run_folder
from clipedu.runs.lock import locked
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.settings import check_going_on
from clipedu.trackers import check_installed
from clipedu.training.datasets import Data, check_held_out
from clipedu.training.distributed import check_shared, load_shared_data
from clipedu.training.memory import memory_named
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.utils.files import remove_partial_files, write_json, write_text
from clipedu.utils.interrupts import StopAfterStep, terminable
from clipedu.utils.ranks import is_first, joined, meet, of_first, together
from clipedu.workflow.extension import history_note
from clipedu.workflow.keeping import keep_beside_checkpoints
from clipedu.workflow.loop import Progress, end_recorded, train_run
from clipedu.workflow.resuming import is_complete, lacks_only_report, prepare_resumed
from clipedu.workflow.scoring import score
from clipedu.workflow.tracking import Tracking, track_finished
from clipedu.workflow.validation import OnScores, Validation

log = logging.getLogger("clipedu")


@joined()
def fit(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    data: Data | None = None,
    progress: Progress = True,
    report: bool = True,
    on_scores: OnScores | None = None,
) -> Run:
    """Train, score and report one experiment in a run's folder.

    Paths in the experiment are made absolute, so that the run can be used from any working directory.

    Args:
        experiment: what to run.
        folder: where; default runs/<time>-<data>-<loss>-<optimizer>. Must be new or empty.
        data: `load_data(experiment)`, where a caller has it already.
        progress: show a progress bar; or a function that is called instead, before the first step and after each one, with the
            number of steps done and that of all.
        report: draw the plots and write report.html.
        on_scores: called each time the model is scored during training (`evaluate_every`), with the number of that time, from
            1, and the scores by key of `METRICS`. What it raises ends the run, which is kept as stopped.
    Returns:
        the finished run.
    Raises:
        ClipeduError: the experiment cannot be run; nothing is written.
        NotFinite: training diverged; the message names the step and the last good checkpoint, and the run is kept.
        OutOfMemory: the memory is not enough; the message names the settings to halve, and the library's error is its cause.
        KeyboardInterrupt: after the checkpoint is written; `resume` continues. After SIGTERM it is a `Terminated`.
    """
    folder = of_first(lambda: Path(folder or new_run_folder(experiment)))
    check_shared(experiment)
    check_installed(experiment.track)
    check_free(folder)  # before the data are loaded, which can take long
    if data is None:
        check_held_out(experiment)
    experiment, given = with_absolute_paths(experiment)
    with memory_named(experiment):
        data = data or load_shared_data(experiment)
    check_held_out(experiment, data)
    with terminable(), memory_named(experiment), hashed_once(data.train, *data.scored):
        trainer = prepare(experiment, data, progress=progress is True and is_first())
        if not is_first():
            return _follow(folder, trainer)
        make_folder(folder)
        with locked(folder):
            run = new_run(experiment, folder, given_paths=given)
            return _finish(run, trainer, data, progress=progress, report=report, on_scores=on_scores)


@joined()
def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: Data | None = None,
    progress: Progress = True,
    report: bool = True,
    on_scores: OnScores | None = None,
    **changes: Any,
) -> Run:
    """Do what is missing of a run: training, scores, report.

    Training goes on from the last checkpoint; without one it begins at the start. Of the last two checkpoints a damaged one is
    passed over, with a log line.

    Args:
        folder: of the run.
        epochs: the new number of epochs, where it is to be another (see `clipedu.workflow.extension`).
        data: `load_data(run.experiment)`, where a caller has it already.
        progress, report, on_scores: as those of `fit`.
        **changes: other values of settings that change no result, such as `checkpoint_every`, or only the rounding, as
            `device`; the run keeps them.
    Returns:
        the finished run; one that was finished already is returned as it is.
    Raises:
        ClipeduError: no run, damaged files, settings or data that have changed, a change that is not allowed, or a run that
            another process has in use.
        NotFinite, OutOfMemory, KeyboardInterrupt: as `fit`.
    """
    check_going_on(changes)
    run = load_run(folder)
    check_not_blended(run)
    check_installed(run.experiment.replace(**changes).track)  # wrong values are refused before anything is changed
    if epochs in (None, run.experiment.epochs) and of_first(lambda: is_complete(run, report=report)):
        if is_first():
            track_finished(run, changes.get("track"))
        return run
    if not is_first():
        return _follow_resumed(Path(folder), changes, epochs=epochs, data=data)
    with terminable(), locked(run.folder):
        run = load_run(folder)  # as whoever held the lock has left it
        remove_partial_files(run.folder)
        if of_first(lambda: epochs in (None, run.experiment.epochs) and lacks_only_report(run)):
            if report:
                log.info("%s is trained and scored: drawing its report", run.folder)
            _report(run, report=report)
            track_finished(run, changes.get("track"))
            return run
        if (changed := run.experiment.replace(**changes)) != run.experiment:
            run.experiment = changed
            write_text(run.folder / "experiment.json", run.experiment.to_json())
        meet()
        with memory_named(run.experiment):
            trainer, data = prepare_resumed(run, epochs=epochs, data=data, progress=progress is True)
        with hashed_once(data.train, *data.scored):
            return _finish(run, trainer, data, progress=progress, report=report, on_scores=on_scores)


def _finish(
    run: Run, trainer: Trainer, data: Data, *, progress: Progress, report: bool, on_scores: OnScores | None
) -> Run:
    """Train what is left, score, and report."""
    with end_recorded(run, "before training"):
        run.scored = None
        run.save_status("running")
        keep_beside_checkpoints(run, trainer, data)
    validation = Validation(run, trainer, data.scored, on_scores)
    with Tracking(run, trainer.step) as tracking:
        train_run(run, trainer, validation, tracking, progress=progress)
        run.seconds = trainer.seconds
        _score(run, trainer, data, validation, progress=progress)
        _report(run, report=report)
        tracking.finish(data.scored)
    return run


def _score(run: Run, trainer: Trainer, data: Data, validation: Validation, *, progress: Progress) -> None:
    """Score a run that is trained."""
    with end_recorded(run, "while it was scored"):
        if trainer.device.type == "cuda":
            run.environment["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 2)
            write_json(run.folder / "environment.json", run.environment)
        adapted = (
            run.experiment.lora_rank is not None
        )  # what is scored and kept is the merged model, as a checkpoint gives it
        model = None if adapted else trainer.model
        averaged = None if trainer.average is None or adapted else trainer.average.model()
        validation.add_final(score(run, data.scored, model=model, averaged=averaged, progress=progress is True))
        run.drop_old_checkpoints()  # the best one may be another now
        run.scored = trainer.step
        run.save_status("running", "trained and scored")


def _report(run: Run, *, report: bool) -> None:
    """Draw the report of a run that is scored; then it is finished."""
    if report:
        from clipedu.report.writer import write_report

        with end_recorded(run, "while its report was drawn"):
            run.status, run.note = "finished", history_note(run)  # as the page says
            write_report([run], run.folder)
    run.save_status("finished", history_note(run))
    meet()


def _follow(folder: Path, trainer: Trainer) -> Run:
    """Do the part of a run of any process but the first: its share of each step."""
    trainer.look_late()
    with closing(StopAfterStep().watch(together(trainer.run()))) as records:
        for _ in records:
            pass
    trainer.monitor.close()
    meet()  # the first one has scored and reported
    return load_run(folder)


def _follow_resumed(folder: Path, changes: dict[str, Any], *, epochs: int | None, data: Data | None) -> Run:
    """Do the part of `resume` of any process but the first."""
    with terminable():
        if of_first(lambda: False):  # it lacks only its report
            meet()
            return load_run(folder)
        meet()  # the first one has put the folder in order
        run = load_run(folder)
        run.experiment = run.experiment.replace(**changes)
        trainer, data = prepare_resumed(run, epochs=epochs, data=data, progress=False)
        with hashed_once(data.train, *data.scored):
            return _follow(folder, trainer)
