"""What must hold in any space, in all spaces of a kind, or between two of them; float64, over seeds."""

import math

import pytest
import torch

from .oracle import NAMES, ROOTED, build, close, contrastive, draw, fixed

SEEDS = range(3)


def turn(seed, dim=5):
    """A random rotation (or reflection) [D, D]."""
    return torch.linalg.qr(draw(seed + 1000, rows=dim, dim=dim)).Q


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_distance_is_a_distance(name, seed):
    x = draw(seed, rows=8)
    distance = fixed(name, 5).distance(x, x)
    assert (distance >= 0).all()
    close(distance.diagonal(), torch.zeros(8), tolerance=1e-15)
    close(distance, distance.T, rel=1e-12, tolerance=1e-15)
    for i in range(8):
        for j in range(8):
            assert distance[i, j] <= (distance[i] + distance[j]).min() + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_swap_permutation_and_rotation(name, seed):
    x, y = draw(seed, rows=6), draw(seed + 50, rows=4)
    geometry, rotation = fixed(name, 5), turn(seed)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for table in (geometry.similarity, geometry.distance):
        close(table(y, x), table(x, y).T, rel=1e-12, tolerance=1e-14)
        close(table(x[order], y), table(x, y)[order], rel=1e-12, tolerance=1e-14)
        close(table(x @ rotation, y @ rotation), table(x, y), rel=1e-12, tolerance=1e-13)
    close(
        geometry.geodesic(x @ rotation, x.flip(0) @ rotation, 0.3),
        geometry.geodesic(x, x.flip(0), 0.3) @ rotation,
        rel=1e-9,
        tolerance=1e-12,
    )
    if geometry.has_cones:
        close(
            geometry.exterior_angle(x @ rotation, x.flip(0) @ rotation), geometry.exterior_angle(x, x.flip(0)), rel=1e-9
        )
        close(geometry.half_aperture(x @ rotation), geometry.half_aperture(x), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "euclidean-inner"])
def test_nearer_is_more_similar(name):
    """All similarities but the inner product of flat space fall with the distance."""
    x, y = draw(0, rows=8), draw(1, rows=8)
    geometry = fixed(name, 5)
    nearest_first = geometry.distance(x, y).flatten().argsort()
    assert (geometry.similarity(x, y).flatten()[nearest_first].diff() < 0).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_geodesics_have_constant_speed(name, seed):
    x, y = draw(seed, rows=1), draw(seed + 50, rows=1)
    geometry = fixed(name, 5)
    whole = geometry.distance(x, y)[0]
    shares = torch.linspace(0, 1, 6, dtype=torch.float64)
    path = geometry.geodesic(x[0], y[0], shares[:, None])
    assert path.shape == (6, 5)
    close(geometry.distance(path, x)[:, 0], shares * whole, rel=1e-9, tolerance=1e-12)
    close(geometry.distance(path, path), (shares[:, None] - shares).abs() * whole, rel=1e-9, tolerance=1e-12)
    close(geometry.geodesic(x, y, 0.25), geometry.geodesic(y, x, 0.75), rel=1e-9, tolerance=1e-12)
    if name in ROOTED:
        close(path[[0, -1]], torch.cat([x, y]), rel=1e-9)
        close(
            geometry.geodesic(x[0], geometry.root(x), shares[:, None]),
            (1 - shares[:, None]) * x,
            rel=1e-9,
            tolerance=1e-15,
        )


def test_a_path_ends_where_it_should_also_between_equal_and_opposite_points():
    x = draw(0)
    for name in NAMES:
        geometry = fixed(name, 5)
        close(geometry.distance(geometry.geodesic(x, x, 0.4), x).diagonal(), torch.zeros(6), tolerance=1e-14)
        middle = geometry.geodesic(x, -x, 0.5)
        expected = geometry.distance(x, -x).diagonal() / 2
        close(geometry.distance(x, middle).diagonal(), expected, rel=1e-9)
        close(geometry.distance(-x, middle).diagonal(), expected, rel=1e-9)


@pytest.mark.parametrize("theta", [0.01, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
def test_two_points_on_a_circle(curvature, radius, theta):
    geometry = fixed("lorentz", 2, curvature)
    x = radius * torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    y = radius * torch.tensor([[math.cos(theta), math.sin(theta)]], dtype=torch.float64)
    a = math.sqrt(curvature) * radius
    distance = 2 / math.sqrt(curvature) * math.asinh(math.sinh(a) * math.sin(theta / 2))
    close(geometry.distance(x, y)[0, 0], distance, rel=1e-9)
    close(geometry.exterior_angle(x, y)[0], math.pi - math.atan(1 / (math.cosh(a) * math.tan(theta / 2))), rel=1e-9)
    close(fixed("euclidean", 2).exterior_angle(x, y)[0], math.pi / 2 + theta / 2, rel=1e-9)


def test_flat_space_is_the_limit_of_small_radius():
    x, y = draw(0, size=1e-4), draw(1, size=1e-4)
    flat, curved = fixed("euclidean", 5), fixed("lorentz", 5)
    close(curved.distance(x, y), flat.distance(x, y), rel=1e-6)
    close(curved.exterior_angle(x, y), flat.exterior_angle(x, y), rel=1e-6)
    close(curved.geodesic(x, y, 0.3), flat.geodesic(x, y, 0.3), rel=1e-6)
    close(curved.half_aperture(x, 0.5e-5), flat.half_aperture(x, 1e-5), rel=1e-6)  # K_hyperbolic = K_flat sqrt(c) / 2


@pytest.mark.parametrize("name", NAMES)
def test_equal_points_cost_a_guess(name):
    same = draw(0, rows=1).expand(4, 5)
    assert contrastive(fixed(name, 5).similarity(same, same)) == pytest.approx([math.log(4)] * 3, rel=1e-12)


def test_spread_of_logits_at_the_start():
    """Random vectors of 512 normal features: std(cos), std(d), std(d^2) are 1, 1, sqrt(8) over sqrt(512)."""
    x, y = draw(0, rows=300, dim=512), draw(1, rows=300, dim=512)
    for name, spread in (("cosine", 0.0442), ("euclidean", 0.0442), ("euclidean-squared", 0.125)):
        assert fixed(name, 512).similarity(x, y).std().item() == pytest.approx(spread, rel=0.05)
    assert fixed("euclidean", 512).distance(x, y).mean().item() == pytest.approx(math.sqrt(2), rel=0.01)
    assert build("euclidean-squared", 512).temperature > build("euclidean", 512).temperature
