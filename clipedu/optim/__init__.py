"""Optimizers by name, what they decay, and the learning rate over a run."""

from clipedu.optim.build import OPTIMIZERS, build_optimizer
from clipedu.optim.groups import describe_groups, parameter_groups
from clipedu.optim.schedule import learning_rate

__all__ = ["OPTIMIZERS", "build_optimizer", "describe_groups", "learning_rate", "parameter_groups"]
