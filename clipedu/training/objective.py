"""What an experiment minimises: its loss, in its geometry, at its temperature, with entailment where it asks for it."""

from __future__ import annotations

from clipedu.config.experiment import Experiment
from clipedu.geometry import Geometry, build_geometry
from clipedu.losses import Entailed, Loss, build_loss
from clipedu.optim import OPTIMIZERS
from clipedu.utils.errors import ClipeduError

ENTAILMENT_OPTIONS = ("min_radius", "final_min_radius")


def build_objective(experiment: Experiment, geometry: Geometry, num_samples: int) -> Loss:
    """The loss of an experiment in this geometry, with its entailment term where it asks for one."""
    ex = experiment
    options = {"learn_temperature": True, **ex.loss_options} if ex.learn_temperature else ex.loss_options
    loss = build_loss(
        ex.loss,
        temperature=start_temperature(ex),
        num_samples=num_samples,
        geometry=geometry,
        **options,
    )
    for key in ex.entailment_options:
        if key not in ENTAILMENT_OPTIONS:
            raise ClipeduError(f"entailment has no option {key!r}. Allowed: {', '.join(ENTAILMENT_OPTIONS)}")
    return Entailed(loss, ex.entailment, **ex.entailment_options) if ex.entailment else loss


def start_temperature(experiment: Experiment) -> float:
    """The temperature at the first step: the experiment's, or the one that its geometry starts with."""
    if experiment.temperature is not None:
        return experiment.temperature
    return build_geometry(experiment.geometry, 2).temperature


def check_names(experiment: Experiment) -> None:
    """Look up the experiment's names, so that an unknown one is told before any data is read. Raises ClipeduError."""
    OPTIMIZERS[experiment.optimizer]
    geometry = build_geometry(experiment.geometry, experiment.embedding_dim, **experiment.geometry_options)
    build_objective(experiment, geometry, num_samples=2)
