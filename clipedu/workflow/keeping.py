"""What a run's folder holds beside checkpoints and scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from clipedu import __version__
from clipedu.config.experiment import RELEASED as RELEASED_ENCODER
from clipedu.evaluation.held_out import trained_counts, trained_lines
from clipedu.interop.kept import RELEASED, copy_released, keep_released
from clipedu.runs.checkpoint import read_facts
from clipedu.runs.kept import keep_descriptions, keep_text_config, keep_tokenizer
from clipedu.runs.run import Run
from clipedu.runs.trained_rows import keep_trained_rows, shared_with_training
from clipedu.training.datasets import Data, describe
from clipedu.training.starting import is_run
from clipedu.training.trainer import Trainer
from clipedu.training.trainer_state import trainer_state
from clipedu.utils.environment import environment
from clipedu.utils.files import write_json

log = logging.getLogger("clipedu")


def keep_beside_checkpoints(run: Run, trainer: Trainer, data: Data) -> None:
    """Write what a run keeps beside its checkpoints.

    It is written where it is missing or damaged. Log lines say which of the rows that are scored are trained on.

    Args:
        run: its folder is there.
        trainer: of this run.
        data: its sets and tokenizer.
    Raises:
        ClipeduError: a file cannot be written.
    """
    keep_tokenizer(run.folder, data.tokenizer)
    if run.experiment.image_encoder == RELEASED_ENCODER:
        _keep_released(run, trainer)
    else:
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


def _keep_released(run: Run, trainer: Trainer) -> None:
    """Write what a run keeps of a released model, and a checkpoint of its start: from now on it needs nothing else."""
    start = str(run.experiment.start)
    if not (run.folder / RELEASED).is_dir():
        if is_run(start):
            copy_released(Path(start).expanduser(), run.folder)
        else:
            keep_released(trainer.model, start, run.folder)
    if not run.has_checkpoint:
        averaged = None if trainer.average is None else trainer.average.tensors()
        run.save_checkpoint(trainer.step, trainer.model, trainer_state(trainer), averaged)
