"""From an experiment to a run's folder: train, score, draw, report.

    fit(experiment)          a new run, start to finish
    resume(folder)           a stopped run, from its last checkpoint; the same numbers as if it had never stopped
    score(run, sets)         evaluate a finished or stopped run again

Ctrl-C, a NaN and a crash leave a run whose status says what happened, with all that was done up to its last checkpoint. A run
is finished when it is trained, scored and reported; `resume` does what is missing of that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipedu import __version__
from clipedu.config.experiment import Experiment
from clipedu.data.pairs import hashed_once
from clipedu.evaluation.held_out import trained_counts, trained_lines
from clipedu.runs.checkpoint import read_facts
from clipedu.runs.folders import check_free, load_run, make_folder, new_run, new_run_folder
from clipedu.runs.kept import keep_descriptions, keep_text_config, keep_tokenizer
from clipedu.runs.lock import locked
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.status import record_end
from clipedu.runs.trained_rows import keep_trained_rows, shared_with_training
from clipedu.training.datasets import Data, check_held_out, describe, load_data
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.utils.environment import environment
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import remove_partial_files, write_json
from clipedu.utils.finite import NotFinite
from clipedu.utils.interrupts import StopAfterStep
from clipedu.utils.processes import check_one_process
from clipedu.workflow.extension import history_note
from clipedu.workflow.recorder import RunRecorder
from clipedu.workflow.resuming import is_complete, lacks_only_report, prepare_resumed
from clipedu.workflow.scoring import score

log = logging.getLogger("clipedu")


def fit(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    data: Data | None = None,
    progress: bool = True,
    report: bool = True,
) -> Run:
    """Train, score and report one experiment in a run's folder.

    Paths in the experiment are made absolute, so that the run can be used from any working directory.

    Args:
        experiment: what to run.
        folder: where; default runs/<time>-<data>-<loss>-<optimizer>. Must be new or empty.
        data: `load_data(experiment)`, where a caller has it already.
        progress: show a progress bar.
        report: draw the plots and write report.html.
    Returns:
        the finished run.
    Raises:
        ClipeduError: the experiment cannot be run; nothing is written.
        NotFinite: training diverged; the message names the step and the last good checkpoint, and the run is kept.
        KeyboardInterrupt: after the checkpoint is written; `resume` continues.
    """
    check_one_process()
    folder = Path(folder or new_run_folder(experiment))
    check_free(folder)  # before the data are loaded, which can take long
    if data is None:
        check_held_out(experiment)
    experiment, given = with_absolute_paths(experiment)
    data = data or load_data(experiment)
    check_held_out(experiment, data)
    with hashed_once(data.train, *data.scored):
        trainer = prepare(experiment, data, progress=progress)
        make_folder(folder)
        with locked(folder):
            run = new_run(experiment, folder, given_paths=given)
            return _finish(run, trainer, data, progress=progress, report=report)


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: Data | None = None,
    progress: bool = True,
    report: bool = True,
) -> Run:
    """Do what is missing of a run: training, scores, report.

    Training goes on from the last checkpoint; without one it begins at the start. Of the last two checkpoints a damaged one is
    passed over, with a log line.

    Args:
        folder: of the run.
        epochs: the new number of epochs, where it is to be another (see `clipedu.workflow.extension`).
        data: `load_data(run.experiment)`, where a caller has it already.
        progress, report: as those of `fit`.
    Returns:
        the finished run; one that was finished already is returned as it is.
    Raises:
        ClipeduError: no run, damaged files, settings or data that have changed, or a run that another process has in use.
        NotFinite, KeyboardInterrupt: as `fit`.
    """
    check_one_process()
    run = load_run(folder)
    if epochs in (None, run.experiment.epochs) and is_complete(run, report=report):
        return run
    with locked(run.folder):
        run = load_run(folder)  # as whoever held the lock has left it
        remove_partial_files(run.folder)
        if epochs in (None, run.experiment.epochs) and lacks_only_report(run):
            if report:
                log.info("%s is trained and scored: drawing its report", run.folder)
            _report(run, report=report)
            return run
        trainer, data = prepare_resumed(run, epochs=epochs, data=data, progress=progress)
        with hashed_once(data.train, *data.scored):
            return _finish(run, trainer, data, progress=progress, report=report)


def _finish(run: Run, trainer: Trainer, data: Data, *, progress: bool, report: bool) -> Run:
    """Train what is left, score, and report."""
    with _end_recorded(run, "before training"):
        run.scored = None
        run.save_status("running")
        _keep(run, trainer, data)
    _train(run, trainer, progress=progress)
    run.seconds = trainer.seconds
    with _end_recorded(run, "while it was scored"):
        if trainer.device.type == "cuda":
            run.environment["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 2)
            write_json(run.folder / "environment.json", run.environment)
        score(run, data.scored, model=trainer.model, progress=progress)
        run.scored = trainer.step
        run.save_status("running", "trained and scored")
    _report(run, report=report)
    return run


def _keep(run: Run, trainer: Trainer, data: Data) -> None:
    """Write what a run keeps beside its checkpoints, where it is missing or damaged."""
    keep_tokenizer(run.folder, data.tokenizer)
    text_encoder: Any = trainer.model.text_encoder  # a transformers model
    facts = read_facts(run.checkpoint()) if run.has_checkpoint else {}
    keep_text_config(run.folder, text_encoder.config, facts.get("text_encoder"))
    keep_descriptions(run.folder, lambda: [describe(pairs) for pairs in (data.train, *data.scored)])
    keep_trained_rows(run.folder, data.train)
    for pairs in data.scored:  # said before the training, which may be long, and with the scores again
        counts = trained_counts(pairs, shared_with_training(run.folder, pairs))
        for line in trained_lines(counts | {"retrieval_images": len(pairs), "zeroshot_images": len(pairs)}):
            log.warning(line)
    if not run.environment:
        run.environment = environment(__version__)
        write_json(run.folder / "environment.json", run.environment)


def _report(run: Run, *, report: bool) -> None:
    """Draw the report of a run that is scored; then it is finished."""
    if report:
        from clipedu.report.writer import write_report

        with _end_recorded(run, "while its report was drawn"):
            run.status, run.note = "finished", history_note(run)  # as the page says
            write_report([run], run.folder)
    run.save_status("finished", history_note(run))


@contextmanager
def _end_recorded(run: Run, when: str) -> Iterator[None]:
    """Let the status say how the block has ended, if not well."""
    try:
        yield
    except KeyboardInterrupt:
        record_end(run, "stopped", f"by the user {when}")
        raise
    except NotFinite as error:
        record_end(run, "failed", str(error))
        raise
    except Exception as error:
        record_end(run, "stopped", f"{when} by {_first_line(error)}")
        raise


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _train(run: Run, trainer: Trainer, *, progress: bool) -> None:
    """Run the training loop, with a checkpoint an epoch.

    However it ends, the status says how.
    """
    recorder, stop = RunRecorder(run, trainer), StopAfterStep()
    bar = tqdm(
        trainer.run(),
        total=trainer.steps,
        initial=trainer.step,
        unit="step",
        disable=not progress,
        desc=f"{run.experiment.loss} + {run.experiment.optimizer}",
    )
    saved = None
    try:
        for record in stop.watch(bar):
            recorder.append(record)
            bar.set_postfix(loss=f"{record.loss:.3f}", pairs_s=f"{record.pairs_per_second:.0f}", refresh=False)
            if trainer.step % trainer.steps_per_epoch == 0:
                recorder.save()
                saved = trainer.step
    except KeyboardInterrupt:
        how = f"by the user after step {trainer.step} of {trainer.steps}"
        try:
            if stop.step_is_whole and trainer.step != saved:
                recorder.save()
        except NotFinite as error:
            raise _failed(run, recorder, error) from None
        except ClipeduError as error:
            record_end(run, "stopped", f"{how}; {error}")
            raise
        record_end(run, "stopped", how)
        raise
    except NotFinite as error:
        raise _failed(run, recorder, error) from None
    except Exception as error:
        record_end(run, "stopped", f"by {_first_line(error)}")
        raise
    finally:
        bar.close()
        trainer.monitor.close()


def _failed(run: Run, recorder: RunRecorder, error: NotFinite) -> NotFinite:
    """Keep a run as failed, and return the error that says which checkpoint is the last good one."""
    with suppress(ClipeduError):  # a full disk must not hide why it failed
        recorder.write_rows()
    last = run.checkpoint() if run.has_checkpoint else "none, it failed in its first epoch"
    note = f"{error}. Last good checkpoint: {last}"
    record_end(run, "failed", note)
    return NotFinite(note)
