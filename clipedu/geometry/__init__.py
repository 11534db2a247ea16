"""Geometries: how two embeddings are compared. What "similar" means is a choice, and it is made here.

    geometry = build_geometry("cosine", dim=128)
    geometry.similarity(image, text)        # tangent vectors [A, D], [B, D] -> [A, B]

`GEOMETRIES` lists them. `base.py` holds what a geometry is; read it first.
"""

from clipedu.geometry.base import Geometry, full_precision
from clipedu.geometry.sphere import Cosine
from clipedu.registry import Registry

__all__ = ["GEOMETRIES", "Cosine", "Geometry", "build_geometry", "full_precision"]

GEOMETRIES = Registry("geometry")
GEOMETRIES.add(
    "cosine",
    lambda dim: Cosine(),
    "unit sphere: cosine of the angle, length ignored (CLIP)",
    paper="arXiv:2103.00020",
    formula=r"s(x, y) = \frac{x \cdot y}{\lVert x \rVert \, \lVert y \rVert}",
)


def build_geometry(name: str, dim: int) -> Geometry:
    """The geometry called `name` (see `GEOMETRIES`) for embeddings of width `dim`. Unknown: `ClipeduError`."""
    return GEOMETRIES[name].build(dim)
