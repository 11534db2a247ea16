"""What must hold in any space, in all spaces of a kind, or between two of them; float64, over seeds."""

import math

import pytest
import torch

from .oracle import LORENTZ, NAMES, ROOTED, build, close, contrastive, draw, fixed

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


def test_inner_product_and_distance_rank_differently():
    query, candidates = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    assert fixed("euclidean-inner", 2).similarity(query, candidates).argmax() == 1
    assert fixed("euclidean", 2).similarity(query, candidates).argmax() == 0


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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
def test_hyperboloid(curvature, seed):
    u, v = draw(seed), draw(seed + 50)
    geometry = fixed("lorentz", 5, curvature)
    root_c, zero = math.sqrt(curvature), torch.zeros(1, 5, dtype=torch.float64)
    close(geometry.logmap0(geometry.expmap0(u)), u, rel=1e-12)
    close(geometry.distance(zero, u)[0], u.norm(dim=1), rel=1e-12)
    close(geometry.distance(u, 2.5 * u).diagonal(), 1.5 * u.norm(dim=1), rel=1e-12)
    close(geometry.distance(u, -0.5 * u).diagonal(), 1.5 * u.norm(dim=1), rel=1e-12)
    across = v - (v * u).sum(1, keepdim=True) / u.square().sum(1, keepdim=True) * u
    cosh = torch.cosh(root_c * u.norm(dim=1)) * torch.cosh(root_c * across.norm(dim=1))
    close(torch.cosh(root_c * geometry.distance(u, across).diagonal()), cosh, rel=1e-12)
    distance, flat = geometry.distance(u, v), fixed("euclidean", 5).distance(u, v)
    assert (flat <= distance + 1e-12).all()
    assert (distance <= u.norm(dim=1)[:, None] + v.norm(dim=1) + 1e-12).all()
    assert (distance <= fixed("lorentz", 5, min(10.0, 2 * curvature)).distance(u, v) + 1e-12).all()


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


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_redundancy(seed):
    """(k u, c / k^2, s / k) gives the same logits and the same cones as (u, c, s)."""
    u, v = draw(seed), draw(seed + 50)
    one, other = fixed("lorentz", 5, 2.0), fixed("lorentz", 5, 0.5)
    close(other.distance(2 * u, 2 * v), 2 * one.distance(u, v), rel=1e-9)
    close(other.exterior_angle(2 * u, 2 * v), one.exterior_angle(u, v), rel=1e-9)
    close(other.half_aperture(2 * u), one.half_aperture(u), rel=1e-9)
    close(other.poincare(2 * u), one.poincare(u), rel=1e-9)
    inner = [fixed("lorentz-inner", 5, c).similarity(k * u, k * v) for c, k in ((2.0, 1), (0.5, 2))]
    close(inner[1], 4 * inner[0], rel=1e-9)


@pytest.mark.parametrize("name", ROOTED)
def test_cones_by_hand(name):
    geometry, x = fixed(name, 5), draw(0)
    zero = torch.zeros_like(x)
    close(geometry.exterior_angle(x, 1.7 * x), torch.zeros(6), tolerance=1e-15)
    close(geometry.exterior_angle(x, 0.4 * x), [math.pi] * 6, rel=1e-9)
    close(geometry.exterior_angle(x, zero), [math.pi] * 6, rel=1e-9)
    assert (geometry.half_aperture(2 * x, 0.01) < geometry.half_aperture(x, 0.01)).all()
    assert (geometry.half_aperture(x, 0.02) > geometry.half_aperture(x, 0.01)).all()
    close(geometry.half_aperture(x, 0), zero[:, 0])
    # a cone holds all that lies behind one of its points, and what a text entails is entailed by what entails the text
    close(geometry.half_aperture(zero), [math.pi / 2] * 6, rel=1e-15)
    close(geometry.entailment(zero, x), zero[:, 0])


