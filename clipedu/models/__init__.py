"""Two encoders and two projections: `DualEncoder`, and the names of encoders it can be built from."""

from clipedu.models.dual import DualEncoder, build_model
from clipedu.models.encoders import ENCODERS

__all__ = ["ENCODERS", "DualEncoder", "build_model"]
