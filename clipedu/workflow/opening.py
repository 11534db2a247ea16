"""A model by the name that a person gives.

What commands need to know of a model beside its weights is collected here: its run, if it has one, and its logit scale.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.interop.adoption import adopt
from clipedu.interop.sources import FORMS, PREFIXES, meant
from clipedu.losses import LOSSES
from clipedu.models import DualEncoder
from clipedu.runs.checkpoint import read_state
from clipedu.runs.folders import check_named, load_run
from clipedu.runs.paths import located
from clipedu.runs.run import Run
from clipedu.training.objective import scale_range, start_temperature
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError, quoted


@dataclass(frozen=True)
class Scale:
    """What similarities are multiplied by, and what is added, before the loss.

    Attributes:
        logit_scale: the factor, 1 / temperature.
        bias: added after it; SigLIP's losses have one.
        learned: whether it was trained.
    """

    logit_scale: float
    bias: float | None = None
    learned: bool = False


@dataclass(frozen=True)
class Opened:
    """A model, and what is known of it.

    Attributes:
        name: as it was given.
        model: in evaluation mode, with its tokenizer, on the device of its run.
        experiment: of the run, with its paths where they are now; of a model of another library the image size and what to
            score it on where nothing else is said.
        run: of which it is the last model; None for one of another library.
        scale: None where nothing says what it is.
    """

    name: str
    model: DualEncoder
    experiment: Experiment
    run: Run | None = None
    scale: Scale | None = None


def open_model(
    name: str | Path, weights: str | Path | None = None, *, image_size: int | None = None, seed: int = 0
) -> Opened:
    """Open a model by its name.

    Args:
        name: a run's folder, or what `clipedu.adopt` takes: "open_clip:ViT-B-32", "hf:openai/clip-vit-base-patch32", a folder or file.
        weights, image_size: as of `clipedu.adopt`; a run has its own.
        seed: of random weights.
    Raises:
        ClipeduError: there is no such model, or it is damaged.
    """
    if is_of_library(name):
        check_named(os.fspath(name))
        return of_library(os.fspath(name), adopt(name, weights, image_size=image_size, seed=seed))
    if weights is not None:
        raise ClipeduError(
            f"weights={quoted(os.fspath(weights))} has no effect: {name} is a run, which has its own. Leave it out"
        )
    if image_size is not None:
        raise ClipeduError(f"image_size={image_size} has no effect: {name} is a run, which has its own. Leave it out")
    if not os.path.exists(name):
        text = os.fspath(name)
        hint = "" if os.path.isdir(os.path.dirname(text)) else meant(text)  # beside other runs a run is meant
        raise ClipeduError(f"{quoted(text)} does not exist.{hint} Allowed: a run's folder, {FORMS}")
    run = load_run(name, scores=False)
    run.choose_sound_checkpoint()
    model = run.model().to(pick_device(run.experiment.device))
    return Opened(os.fspath(name), model, located(run), run, scale_of(run))


def is_of_library(name: str | Path) -> bool:
    """Return whether a name is of another library's model, not a run."""
    if os.fspath(name).startswith(PREFIXES):
        return True
    return os.path.exists(name) and not os.path.exists(os.path.join(name, "experiment.json"))


def of_library(name: str, model: DualEncoder) -> Opened:
    """Return a model of another library, with what it says of itself.

    Args:
        name: what to call it.
        model: with its tokenizer, and `image_size`, `resize`, `logit_scale` (a logarithm) and `logit_bias` where it has them.
    """
    own = {key: value for key in ("image_size", "resize") if (value := getattr(model, key, None)) is not None}
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    known = None if scale is None else Scale(math.exp(float(scale)), float(bias) if bias else None, learned=True)
    return Opened(name, model, Experiment(**own), scale=known)


def scale_of(run: Run, which: str = "last") -> Scale | None:
    """Return the logit scale at a run's checkpoint.

    Where each sample has a temperature of its own, it is that of their mean.

    Args:
        run: with a checkpoint.
        which: "last" or "best".
    Returns:
        None for a loss without a temperature.
    Raises:
        ClipeduError: the checkpoint is damaged.
    """
    if "temperature" not in LOSSES[run.experiment.loss].defaults:
        return None
    state: Mapping[str, Any] = read_state(run.checkpoint(which), "cpu").get("loss", {})
    learned = {name.rpartition(".")[2]: value for name, value in state.items()}
    if "logit_scale" in learned:
        low, high = scale_range(run.experiment)
        bias = float(learned["bias"]) if "bias" in learned else None
        return Scale(math.exp(min(max(float(learned["logit_scale"]), low), high)), bias, learned=True)
    if "tau" in learned:
        return Scale(1 / float(learned["tau"].mean()), learned=True)
    return Scale(1 / start_temperature(run.experiment))
