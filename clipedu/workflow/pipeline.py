"""From an experiment to a run's folder: train, score, draw, report.

    fit(experiment)          a new run, start to finish
    resume(folder)           a stopped run, from its last checkpoint; the same numbers as if it had never stopped
    score(run, sets)         evaluate a finished or stopped run again

Ctrl-C, a NaN and a crash leave a run whose status says what happened, with all that was done up to its last checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import hashed_once
from clipedu.data.tokenizer import Tokenizer
from clipedu.evaluation.held_out import trained_counts, trained_lines
from clipedu.runs.folders import load_run, new_run
from clipedu.runs.run import Run
from clipedu.runs.trained_rows import keep_trained_rows, shared_with_training
from clipedu.training.datasets import Data, check_held_out, describe, load_data
from clipedu.training.setup import prepare
from clipedu.training.trainer import NotFinite, Trainer
from clipedu.utils.files import remove_partial_files, write_json
from clipedu.utils.interrupts import StopAfterStep
from clipedu.workflow.recorder import RunRecorder
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
    if data is None:
        check_held_out(experiment)
        data = load_data(experiment)
    check_held_out(experiment, data)
    with hashed_once(data.train, *data.scored):
        trainer = prepare(experiment, data, progress=progress)
        run = new_run(experiment, folder)
        return _finish(run, trainer, data, progress=progress, report=report)


def resume(folder: str | Path, *, data: Data | None = None, progress: bool = True, report: bool = True) -> Run:
    """Continue a stopped run from its last checkpoint.

    Without a checkpoint it begins at the start.

    Args:
        folder: of the run.
        data: `load_data(run.experiment)`, where a caller has it already.
        progress, report: as those of `fit`.
    Returns:
        the finished run; one that was finished already is returned as it is.
    Raises:
        ClipeduError: no run, damaged files, or data that has changed.
        NotFinite, KeyboardInterrupt: as `fit`.
    """
    run = load_run(folder)
    if run.status == "finished":
        return run
    if data is None:  # a run killed at once has no tokenizer yet: the same one is made again
        kept = run.folder / "tokenizer"
        data = load_data(run.experiment, Tokenizer.load(kept) if kept.exists() else None)
    remove_partial_files(run.folder)
    kept_config = None if run.experiment.text_weights == "pretrained" else run.saved_text()
    with hashed_once(data.train, *data.scored):
        trainer = prepare(run.experiment, data, saved_text=kept_config, progress=progress)
        if run.has_checkpoint:
            trainer.load_state(run.weights(), run.training_state(trainer.device))
        return _finish(run, trainer, data, progress=progress, report=report)


def _finish(run: Run, trainer: Trainer, data: Data, *, progress: bool, report: bool) -> Run:
    """Train what is left, score, and report."""
    data.tokenizer.save(run.folder / "tokenizer")
    text_encoder: Any = trainer.model.text_encoder  # a transformers model
    text_encoder.config.save_pretrained(run.folder / "text_encoder")
    write_json(run.folder / "data.json", [describe(pairs) for pairs in (data.train, *data.scored)])
    keep_trained_rows(run.folder, data.train)
    for pairs in data.scored:  # said before the training, which may be long, and with the scores again
        counts = trained_counts(pairs, shared_with_training(run.folder, pairs))
        for line in trained_lines(counts | {"retrieval_images": len(pairs), "zeroshot_images": len(pairs)}):
            log.warning(line)
    run.save_status("running")
    _train(run, trainer, progress=progress)
    if trainer.device.type == "cuda":
        run.environment["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(trainer.device) / 2**30, 2)
        write_json(run.folder / "environment.json", run.environment)
    score(run, data.scored, model=trainer.model, progress=progress)
    run.seconds = trainer.seconds
    run.save_status("finished")
    if report:
        from clipedu.report.writer import write_report

        write_report([run], run.folder)
    return run


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
    try:
        for record in stop.watch(bar):
            recorder.append(record)
            bar.set_postfix(loss=f"{record.loss:.3f}", pairs_s=f"{record.pairs_per_second:.0f}", refresh=False)
            if trainer.step % trainer.steps_per_epoch == 0:
                recorder.save()
    except KeyboardInterrupt:
        if stop.step_is_whole:
            recorder.save()
        run.save_status("stopped", f"by the user after step {trainer.step} of {trainer.steps}")
        raise
    except NotFinite as error:
        recorder.write_rows()
        last = run.checkpoint() if run.has_checkpoint else "none, it failed in its first epoch"
        note = f"{error}. Last good checkpoint: {last}"
        run.save_status("failed", note)
        raise NotFinite(note) from None
    except Exception as error:
        run.save_status("stopped", f"by {type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        bar.close()
        trainer.monitor.close()
