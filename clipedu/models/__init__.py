"""Two encoders and two projections: `DualEncoder`, and the names of encoders it can be built from."""

from clipedu.models.catalog import ENCODERS
from clipedu.models.dual_encoder import DualEncoder, build_model

__all__ = ["ENCODERS", "DualEncoder", "build_model"]
