"""Hyperbolic space: the hyperboloid's laws, far points, its projections and its curvature."""

import math

import pytest
import torch

from clipedu.geometry import build_geometry

from .oracle import LORENTZ, close, draw, fixed, lift

SEEDS = range(3)
WIDE = 512


@pytest.mark.parametrize("radius", [0.5, 5.0, 20.0, 40.0])
def test_lorentz_stays_true_up_to_40(radius):
    """Far points on one ray, on opposite rays and at right angles; cosh of 40 squared is 1e34."""
    for dtype, rel in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x, y = torch.tensor([[radius, 0.0]], dtype=dtype), torch.tensor([[0.0, radius]], dtype=dtype)
        geometry = build_geometry("lorentz", 2).to(dtype)
        close(geometry.distance(x, x / 2)[0, 0], radius / 2, rel=rel)
        close(geometry.distance(x, -x)[0, 0], 2 * radius, rel=rel)
        corner = 2 * math.asinh(math.sinh(radius) / math.sqrt(2))
        close(geometry.distance(x, y)[0, 0], corner, rel=rel)


@pytest.mark.parametrize("share", [0.0, 1e-12, 1e-6, 1e-3, 0.5, 0.999])
def test_lorentz_on_one_ray_in_float32(share):
    x = (2 * draw(0, 20, WIDE)).float()
    truth = fixed("lorentz", WIDE).distance(x.double(), (share * x).double()).diagonal()
    close(build_geometry("lorentz", WIDE).distance(x, share * x).diagonal(), truth, rel=1e-6)
    close(truth, (1 - share) * x.double().norm(dim=1), rel=1e-4)


def test_lengths_beyond_40_are_taken_as_40():
    geometry = build_geometry("lorentz", 2)
    x, zero = torch.tensor([[100.0, 0.0]]), torch.zeros(1, 2)
    close(geometry.distance(x, zero)[0, 0], 40.0, rel=1e-6)
    close(geometry.double().distance(3 * x.double(), zero.double())[0, 0], 300.0, rel=1e-12)


def test_the_projections_are_flat_at_the_root():
    geometry, zero = fixed("lorentz", 5, curvature=4.0), torch.zeros(5, dtype=torch.float64)
    close(torch.autograd.functional.jacobian(geometry.poincare, zero), torch.eye(5), rel=1e-12)  # sqrt(c) / 2
    close(torch.autograd.functional.jacobian(geometry.klein, zero), 2 * torch.eye(5), rel=1e-12)


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


def test_lower_curvature_opens_every_cone():
    texts, images = draw(0, size=0.7), draw(0, size=0.7) + draw(1, size=0.2)
    residuals = [fixed("lorentz", 5, c).entailment(texts, images, 0.1) for c in (0.1, 0.5, 1.0, 5.0, 10.0)]
    assert all((more >= less).all() for less, more in zip(residuals, residuals[1:], strict=False))
    assert residuals[-1].mean() > 2 * residuals[0].mean()


def test_lorentz_names_share_their_space():
    x, y = draw(0), draw(1)
    for name in LORENTZ:
        close(fixed(name, 5).distance(x, y), fixed("lorentz", 5).distance(x, y))
    distance = fixed("lorentz", 5, 0.1).distance(x, y)
    inner = fixed("lorentz-inner", 5, 0.1).similarity(x, y)
    close(inner, -torch.cosh(math.sqrt(0.1) * distance) / 0.1, rel=1e-12)


@pytest.mark.parametrize(("step", "end"), [(5.0, 10.0), (-5.0, 0.1)])
def test_a_curvature_that_overshoots_comes_back(step, end):
    """It is clamped itself, so the next step the other way moves it; a clamp of the value alone would have no gradient."""
    geometry = build_geometry("lorentz", 3)
    x, y = draw(0, dim=3).float(), draw(1, dim=3).float()
    with torch.no_grad():
        geometry.log_curvature.add_(step)
    assert geometry.curvature.item() == pytest.approx(end, rel=1e-6)
    assert geometry.log_curvature.item() == pytest.approx(math.log(end), rel=1e-6)
    geometry.distance(x, y).sum().backward()
    assert geometry.log_curvature.grad.abs() > 1e-3
    with torch.no_grad():
        geometry.log_curvature.sub_(math.copysign(0.1, step))
    assert geometry.curvature.item() == pytest.approx(end * math.exp(-math.copysign(0.1, step)), rel=1e-5)


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


def test_opening_side_and_ahead_of_a_triangle():
    """Law of cosines, and the path's parts along the ray and orthogonal to it: together sinh(d)."""
    x, y = draw(0), draw(1)
    a, b = x.norm(dim=1), y.norm(dim=1)
    cosine = (x * y).sum(1) / (a * b)
    triangle = fixed("lorentz", 5)._triangle(x, y)
    cosh = torch.cosh(a) * torch.cosh(b) - torch.sinh(a) * torch.sinh(b) * cosine
    close(1 + 2 * triangle.opening, cosh, rel=1e-12)
    close(triangle.side.square() + triangle.ahead.square(), cosh.square() - 1, rel=1e-9)
    close(triangle.ahead, torch.cosh(a) * torch.sinh(b) * cosine - torch.sinh(a) * torch.cosh(b), tolerance=1e-12)
