"""How a blend of models was made, and its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a blend was made.

    Attributes:
        models: what the user called them.
        weights: how much of each, one number a model; their sum is 1.
        statistics: of batch norms: "recomputed", "interpolated", or "none" where there are no batch norms.
        command: the command that makes it again.
    """

    models: Sequence[str]
    weights: Sequence[float]
    statistics: str
    command: str

    @property
    def words(self) -> str:
        """The parts of the blend, such as "0.7 of runs/a and 0.3 of runs/b"."""
        parts = [f"{weight:.3g} of {name}" for name, weight in zip(self.models, self.weights, strict=True) if weight]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
