"""What a stopped run lacks, and a trainer that goes on where it stopped."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch

from clipedu import __version__
from clipedu.data.pairs import hashed_once
from clipedu.runs.checkpoint import check_checkpoint, last_checkpoint, read_facts, sound_checkpoint
from clipedu.runs.kept import DATA as DESCRIPTIONS
from clipedu.runs.kept import TOKENIZER, check_tokenizer, kept_tokenizer, text_config_sum, tokenizer_sum
from clipedu.runs.paths import located
from clipedu.runs.rebuilding import empty_model, saved_text
from clipedu.runs.run import EARLIER, Run
from clipedu.runs.settings import PATH_FIELDS, check_settings, listed
from clipedu.runs.status import record_end
from clipedu.training.datasets import Data, check_unchanged, describe
from clipedu.training.distributed import check_shared, load_shared_data
from clipedu.training.setup import prepare
from clipedu.training.trainer import Trainer
from clipedu.training.trainer_state import restore
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json, read_text
from clipedu.utils.finite import NotFinite
from clipedu.utils.ranks import first_alone, is_first
from clipedu.workflow.extension import extend, was_extended

log = logging.getLogger("clipedu")


def is_complete(run: Run, *, report: bool) -> bool:
    """Return whether a run is trained, scored, reported and undamaged.

    Args:
        run: as loaded.
        report: whether it is to have a report.
    """
    if run.status != "finished" or not run.metrics or (report and not (run.folder / "report.html").is_file()):
        return False
    try:
        last = last_checkpoint(run.folder)
        if last is None:
            return True
        facts = check_checkpoint(last)
        _check_experiment(run, facts)
        return _is_whole(run, facts)
    except ClipeduError:
        return False


def lacks_only_report(run: Run) -> bool:
    """Return whether a run is trained and scored, and has no report.

    Damaged checkpoints are set aside first (`sound_checkpoint`).

    Raises:
        ClipeduError: all checkpoints are damaged, or the settings have changed.
    """
    checkpoint = sound_checkpoint(run.folder)
    facts = read_facts(checkpoint) if checkpoint else {}
    _check_experiment(run, facts)
    scored = run.status == "finished" or (run.scored is not None and run.scored == facts.get("step"))
    of_last = EARLIER[0] not in run.metrics
    return scored and bool(run.metrics) and of_last and _is_whole(run, facts)


def prepare_resumed(
    run: Run, *, epochs: int | None = None, data: Data | None = None, progress: bool = True
) -> tuple[Trainer, Data]:
    """Load a stopped run's data, and its last undamaged checkpoint.

    Args:
        run: as loaded, its lock held.
        epochs: the new number of epochs, None to leave it.
        data, progress: as those of `clipedu.resume`.
    Returns:
        the trainer at the checkpoint's step, and the data.
    Raises:
        ClipeduError: damaged files, or settings or data that have changed.
        NotFinite: a number in the checkpoint is not finite; the run has failed.
    """
    with first_alone():  # which sets damaged ones aside
        checkpoint = sound_checkpoint(run.folder)
    facts = read_facts(checkpoint) if checkpoint else {}
    changed = _check_experiment(run, facts)
    _name_versions(run)
    expected = facts.get("tokenizer")
    tokenizer = kept_tokenizer(run.folder, expected)
    if tokenizer is None and (run.folder / TOKENIZER).exists():
        log.warning("the tokenizer in %s is damaged: making it again", run.folder / TOKENIZER)
    experiment = located(run)
    check_shared(experiment)
    if data is None:  # a run killed at once has no tokenizer yet: the same one is made again
        data = load_shared_data(experiment, tokenizer)
    elif tokenizer is not None and tokenizer_sum(tokenizer) != tokenizer_sum(data.tokenizer):
        data = replace(data, tokenizer=tokenizer)
    check_tokenizer(run.folder, data.tokenizer, expected)
    _check_moved_sets(run, data, {name for name in changed if name in PATH_FIELDS})
    if changed:
        log.warning("%s goes on with other settings: %s", run.folder, listed(changed))
    with hashed_once(data.train, *data.scored):
        older = checkpoint is not None and not facts and experiment.text_weights != "pretrained"
        kept_config = saved_text(run.folder) if older else None  # its special tokens were set otherwise
        if checkpoint is not None:  # before features of frozen encoders are computed, which can take long
            check_unchanged(facts if "data" in facts else run.training_state("cpu"), data.train, experiment.data)
        begun = experiment.start is not None and checkpoint is not None
        start = empty_model(run, facts) if begun else None  # with no need of what it has started from
        trainer = prepare(experiment, data, saved_text=kept_config, start=start, progress=progress)
        if checkpoint is not None:
            try:
                restore(trainer, run.weights(), run.training_state(trainer.device), checkpoint, run.averaged())
            except NotFinite as error:
                if is_first():
                    record_end(run, "failed", str(error))
                raise
    before = experiment.epochs
    if epochs is not None:
        if is_first():
            extend(run, epochs, trainer.step, trainer.steps_per_epoch)
        trainer.experiment = experiment.replace(epochs=epochs)
    done = f"is trained ({trainer.steps} steps)" if trainer.step >= trainer.steps else ""
    change = f", with {epochs} epochs instead of {before}" if epochs not in (None, before) else ""
    log.info("%s %s%s", run.folder, done or f"goes on at step {trainer.step} of {trainer.steps}", change)
    return trainer, data


def _check_experiment(run: Run, facts: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Check a run's settings against those of its checkpoint, and return what differs and may.

    Raises:
        ClipeduError: something differs that may not.
    """
    before = facts.get("experiment", {}).get("epochs")
    extended = ("epochs",) if before is not None and was_extended(run, before) else ()
    return check_settings(run.folder, run.experiment, facts, allowed=(*PATH_FIELDS, *extended))


def _is_whole(run: Run, facts: dict[str, Any]) -> bool:
    """Return whether scores are those of the checkpoint, and tokenizer and text configuration are its own."""
    if run.scored is not None and "step" in facts and run.scored != facts["step"]:
        return False
    if facts.get("text_encoder") not in (None, text_config_sum(run.folder)):
        return False
    expected = facts.get("tokenizer")
    return expected is None or kept_tokenizer(run.folder, expected) is not None


def _check_moved_sets(run: Run, data: Data, changed: set[str]) -> None:
    """Check that the sets to score on are the same pairs, where the experiment names others.

    The training pairs are checked by their fingerprint in the training state.

    Raises:
        ClipeduError: they are other pairs.
    """
    if not changed:
        return
    try:
        before = parse_json(read_text(run.folder / DESCRIPTIONS))[1:]
    except (OSError, ValueError, TypeError, KeyError):
        before = []
    now = [describe(pairs)["fingerprint"] for pairs in data.scored]
    if before and now != [row.get("fingerprint") for row in before]:
        raise ClipeduError(
            f"{run.folder / 'experiment.json'} names other pairs to score on than when the run began "
            f"({', '.join(sorted(changed))} changed): put it back, or score the finished run on others with: clipedu evaluate"
        )


def _name_versions(run: Run) -> None:
    """Log which versions a run goes on with, where they are others than it began with."""
    now = {"clipedu": __version__, "torch": str(torch.__version__)}
    other = [f"{name} {run.environment[name]}" for name in now if run.environment.get(name, now[name]) != now[name]]
    if other:
        here = " and ".join(f"{name} {version}" for name, version in now.items())
        log.warning("%s began with %s and goes on with %s: numbers may differ", run.folder, ", ".join(other), here)
