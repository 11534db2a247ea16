"""`DualEncoder`: two encoders, two projections; encoders by name."""

import clipedu.models.catalog  # noqa: F401  fills ENCODERS
from clipedu.models.build import build_model
from clipedu.models.dual_encoder import DualEncoder
from clipedu.models.registry import ENCODERS

__all__ = ["ENCODERS", "DualEncoder", "build_model"]
