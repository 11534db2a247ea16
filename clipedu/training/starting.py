"""The model that training starts from: `start` of an experiment.

It is a run's last model, or a released one (`clipedu.adopt`). Its form is fixed: `OF_START` are the settings that say what it is, and an
experiment that starts from it has them as they are there (`clipedu.start_from` fills them in).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from clipedu.config.experiment import OF_START, RELEASED, Experiment
from clipedu.interop.adoption import adopt
from clipedu.models import DualEncoder
from clipedu.models.adapters import add_adapters, check_rank
from clipedu.models.locking import freeze, lock
from clipedu.runs.folders import check_named, load_run
from clipedu.runs.rebuilding import model_to_train
from clipedu.utils.errors import ClipeduError, quoted

_opened: dict[
    tuple[Any, ...], tuple[DualEncoder, int | None]
] = {}  # the last one, until it is trained: some take minutes to
# load; and the image size that was asked for


def is_run(name: str) -> bool:
    """Return whether a model's name is the folder of a run."""
    return os.path.lexists(os.path.join(Path(name).expanduser(), "experiment.json"))


def open_start(experiment: Experiment, *, keep: bool = False) -> DualEncoder:
    """Open the model that an experiment starts from; check its form.

    Args:
        experiment: with a `start`.
        keep: hold it for the next call, which then need not read it again.
    Returns:
        the model with its tokenizer, on the CPU, nothing of it frozen.
    Raises:
        ClipeduError: there is no such model, it is damaged, or the experiment describes another.
    """
    model, form = find_start(
        str(experiment.start),
        experiment.start_weights,
        seed=experiment.seed,
        keep=keep,
        image_size=experiment.image_size,
    )
    for name in OF_START:
        if (has := getattr(experiment, name)) != form[name]:
            raise ClipeduError(
                f"start={quoted(experiment.start)} is a model with {name}={quoted(form[name])}, and the experiment says {quoted(has)}: "
                "clipedu.start_from(MODEL) makes an experiment that fits (on the command line: --from MODEL)"
            )
    return model


def find_start(
    name: str,
    weights: str | None = None,
    *,
    seed: int = 0,
    keep: bool = False,
    image_size: int | None = None,
) -> tuple[DualEncoder, dict[str, Any]]:
    """Open a model to start from, with the settings of its form.

    Args:
        name: a run's folder, or what `clipedu.adopt` takes.
        weights: as of `clipedu.adopt`; a run has its own.
        seed: of random weights.
        keep: as that of `open_start`.
        image_size: height and width of the images; None takes the model's own. Of another size positions are resampled.
    Returns:
        the model, and a value for each of `OF_START`.
    Raises:
        ClipeduError: there is no such model, it is damaged, or it cannot read images of this size.
    """
    if is_run(name):
        if weights is not None:
            raise ClipeduError(
                f"start_weights={quoted(weights)} has no effect: {name} is a run, which has its own. Leave it out"
            )
        run = load_run(Path(name).expanduser(), scores=False)
        run.choose_sound_checkpoint()
        settings = run.experiment.replace(image_weights="random", text_weights="random")  # the checkpoint has all
        form = {field: getattr(settings, field) for field in OF_START}
        return model_to_train(run, image_size), form | {"image_size": image_size or form["image_size"]}
    check_named(name)
    key = (name, weights, seed, _state_of(name), _state_of(weights))
    model, asked = _opened.pop(key, (None, None))
    if model is None or image_size not in (asked, model.image_size):
        model, asked = adopt(name, weights, seed=seed, image_size=image_size), image_size
    _opened.clear()
    if keep:
        _opened[key] = model, asked
    return model, released_form(model)


def released_form(model: DualEncoder) -> dict[str, Any]:
    """Return the settings that describe a released model, by name: `OF_START`."""
    plain = Experiment()
    width = model.image_projection(torch.zeros(1, model.widths["image"], device=model.device)).shape[1]
    own = {
        "image_encoder": RELEASED,
        "text_encoder": RELEASED,
        "image_size": model.image_size,
        "text_length": model.tokenizer.length,
        "embedding_dim": width,
    }
    return {name: own.get(name, getattr(plain, name)) for name in OF_START}


def fit_for_training(model: DualEncoder, experiment: Experiment) -> None:
    """Freeze, lock and adapt a model as an experiment says.

    Args:
        model: nothing of it is frozen but what its own library holds fixed; changed in place.
        experiment: its `image_frozen`, `text_frozen`, `lock`, `lora_rank` and `lora_options`.
    Raises:
        ClipeduError: a name that is not in the model, nothing is left to train, or LoRA that cannot be used.
    """
    ex = experiment
    _hold(model, ex)
    if ex.lora_rank is not None:
        add_adapters(model, ex.lora_rank, ex.lora_options, image_size=ex.image_size, seed=ex.seed)


def check_trained(model: DualEncoder, experiment: Experiment) -> None:
    """Check that something of a model is left to train.

    It is frozen, locked and adapted as an experiment says.

    Args:
        model: nothing of it is frozen; it stays as it is.
        experiment: as that of `fit_for_training`.
    Raises:
        ClipeduError: a name that is not in the model, a rank that is too large, or nothing is left to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen, locked = model.frozen, model.locked
    try:
        _hold(model, experiment)
        if experiment.lora_rank is not None:
            check_rank(model, experiment.lora_rank)
    finally:
        model.frozen, model.locked = frozen, locked
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(model.training)


def _hold(model: DualEncoder, ex: Experiment) -> None:
    """Freeze and lock what an experiment names; something must be left."""
    freeze(model, [side for side in ("image", "text") if getattr(ex, f"{side}_frozen")])
    lock(model, ex.lock)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        held = [f"{side}_frozen=True" for side in model.frozen] + [f"lock={' '.join(ex.lock)}"] * bool(ex.lock)
        raise ClipeduError(
            f"nothing of the model is left to train: {' and '.join(held)} hold all its weights. Leave one of them out, or name less"
        )


def _state_of(name: str | None) -> tuple[Any, ...]:
    """Return what changes with the files of a model on this machine."""
    if name is None or not os.path.exists(name):
        return ()
    path = Path(name)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
