"""`start_from`: the experiment that fine-tunes a model.

    experiment = clipedu.start_from("open_clip:ViT-B-32", "laion2b_s34b_b79k", data="flickr8k", epochs=3)
    run = clipedu.fit(experiment)

What the model fixes (its form, `OF_START`) is taken from it, but for the image size, which may be another; so are its loss, its logit scale and bias, which fine-tuning goes on
with, and how its images are made square. All of it stands in the experiment, so a run says by itself what it was.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from clipedu.config.experiment import OF_START, Experiment, checked_setting
from clipedu.config.presets import PRESETS
from clipedu.losses import LOSSES
from clipedu.models import DualEncoder
from clipedu.runs.folders import load_run
from clipedu.runs.run import Run
from clipedu.training.objective import scale_range
from clipedu.training.starting import check_trained, find_start, is_run
from clipedu.utils.errors import ClipeduError, quoted, unknown_name
from clipedu.workflow.opening import scale_of

LR, LORA_LR = 1e-5, 2e-4  # of released models: all weights (arXiv:2212.00638), adapters (arXiv:2405.18541)
OF_RUN = 0.1  # of a run's own lr, to train on from its end
SIGLIP_SCALE = 1000.0  # the largest; its authors have no limit
DATA = (
    "data",
    "data_seed",
    "eval_data",
    "zeroshot_data",
    "class_names",
    "templates",
)  # of a run, which goes on with them
CLOSE = 0.02  # how far a temperature may be from the model's before it is told, as a share

log = logging.getLogger("clipedu")


def start_from(
    model: str | os.PathLike, weights: str | os.PathLike | None = None, *, preset: str = "laptop", **changes: Any
) -> Experiment:
    """Return the experiment that fine-tunes a model.

    A loss or a temperature that is not the model's own is told by a log line. The learning rate is 1e-5 for a released model and 2e-4
    for its adapters (`lora_rank`); for a run a tenth of its own. A run's pairs are taken too, unless you or the preset name others.

    Args:
        model: a run's folder, or what `clipedu.adopt` takes: "open_clip:ViT-B-32", "hf:openai/clip-vit-base-patch32", a folder or file.
        weights: as of `clipedu.adopt`; a run has its own.
        preset: of which all is that neither the model nor you say.
        changes: fields of `Experiment`. With another `image_size` than the model's its positions are resampled.
    Raises:
        ClipeduError: there is no such model, it is damaged, a setting that it fixes is given another value, it cannot read images of this
            size, or nothing of it is left to train.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    name, tag = os.fspath(model), None if weights is None else os.fspath(weights)
    given = {field: checked_setting(field, value) for field, value in changes.items()}
    opened, form = find_start(name, tag, seed=given.get("seed", 0), keep=True, image_size=given.get("image_size"))
    for field in OF_START:
        if field in given and given[field] != form[field]:
            raise ClipeduError(
                f"{field}={quoted(changes[field])} cannot be given beside {name}, which fixes it: {quoted(form[field])}. Leave it out"
            )
    lora = given.get("lora_rank") is not None
    own = (
        _of_run(load_run(Path(name).expanduser(), scores=False), lora=lora)
        if is_run(name)
        else _of_released(opened, name, lora=lora)
    )
    settings = PRESETS[preset].settings
    if "data" in {*settings, *given}:
        own = {field: value for field, value in own.items() if field not in DATA}
    asked = {**settings, **own, **form, **given}
    if (loss := given.get("loss", own["loss"])) != own["loss"]:
        asked |= {key: given.get(key, value) for key, value in _of_other_loss(loss, own).items()}
    if "foils" not in given and (asked.get("data", "scenes") != "scenes" or asked.get("text_frozen")):
        asked["foils"] = 0.0  # the run's, which cannot be had here
    experiment = Experiment(**asked | {"start": name, "start_weights": tag})
    check_trained(opened, experiment)
    _tell(experiment, own, name)
    return experiment


def experiment_of(preset: str | None, changes: dict[str, Any]) -> Experiment:
    """Return the experiment of a command, from a preset or a model.

    Args:
        preset: its name; None is "laptop".
        changes: fields that were given; with "start" the others are those of `start_from`.
    Raises:
        ClipeduError: as `start_from` and `Experiment.preset`.
    """
    settings = dict(changes)
    if (start := settings.pop("start", None)) is None:
        return Experiment.preset(preset or "laptop", **changes)
    return start_from(start, settings.pop("start_weights", None), preset=preset or "laptop", **settings)


