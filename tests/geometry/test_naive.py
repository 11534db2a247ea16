"""Every formula against the one that the papers print (`oracle.py`), in float64, over seeds, lengths and curvatures."""

import math

import pytest
import torch

from .oracle import (
    LORENTZ,
    NAMES,
    ROOTED,
    close,
    draw,
    fixed,
    lift,
    naive_aperture,
    naive_distance,
    naive_exterior,
    naive_similarity,
)

CASES = [(name, c) for name in NAMES for c in ((0.1, 1.0, 10.0) if name in LORENTZ else (1.0,))]
CONES = [(name, c) for name, c in CASES if name in ROOTED]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "curvature"), CASES)
def test_similarity_and_distance_of_all_pairs(name, curvature, seed):
    x, y = draw(seed, rows=6, size=0.7), draw(seed + 100, rows=4, size=1.2)
    geometry = fixed(name, 5, curvature)
    similarity, distance = geometry.similarity(x, y), geometry.distance(x, y)
    assert similarity.shape == distance.shape == (6, 4)
    close(similarity, naive_similarity(name, x[:, None], y[None], curvature), rel=1e-9, tolerance=1e-14)
    close(distance, naive_distance(name, x[:, None], y[None], curvature), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "curvature"), CONES)
def test_cones(name, curvature, seed):
    x, y = draw(seed, rows=6, size=0.6), draw(seed + 100, rows=6, size=1.0)
    geometry = fixed(name, 5, curvature)
    exterior = naive_exterior(name, x, y, curvature)
    close(geometry.exterior_angle(x, y), exterior, rel=1e-9)
    for min_radius in (0.02, 0.1, 0.3):
        aperture = naive_aperture(name, x, min_radius, curvature)
        close(geometry.half_aperture(x, min_radius), aperture, rel=1e-9)
        close(geometry.entailment(x, y, min_radius), (exterior - aperture).clamp(min=0), rel=1e-9, tolerance=1e-12)


@pytest.mark.parametrize("name", ROOTED)
def test_cones_broadcast_over_leading_dimensions(name):
    x, y = draw(0, rows=3), draw(1, rows=4)
    geometry = fixed(name, 5)
    table = geometry.exterior_angle(x[:, None], y)
    assert table.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            close(geometry.exterior_angle(x[i], y[j]), table[i, j], rel=1e-12)
    assert geometry.entailment(x[:, None], y).shape == (3, 4)
    assert geometry.half_aperture(x[0]).shape == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
def test_maps_and_projections(curvature, seed):
    u = draw(seed)
    geometry = fixed("lorentz", 5, curvature)
    space, time = lift(u, curvature)
    close(geometry.expmap0(u), space, rel=1e-12)
    close(geometry.logmap0(space), u, rel=1e-12)
    # stereographic and central projection of the hyperboloid of curvature -1 to the unit ball
    space, time = math.sqrt(curvature) * space, math.sqrt(curvature) * time[:, None]
    close(geometry.poincare(u), space / (1 + time), rel=1e-12)
    close(geometry.klein(u), space / time, rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
def test_geodesic_on_the_hyperboloid(curvature, share):
    """The point X cosh(s) + T sinh(s), with T the unit tangent at X towards Y, typed out in ambient coordinates."""
    u, v = draw(0), draw(1)
    (xs, xt), (ys, yt) = lift(u, curvature), lift(v, curvature)
    root_c = math.sqrt(curvature)
    x = root_c * torch.cat([xs, xt[:, None]], dim=1)
    y = root_c * torch.cat([ys, yt[:, None]], dim=1)
    cosh = (x[:, -1] * y[:, -1] - (x * y)[:, :-1].sum(1))[:, None]
    tangent = (y - cosh * x) / (cosh.square() - 1).sqrt()
    way = share * torch.arccosh(cosh)
    place = (torch.cosh(way) * x + torch.sinh(way) * tangent)[:, :-1] / root_c
    k = root_c * place.norm(dim=1, keepdim=True)
    close(fixed("lorentz", 5, curvature).geodesic(u, v, share), torch.arcsinh(k) / k * place, rel=1e-9, tolerance=1e-12)


@pytest.mark.parametrize("name", ["cosine", "elliptic"])
def test_geodesic_on_the_sphere(name):
    x, y = (draw(seed) / draw(seed).norm(dim=1, keepdim=True) for seed in (0, 1))
    theta = torch.arccos((x * y).sum(1, keepdim=True))
    slerp = (torch.sin(0.7 * theta) * x + torch.sin(0.3 * theta) * y) / torch.sin(theta)
    close(fixed(name).geodesic(3 * x, 0.5 * y, 0.3), slerp, rel=1e-9, tolerance=1e-14)
    close(fixed(name).expmap0(7 * x), x, rel=1e-12)
    close(fixed(name).logmap0(x), x)


def test_geodesic_in_flat_space_is_the_straight_line():
    x, y = draw(0), draw(1)
    geometry = fixed("euclidean", 5)
    close(geometry.geodesic(x, y, 0.3), 0.7 * x + 0.3 * y, rel=1e-12)
    close(geometry.expmap0(x), x)
    close(geometry.logmap0(x), x)


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_root(name):
    x = draw(0)
    geometry = fixed(name, 5)
    if name in ROOTED:
        close(geometry.mean(x), x.sum(0) / 6, rel=1e-12)
        close(geometry.root(x), torch.zeros(5), tolerance=0)
    else:
        direction = (x / x.norm(dim=1, keepdim=True)).sum(0)
        close(geometry.mean(x), direction / direction.norm(), rel=1e-12)
        close(geometry.root(x), geometry.mean(x))
    assert geometry.mean(x).shape == geometry.root(x).shape == (5,)
