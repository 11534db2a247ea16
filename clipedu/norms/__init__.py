"""How large weights, gradients and updates are: measured (`NormMonitor`), predicted, and played with."""

from clipedu.norms.monitor import QUANTITIES, NormMonitor

__all__ = ["QUANTITIES", "NormMonitor"]