def with_loss(experiment: Experiment, loss: str, given: Collection[str] = ()) -> Experiment:
    """Return the same experiment with another loss.

    One that fine-tunes a model has the options that `start_from` gives it with this loss, and not those of the model's own.

    Args:
        experiment: with the loss of its model, where it has a start.
        loss: a name of `LOSSES`.
        given: fields that a user has set, which stay.
    """
    other: dict[str, Any] = {}
    if experiment.start is not None and loss != experiment.loss and loss in LOSSES:
        other = _of_other_loss(loss, dataclasses.asdict(experiment))
    return experiment.replace(**{name: value for name, value in other.items() if name not in given}, loss=loss)


def of_optimizers(preset: str, experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Return what a preset changes for each optimizer, by name.

    Where an experiment fine-tunes a model with a part of the preset's learning rate, so do the others.

    Args:
        preset: its name.
        experiment: made with it.
    """
    found, start = PRESETS[preset].per_optimizer, experiment.start
    part = 1.0 if start is None else experiment.lr / Experiment.preset(preset).lr
    return {
        name: {key: value * part if key == "lr" else value for key, value in changes.items()}
        for name, changes in found.items()
    }


def _of_released(model: DualEncoder, name: str, *, lora: bool) -> dict[str, Any]:
    """Return the objective that a released model was trained with, and a small lr."""
    scale, loss = math.exp(model.logit_scale or 0.0), model.released_loss or "clip"
    options = {"bias": model.logit_bias, "max_scale": SIGLIP_SCALE} if loss == "siglip" else {}
    low, high = (math.exp(end) for end in scale_range(Experiment(loss=loss, loss_options=options)))
    if not low * (1 - 1e-6) <= scale <= high * (1 + 1e-6):
        log.warning(
            "%s has the logit scale %.4g; what is learned is %.4g to %.4g: it starts at the nearest",
            name,
            scale,
            low,
            high,
        )
    return {
        "loss": loss,
        "temperature": 1 / min(max(scale, low), high),
        "learn_temperature": loss == "clip",
        "loss_options": options,
        "resize": model.resize,
        "lr": LORA_LR if lora else LR,
    }


def _of_run(run: Run, *, lora: bool) -> dict[str, Any]:
    """Return the objective at the end of a run, its pairs, and a smaller lr."""
    ex = run.experiment
    fields = (
        "loss",
        "temperature",
        "learn_temperature",
        "loss_options",
        "entailment",
        "entailment_options",
        "foils",
        "foil_kinds",
        "resize",
        *DATA,
    )
    own = {name: getattr(ex, name) for name in fields} | {"lr": ex.lr * (1.0 if lora else OF_RUN)}
    scale = scale_of(run)
    if scale is not None:
        own["temperature"] = 1 / scale.logit_scale
        if scale.bias is not None:
            own["loss_options"] = ex.loss_options | {"bias": scale.bias}
    return own


def _of_other_loss(loss: str, own: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a loss that is not the model's: the model's temperature, and no option of the other."""
    takes = LOSSES[loss].defaults
    learned = own["learn_temperature"] or own["loss"] == "siglip"
    return {"loss_options": {}, "learn_temperature": learned and "learn_temperature" in takes}


def _tell(ex: Experiment, own: dict[str, Any], name: str) -> None:
    """Say which loss or logit scale is another than the model was trained with."""

    def described(loss: str, temperature: float | None, options: dict[str, Any]) -> str:
        bias = f", bias {options['bias']:.4g}" if "bias" in options else ""
        scale = (
            f" (logit scale {1 / temperature:.4g}{bias})"
            if temperature and "temperature" in LOSSES[loss].defaults
            else ""
        )
        return f"the loss {loss}{scale}"

    theirs, here = own["temperature"], ex.temperature
    far = bool(theirs and here and "temperature" in LOSSES[ex.loss].defaults and abs(math.log(here / theirs)) > CLOSE)
    biases = [options.get("bias") for options in (own["loss_options"], ex.loss_options)]
    if ex.loss != own["loss"] or far or (ex.loss == "siglip" and biases[0] != biases[1]):
        log.warning(
            "%s was trained with %s, and is fine-tuned with %s: leave out --loss, --temperature and --loss-options to go on with its own",
            name, described(own["loss"], theirs, own["loss_options"]), described(ex.loss, here, ex.loss_options),
        )  # fmt: skip
