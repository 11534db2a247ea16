"""The objective of an experiment: its loss, in its geometry.

It has the experiment's temperature, and its entailment term where there is one.
"""

from __future__ import annotations

import math
from typing import cast

from clipedu.config.experiment import Experiment
from clipedu.geometry import GEOMETRIES, Geometry, build_geometry
from clipedu.losses import Entailed, Loss, build_loss
from clipedu.optim import OPTIMIZERS
from clipedu.optim.trial import try_optimizer
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError

ENTAILMENT_OPTIONS = ("min_radius", "final_min_radius")


def build_objective(experiment: Experiment, geometry: Geometry, num_samples: int) -> Loss:
    """Build the loss of an experiment, with its entailment term if any.

    Args:
        experiment: its loss, temperature and entailment, with their options.
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
    return Entailed(loss, ex.entailment, **ex.entailment_options) if ex.entailment else loss


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
