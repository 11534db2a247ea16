"""`ENCODERS`: the registry that `clipedu.models.catalog` fills."""

from __future__ import annotations

from clipedu.utils.registry import Registry

ENCODERS = Registry("encoder")
"""All encoders that have a name of their own: `ENCODERS["resnet50"].description`, `.defaults`."""

VISION_TRANSFORMERS: list[str] = []  # entries that `clipedu.models.vit` builds: it makes their names known to timm


def encoder_names(kind: str) -> list[str]:
    """Return the names of the entries of a kind.

    Args:
        kind: "timm" for image encoders, "transformers" for text encoders.
    """
    return [name for name, entry in ENCODERS.items() if kind in entry.defaults]
