"""A blend of models as a run's folder, which `clipedu evaluate` opens.

Its settings, tokenizer and text configuration are those of the first model, and its one checkpoint holds the blended weights.
blend.json says what it is made of. It was not trained: there is no history, and it cannot be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.interop.kept import RELEASED, copy_released
from clipedu.models import DualEncoder
from clipedu.models.interpolation import weighted_mean
from clipedu.runs.blend_recipe import Recipe
from clipedu.runs.checkpoint import step_of
from clipedu.runs.folders import new_run
from clipedu.runs.kept import DATA, keep_text_config, keep_tokenizer
from clipedu.runs.paths import with_absolute_paths
from clipedu.runs.run import Run
from clipedu.runs.schema import BLEND
from clipedu.runs.trained_rows import keep_rows_of
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_json

LEARNED = ("logit_scale", "bias", "tau")  # of a loss, beside the model; of temperatures a sample the mean is kept

log = logging.getLogger("clipedu")


def write_blend(
    folder: Path,
    model: DualEncoder,
    runs: Sequence[Run],
    recipe: Recipe,
    experiment: Experiment,
    sets: Sequence[Mapping[str, Any]] = (),
    *,
    scales: Sequence[Run | Mapping[str, torch.Tensor]] | None = None,
) -> Run:
    """Write a blended model as a run that is finished but for its scores.

    Args:
        folder: new or empty.
        model: with the blended weights.
        runs: of which it is a blend, in the order of the recipe; what is kept beside the weights is the first's.
        recipe: how it was made.
        experiment: the settings it is to have: those of the first run, with its paths where they are now.
        sets: descriptions of the sets that it is scored on, for data.json.
        scales: of each model of the recipe its run, or its logit scale and bias by name; None takes the runs.
    Raises:
        ClipeduError: the folder is not empty, or a file cannot be written.
    """
    merged = experiment.replace(lora_rank=None, lora_options={})  # adapters are in the weights by now
    experiment, given = with_absolute_paths(merged)
    run = new_run(experiment, folder, given_paths=given)
    if (runs[0].folder / RELEASED).is_dir():
        copy_released(runs[0].folder, folder)
    else:
        keep_tokenizer(folder, model.tokenizer)
        text_encoder: Any = model.text_encoder  # a transformers model
        keep_text_config(folder, text_encoder.config)
    write_json(folder / DATA, [entry for entry in runs[0].sets() if entry["split"] == "train"] + list(sets))
    keep_rows_of(folder, [one.folder for one in runs])
    facts = {"models": list(recipe.models), "weights": list(recipe.weights)}
    write_json(folder / BLEND, {**facts, "statistics": recipe.statistics, "command": recipe.command})
    step = max(step_of(one.checkpoint()) for one in runs)
    run.save_checkpoint(step, model, _state(step, _learned(runs if scales is None else scales, recipe.weights)))
    run.save_status("finished")
    return run


def check_not_blended(run: Run) -> None:
    """Check that a run was trained, so that its training can go on.

    Raises:
        ClipeduError: it is a blend.
    """
    if blend := run.blend():
        raise ClipeduError(
            f"{run.folder} is a blend of {', '.join(blend['models'])}: it was not trained, so there is no training to resume. It "
            f"can be scored with: clipedu evaluate {run.folder}"
        )


def _state(step: int, loss: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return a training state of the form that every checkpoint has, in which nothing is known but the loss."""
    nothing = {
        "optimizer": {"state": {}, "param_groups": []},
        "random": torch.zeros(0, dtype=torch.uint8),
        "random_device": None,
    }
    return {"step": step, "seconds": 0.0, "data": "", "loss": loss, **nothing}


def _learned(models: Sequence[Run | Mapping[str, torch.Tensor]], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return the mean of what the losses of all models learned beside them: temperature and bias."""
    try:
        states = [one if isinstance(one, Mapping) else one.training_state("cpu")["loss"] for one in models]
        names = [name for state in states for name in state if name.rpartition(".")[2] in LEARNED]
        names = list(dict.fromkeys(names))
        return weighted_mean([{name: state[name].mean() for name in names} for state in states], weights)
    except (ClipeduError, KeyError) as error:
        log.info("temperature and bias of the blend are not known: %s", error)
        return {}
