"""`GEOMETRIES`: the registry that `clipedu.geometry` fills."""

from __future__ import annotations

from clipedu.utils.registry import Registry

GEOMETRIES = Registry("geometry")
"""All geometries by name: `GEOMETRIES["lorentz"].description`, `.paper`, `.formula`, `.defaults`."""


def names_with_cones() -> list[str]:
    """Return the names of the geometries whose points span cones."""
    return [name for name, entry in GEOMETRIES.items() if getattr(entry.build, "has_cones", False)]
