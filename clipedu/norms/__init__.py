"""Norms of weights and updates: measured, predicted, simulated."""

from clipedu.norms.equilibrium import predicted_norms
from clipedu.norms.monitor import NormMonitor
from clipedu.norms.optimizer_steady_state import SteadyState, steady_state
from clipedu.norms.random_walks import Walk, WalkSettings, sandbox
from clipedu.norms.table import COLUMNS, CONTRIBUTIONS, QUANTITIES

__all__ = [
    "COLUMNS",
    "CONTRIBUTIONS",
    "QUANTITIES",
    "NormMonitor",
    "SteadyState",
    "Walk",
    "WalkSettings",
    "predicted_norms",
    "sandbox",
    "steady_state",
]
