"""How large weights, gradients and updates are: measured (`NormMonitor`), predicted, and played with."""

from clipedu.norms.equilibrium import predicted_norms
from clipedu.norms.monitor import NormMonitor
from clipedu.norms.optimizer_steady_state import SteadyState, steady_state
from clipedu.norms.random_walks import Walk, sandbox
from clipedu.norms.table import COLUMNS, QUANTITIES

__all__ = [
    "COLUMNS",
    "QUANTITIES",
    "NormMonitor",
    "SteadyState",
    "Walk",
    "predicted_norms",
    "sandbox",
    "steady_state",
]