@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_cones_are_transitive(name):
    """If y is in the cone of x, the cone of y lies within it (Ganea et al. 2018): what y entails, x entails."""
    geometry = fixed(name)
    x = torch.tensor([0.7, 0.0, 0.0], dtype=torch.float64)
    y = x * torch.linspace(1, 3, 60, dtype=torch.float64)[:, None] + draw(0, rows=60, dim=3, size=0.3)
    y = y[geometry.entailment(x, y, 0.3) == 0][:, None]
    z = y * torch.linspace(1, 3, 60, dtype=torch.float64)[:, None] + draw(1, rows=60, dim=3, size=0.3)
    inside = geometry.entailment(y, z, 0.3) == 0
    assert inside.sum() > 50 and (~inside).sum() > 50
    assert (geometry.entailment(x, z[inside], 0.3) < 1e-12).all()


def test_flat_space_is_the_limit_of_small_radius():
    x, y = draw(0, size=1e-4), draw(1, size=1e-4)
    flat, curved = fixed("euclidean", 5), fixed("lorentz", 5)
    close(curved.distance(x, y), flat.distance(x, y), rel=1e-6)
    close(curved.exterior_angle(x, y), flat.exterior_angle(x, y), rel=1e-6)
    close(curved.geodesic(x, y, 0.3), flat.geodesic(x, y, 0.3), rel=1e-6)
    close(curved.half_aperture(x, 0.5e-5), flat.half_aperture(x, 1e-5), rel=1e-6)  # K_hyperbolic = K_flat sqrt(c) / 2


def test_lower_curvature_opens_every_cone():
    texts, images = draw(0, size=0.7), draw(0, size=0.7) + draw(1, size=0.2)
    residuals = [fixed("lorentz", 5, c).entailment(texts, images, 0.1) for c in (0.1, 0.5, 1.0, 5.0, 10.0)]
    assert all((more >= less).all() for less, more in zip(residuals, residuals[1:], strict=False))
    assert residuals[-1].mean() > 2 * residuals[0].mean()


def test_unit_vectors_squared_distance_is_cosine_at_twice_the_scale():
    x, y = (draw(seed) / draw(seed).norm(dim=1, keepdim=True) for seed in (0, 1))
    squared, cosine = fixed("euclidean-squared", 5).similarity(x, y), fixed("cosine", 5).similarity(x, y)
    assert contrastive(squared, 3.0) == pytest.approx(contrastive(cosine, 6.0), rel=1e-9)


@pytest.mark.parametrize("name", ["euclidean", "euclidean-squared"])
def test_a_common_shift_is_not_seen(name):
    x, y = draw(0), draw(1)
    geometry, shift = fixed(name, 5), draw(2, rows=1, size=2.0)
    close(geometry.similarity(x + shift, y + shift), geometry.similarity(x, y), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_equal_points_cost_a_guess(name):
    same = draw(0, rows=1).expand(4, 5)
    assert contrastive(fixed(name, 5).similarity(same, same)) == pytest.approx([math.log(4)] * 3, rel=1e-12)


def test_how_flat_space_pulls():
    x, y = draw(0, rows=1).requires_grad_(), draw(1, rows=1)
    step = (x - y).detach()
    for name, pull in (("euclidean", -step / step.norm()), ("euclidean-squared", -2 * step)):
        (gradient,) = torch.autograd.grad(fixed(name, 5).similarity(x, y).sum(), x)
        close(gradient, pull, rel=1e-12)


def test_spread_of_logits_at_the_start():
    """Random vectors of 512 normal features: std(cos), std(d), std(d^2) are 1, 1, sqrt(8) over sqrt(512)."""
    x, y = draw(0, rows=300, dim=512), draw(1, rows=300, dim=512)
    for name, spread in (("cosine", 0.0442), ("euclidean", 0.0442), ("euclidean-squared", 0.125)):
        assert fixed(name, 512).similarity(x, y).std().item() == pytest.approx(spread, rel=0.05)
    assert fixed("euclidean", 512).distance(x, y).mean().item() == pytest.approx(math.sqrt(2), rel=0.01)
    assert build("euclidean-squared", 512).temperature > build("euclidean", 512).temperature


def test_lorentz_names_share_their_space():
    x, y = draw(0), draw(1)
    for name in LORENTZ:
        close(fixed(name, 5).distance(x, y), fixed("lorentz", 5).distance(x, y))
    distance = fixed("lorentz", 5, 0.1).distance(x, y)
    inner = fixed("lorentz-inner", 5, 0.1).similarity(x, y)
    close(inner, -torch.cosh(math.sqrt(0.1) * distance) / 0.1, rel=1e-12)
