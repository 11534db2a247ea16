"""What the geometry tests share: reference values, formulas as the papers print them, and geometries in float64."""

import math

import torch
from torch import Tensor

from clipedu.geometry import GEOMETRIES, build_geometry

NAMES = list(GEOMETRIES)
ROOTED = [name for name in NAMES if GEOMETRIES[name].build.has_cones]
LORENTZ = [name for name in NAMES if name.startswith("lorentz")]

TEXTS = torch.tensor([[0.3, 0.4, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.8]], dtype=torch.float64)
IMAGES = torch.tensor([[0.6, 0.9, 0.1], [1.5, -0.2, 0.3], [0.1, -0.3, 1.4]], dtype=torch.float64)
POINTS = {  # tangent vectors
    "p": (0.3, 0.4, 0.0),
    "q": (1.0, 0.0, 0.0),
    "r": (0.0, 2.0, 0.0),
    "s": (1.2, -0.9, 0.5),
    "w": (0.6, 0.8, 0.0),
    "z": (0.05, 0.0, 0.0),
}


def build(name, dim=3, **options):
    """A geometry whose numbers are float64 from the start (log 0.1 in float32 is wrong in the ninth digit)."""
    torch.set_default_dtype(torch.float64)
    try:
        return build_geometry(name, dim, **options)
    finally:
        torch.set_default_dtype(torch.float32)


def fixed(name, dim=3, curvature=1.0):
    """The geometry with nothing to learn; `curvature` where it has one."""
    options = {"curvature": curvature, "learn_curvature": False, "learn_alpha": False} if name in LORENTZ else {}
    return build(name, dim, **options)


def point(letter):
    return torch.tensor(POINTS[letter], dtype=torch.float64)


def draw(seed, rows=6, dim=5, size=1.0):
    """Rows of normal numbers, float64, of length about `size`."""
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(rows, dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)


def close(actual, expected, *, rel=0.0, tolerance=0.0):
    """Equal within a relative and an absolute tolerance; `expected` may be numbers."""
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual.detach(), expected.detach(), rtol=rel, atol=tolerance)


def contrastive(similarity: Tensor, scale: float = 1.0) -> tuple[float, float, float]:
    """InfoNCE of S [B, B], written out: image to text, text to image, mean."""
    logits = scale * similarity.detach()
    rows = (logits.logsumexp(1) - logits.diagonal()).mean().item()
    columns = (logits.logsumexp(0) - logits.diagonal()).mean().item()
    return rows, columns, (rows + columns) / 2


# The formulas as the papers print them, pair by pair. In float64, at moderate lengths, they are right to about 1e-12.


def lift(u: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Space and time coordinates on the hyperboloid of tangent vectors u [..., D], none of them zero."""
    k = math.sqrt(c) * u.square().sum(-1, keepdim=True).sqrt()
    space = torch.sinh(k) / k * u
    return space, (1 / c + space.square().sum(-1)).sqrt()


def lorentz_product(u: Tensor, v: Tensor, c: float) -> Tensor:
    """<x, y>_L of matched tangent vectors [..., D]."""
    (xs, xt), (ys, yt) = lift(u, c), lift(v, c)
    return (xs * ys).sum(-1) - xt * yt


def naive_similarity(name: str, u: Tensor, v: Tensor, c: float = 1.0) -> Tensor:
    """Similarity of matched tangent vectors u, v [..., D]."""
    dot = (u * v).sum(-1)
    cosine = dot / (u.square().sum(-1) * v.square().sum(-1)).sqrt()
    squared = (u - v).square().sum(-1)
    product = lorentz_product(u, v, c)
    hyperbolic = torch.arccosh(-c * product) / math.sqrt(c)
    return {
        "cosine": cosine,
        "elliptic": -torch.arccos(cosine),
        "euclidean": -squared.sqrt(),
        "euclidean-squared": -squared,
        "euclidean-inner": dot,
        "lorentz": -hyperbolic,
        "lorentz-squared": -hyperbolic.square(),
        "lorentz-inner": product,
    }[name]


def naive_distance(name: str, u: Tensor, v: Tensor, c: float = 1.0) -> Tensor:
    plain = "elliptic" if name in ("cosine", "elliptic") else name.split("-")[0]
    return -naive_similarity(plain, u, v, c)


def naive_exterior(name: str, u: Tensor, v: Tensor, c: float = 1.0) -> Tensor:
    """Exterior angle at u, by arccos, of matched tangent vectors."""
    if name.startswith("euclidean"):
        step = v - u
        return torch.arccos((step * u).sum(-1) / (step.square().sum(-1) * u.square().sum(-1)).sqrt())
    (xs, xt), (_, yt) = lift(u, c), lift(v, c)
    k = c * lorentz_product(u, v, c)
    return torch.arccos((yt + k * xt) / (xs.square().sum(-1).sqrt() * (k.square() - 1).sqrt()))


def naive_aperture(name: str, u: Tensor, min_radius: float, c: float = 1.0) -> Tensor:
    if name.startswith("euclidean"):
        share = min_radius / u.square().sum(-1).sqrt()
    else:
        share = 2 * min_radius / (math.sqrt(c) * lift(u, c)[0].square().sum(-1).sqrt())
    return torch.arcsin(share.clamp(max=1))
