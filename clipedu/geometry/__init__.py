"""Geometries: how two embeddings are compared. Read `base.py` first.

>>> import torch
>>> geometry = build_geometry("lorentz", dim=128)
>>> image, text = geometry.tangent(torch.randn(4, 128), "image"), geometry.tangent(torch.randn(6, 128), "text")
>>> geometry.similarity(image, text).shape  # tangent vectors [A, D], [B, D] -> [A, B]
torch.Size([4, 6])

`GEOMETRIES` lists them: `GEOMETRIES["lorentz"].description`, `.paper`, `.formula` (LaTeX), `.defaults` (all options).
Each space has one file: `sphere.py`, `euclidean.py`, `lorentz.py`.
"""

from __future__ import annotations

import inspect
from typing import Any

from clipedu.geometry.base import Geometry, full_precision
from clipedu.geometry.euclidean import Euclidean, EuclideanInner, EuclideanSquared
from clipedu.geometry.lorentz import Lorentz, LorentzInner, LorentzSquared
from clipedu.geometry.registry import GEOMETRIES
from clipedu.geometry.sphere import Cosine, Elliptic
from clipedu.utils.errors import ClipeduError

__all__ = ["GEOMETRIES", "Cosine", "Euclidean", "Geometry", "Lorentz", "build_geometry", "full_precision"]

for _geometry in (
    Cosine,
    Elliptic,
    Euclidean,
    EuclideanSquared,
    EuclideanInner,
    Lorentz,
    LorentzSquared,
    LorentzInner,
):
    GEOMETRIES.add(
        _geometry.name,
        _geometry,
        _geometry.description,
        paper=_geometry.paper,
        formula=_geometry.formula,
        defaults={key: o.default for key, o in inspect.signature(_geometry).parameters.items() if key != "dim"},
    )


def build_geometry(name: str, dim: int, **options: Any) -> Geometry:
    """Build the geometry called `name`, an `nn.Module`.

    Args:
        name: one of `GEOMETRIES`.
        dim: width of the embeddings, D.
        **options: the geometry's own; `GEOMETRIES[name].defaults` lists them.

    Raises:
        ClipeduError: unknown name or option, or a value out of range.
    """
    entry = GEOMETRIES[name]
    assert entry.build is not None
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise ClipeduError(f"dim must be a whole number >= 1, the width of the embeddings; got {dim!r}")
    for key in options:
        if key not in entry.defaults:
            raise ClipeduError(f"{name} has no option {key!r}. Allowed: {', '.join(entry.defaults) or 'none'}")
    return entry.build(dim, **options)
