"""The objective of an experiment: its loss, in its geometry.

It has the experiment's temperature, and its entailment and foil terms where there are any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor

from clipedu.config.experiment import Experiment
from clipedu.geometry import GEOMETRIES, Geometry, build_geometry
from clipedu.losses import Entailed, Foiled, Loss, LossOutput, build_loss
from clipedu.optim import OPTIMIZERS
from clipedu.optim.trial import try_optimizer
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError

ENTAILMENT_OPTIONS = ("min_radius", "final_min_radius")


def build_objective(experiment: Experiment, geometry: Geometry, num_samples: int) -> Loss:
    """Build the loss of an experiment, with the terms added to it.

    Args:
        experiment: its loss, temperature, entailment and foils, with their options.
        geometry: of the model; the experiment's.
        num_samples: rows of the training data, for losses that keep an average for each of them.
    Raises:
        ClipeduError: an unknown name or option, or a value out of range.
    """
    ex = experiment
    options = {"learn_temperature": True, **ex.loss_options} if ex.learn_temperature else ex.loss_options
    temperature = geometry.temperature if ex.temperature is None else ex.temperature
    loss = build_loss(ex.loss, temperature=temperature, num_samples=num_samples, geometry=geometry, **options)
    for key in ex.entailment_options:
        if key not in ENTAILMENT_OPTIONS:
            raise ClipeduError(f"entailment has no option {key!r}. Allowed: {', '.join(ENTAILMENT_OPTIONS)}")
    objective = Entailed(loss, ex.entailment, **ex.entailment_options) if ex.entailment else loss
    return Foiled(objective, ex.foils) if ex.foils else objective


def loss_of(loss: Loss, image: Tensor, text: Tensor, index: Tensor, read: Sequence[Tensor]) -> LossOutput:
    """Compute the loss of a batch, with foils where it has them.

    Args:
        loss: of `build_objective`.
        image: [B, D].
        text: [B, D], or [B, 2, D] where each caption has a foil beside it.
        index: row numbers, int64 [B].
        read: what the text tower has read, whose first is token ids [B, 2, L]: a row of two equal captions has no foil.
    """
    if text.ndim == 2:
        return loss(image, text, index)
    return loss(image, text, index, (read[0][:, 0] != read[0][:, 1]).any(1))


def start_temperature(experiment: Experiment) -> float:
    """Return the temperature at the first step.

    It is the experiment's, or else the initial one of its geometry.

    Raises:
        ClipeduError: an unknown geometry.
    """
    if experiment.temperature is not None:
        return experiment.temperature
    return cast(type[Geometry], GEOMETRIES[experiment.geometry].build).temperature


def scale_range(experiment: Experiment) -> tuple[float, float]:
    """Return the lowest and the highest logarithm of a learned logit scale.

    Raises:
        ClipeduError: an unknown geometry.
    """
    low, high = cast(type[Geometry], GEOMETRIES[experiment.geometry].build).logit_scale_range
    most = experiment.loss_options.get("max_scale")
    return low, math.log(most) if most else high


def check_names(experiment: Experiment) -> None:
    """Check an experiment's names and options, before any data is read.

    An objective for two rows is built and discarded, because its constructor checks which values fit together. The real
    one needs the number of rows. So this is called once, where nothing has been read yet (`load_data`, and for each
    cell of a grid or a comparison before the first of them runs).

    The optimizer is built too, and makes two steps on a few numbers, at the peak of the learning rate.

    Raises:
        ClipeduError: an unknown name or option, a value out of range, or a device that is not there.
    """
    ex = experiment
    OPTIMIZERS[ex.optimizer]
    geometry = build_geometry(experiment.geometry, experiment.embedding_dim, **experiment.geometry_options)
    build_objective(experiment, geometry, num_samples=2)
    check_optimizer(ex)
    if ex.lora_rank is not None and ex.start is None and (ex.image_weights, ex.text_weights) == ("random",) * 2:
        raise ClipeduError(
            f"lora_rank={ex.lora_rank} adapts trained weights, and these would be random: give a model to start from (--from)"
        )


def check_optimizer(experiment: Experiment) -> float:
    """Try an experiment's optimizer on a few numbers.

    Returns:
        how many numbers its state has for each trained one, about.
    Raises:
        ClipeduError: it does not take its options, or the device is not there.
    """
    ex = experiment
    settings = {"lr": ex.lr, "weight_decay": ex.weight_decay, **ex.optimizer_options}
    return try_optimizer(ex.optimizer, pick_device(ex.device), **settings)
