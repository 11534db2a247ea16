"""Optimizers by name, parameter groups, decay laws, schedules."""

from clipedu.optim.decay_laws import DECAY_LAWS, follow
from clipedu.optim.factory import OPTIMIZERS, build_optimizer
from clipedu.optim.group_table import describe_groups
from clipedu.optim.param_groups import parameter_groups
from clipedu.optim.schedule import learning_rate

__all__ = [
    "DECAY_LAWS",
    "OPTIMIZERS",
    "build_optimizer",
    "describe_groups",
    "follow",
    "learning_rate",
    "parameter_groups",
]
