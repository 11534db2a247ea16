"""Digits and gradients where the printed formulas lose them: near, far, coincident, collinear and zero vectors."""

import math

import pytest
import torch

from clipedu.geometry import build_geometry

from .oracle import LORENTZ, NAMES, ROOTED, close, draw, fixed, naive_distance

WIDE = 512


def pairs_on_a_sphere(radius, distance=0.1, rows=8):
    """Float64 pairs at the same radius of the hyperboloid (c = 1) with this distance between them, [rows, 512] each."""
    x = draw(0, rows, WIDE)
    x = x / x.norm(dim=1, keepdim=True)
    across = draw(1, rows, WIDE)
    across = across - (across * x).sum(1, keepdim=True) * x
    across = across / across.norm(dim=1, keepdim=True)
    theta = 2 * math.asin(math.sinh(distance / 2) / math.sinh(radius))
    return radius * x, radius * (math.cos(theta) * x + math.sin(theta) * across)


@pytest.mark.parametrize("radius", [1, 4, 6, 8, 10])
def test_distance_in_float32_far_out(radius):
    """arcosh of the Lorentz product gives 0, nan or 6.9 instead of 0.1 from radius 6 on."""
    x, y = (side.float() for side in pairs_on_a_sphere(radius))
    truth = fixed("lorentz", WIDE).distance(x.double(), y.double()).diagonal()
    ours = build_geometry("lorentz", WIDE).distance(x, y).diagonal()
    assert ours.dtype == torch.float32
    close(ours, truth, rel=2e-6)
    close(truth, [0.1] * 8, rel=3e-3)  # what is left of 0.1 when both are rounded to float32


def test_the_printed_formula_fails_there():
    """So that the test above can fail: the formula of `oracle.py`, in float32, at radius 8."""
    x, y = (side.float() for side in pairs_on_a_sphere(8))
    assert not ((naive_distance("lorentz", x, y) - 0.1).abs() < 0.05).any()
    double = naive_distance("lorentz", *pairs_on_a_sphere(8))
    close(double, fixed("lorentz", WIDE).distance(*pairs_on_a_sphere(8)).diagonal(), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_rounding_of_float64(name):
    x, y = draw(0, 20, WIDE), draw(1, 20, WIDE)
    single, double = build_geometry(name, WIDE), fixed(name, WIDE)
    for method in ("similarity", "distance"):
        ours = getattr(single, method)(x.float(), y.float())
        close(ours, getattr(double, method)(x.float().double(), y.float().double()), rel=2e-6, tolerance=2e-7)
    close(single.geodesic(x.float(), y.float(), 0.3), double.geodesic(x, y, 0.3), tolerance=1e-6)


@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0, 10.0, 30.0])
@pytest.mark.parametrize(("name", "rel"), [("elliptic", 1e-3), ("euclidean", 1e-5), ("lorentz", 1e-5)])
def test_gradients_of_distances_in_float32(name, rel, radius):
    """Of far pairs and of near ones, against the largest gradient. (Elliptic: a direction is rounded, 1e-7 of an angle of 1e-4.)"""
    x = (radius * draw(0, 20, WIDE)).float()
    y = torch.cat([(radius * draw(1, 20, WIDE)).float(), x + 1e-3 * draw(2, 20, WIDE).float()])
    for part in (y[:20], y[20:]):
        results = []
        for geometry, dtype in ((build_geometry(name, WIDE), torch.float32), (fixed(name, WIDE), torch.float64)):
            a, b = x.to(dtype).requires_grad_(), part.to(dtype)
            results.append(torch.autograd.grad(geometry.distance(a, b).diagonal().sum(), a)[0])
        close(results[0], results[1], tolerance=rel * results[1].norm(dim=1).max().item())


@pytest.mark.parametrize("way", [1.5, 1.001, 0.999, 0.6, -0.8])
@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0, 6.0])
@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_exterior_angle_of_collinear_pairs_in_float32(name, radius, way):
    """By arccos it is off by 2e-3 (radius 0.5) to 0.15 (radius 6)."""
    x = draw(0, 8, WIDE)
    x = (radius * x / x.norm(dim=1, keepdim=True)).float()
    y = (way * x.double()).float()
    angle = build_geometry(name, WIDE).exterior_angle(x, y)
    truth = fixed(name, WIDE).exterior_angle(x.double(), y.double())
    close(angle, truth, tolerance=5e-5)
    close(truth, [0.0 if way > 1 else math.pi] * 8, tolerance=2e-3)  # y was rounded too


