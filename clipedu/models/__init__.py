"""`DualEncoder`: two encoders, two projections; encoders by name."""

from clipedu.models.catalog import ENCODERS
from clipedu.models.dual_encoder import DualEncoder, build_model

__all__ = ["ENCODERS", "DualEncoder", "build_model"]