@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0, 6.0, 10.0, 30.0])
@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_exterior_angle_of_any_pair_in_float32(name, radius):
    """Value and gradient, of far pairs, near and very near ones, and of images much nearer the root than their texts."""
    x, z = ((radius * draw(seed, 20, WIDE)).float() for seed in (0, 1))
    for y in (z, x + 0.1 * z, x + 1e-4 * z, 1e-3 * z):
        results = []
        for geometry, dtype in ((build_geometry(name, WIDE), torch.float32), (fixed(name, WIDE), torch.float64)):
            a, b = x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()
            angle = geometry.exterior_angle(a, b)
            results.append((angle, *torch.autograd.grad(angle.sum(), (a, b))))
        for single, double in zip(*results, strict=True):
            close(single, double, tolerance=1e-3 * double.abs().max().item())
        close(results[0][0], results[1][0], tolerance=1e-6)
    for y in (1e-3 * x + 1e-7 * z, 1e-12 * z, 0 * z):  # nearly or quite at the root, where the angle has a kink at pi
        truth = fixed(name, WIDE).exterior_angle(x.double(), y.double())
        close(build_geometry(name, WIDE).exterior_angle(x, y), truth, tolerance=1e-6)


def corners(dtype, root_c=1.0):
    """Zero, coincident, opposite, collinear, tiny and very far vectors (sqrt(c) |x| up to 40 and beyond)."""
    one = torch.tensor([0.3, -0.4, 0.5], dtype=dtype)
    other = torch.tensor([0.1, 0.9, -0.2], dtype=dtype)
    sizes = (1, 1, -1, 2, 1e-7, 1e-30, 40 / (root_c * one.norm()), -40 / (root_c * one.norm()), 1000)
    return torch.stack([0 * one, 0 * one, *(size * one for size in sizes), other, 1e-20 * other])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "curvature"), [(name, 1.0) for name in NAMES] + [(n, c) for n in LORENTZ for c in (0.1, 10.0)]
)
def test_value_and_gradient_are_finite_at_every_corner(name, curvature, dtype):
    options = {"curvature": curvature} if name in LORENTZ else {}
    geometry = build_geometry(name, 3, **options).to(dtype)
    x = corners(dtype, math.sqrt(curvature)).requires_grad_()
    calls = [geometry.similarity, geometry.distance, lambda x, y: geometry.geodesic(x[:, None], y, 0.3)]
    calls += [lambda x, y: geometry.mean(x), lambda x, y: geometry.tangent(x, "text")]
    calls += [lambda x, y: geometry.expmap0(x), lambda x, y: geometry.logmap0(x)]
    if geometry.has_cones:
        calls += [lambda x, y: geometry.exterior_angle(x[:, None], y), lambda x, y: geometry.half_aperture(x)]
        calls += [lambda x, y: geometry.entailment(x[:, None], y)]
    if name in LORENTZ:
        calls += [lambda x, y: geometry.poincare(x), lambda x, y: geometry.klein(x)]
    for call in calls:
        value = call(x, x)
        assert value.isfinite().all()
        wanted = [x, *geometry.parameters()]
        gradients = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_point_has_distance_and_gradient_0_to_itself(name, dtype):
    x = torch.cat([draw(0), torch.zeros(1, 5)]).to(dtype).requires_grad_()
    geometry = build_geometry(name, 5).to(dtype)
    x_only = x if name in ROOTED else x[:-1]  # on the sphere the zero vector is no point
    itself = geometry.distance(x_only, x_only).diagonal()
    assert (itself == 0).all()
    (gradient,) = torch.autograd.grad(itself.sum(), x)
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_the_zero_vector_is_pulled_as_its_neighbours_are(name):
    x = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    y = draw(0, rows=1)
    geometry = fixed(name, 5)
    (gradient,) = torch.autograd.grad(geometry.distance(x, y).sum(), x)
    close(gradient, -y / y.norm(), rel=1e-9)
    jacobian = torch.autograd.functional.jacobian(geometry.expmap0, torch.zeros(5, dtype=torch.float64))
    close(jacobian, torch.eye(5), tolerance=1e-12)
    close(geometry.expmap0(torch.zeros(5)), torch.zeros(5))
