"""Gradients against differences of the value (gradcheck), in what comes in and in what a geometry learns."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from .oracle import LORENTZ, NAMES, ROOTED, build, close, draw, fixed


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NAMES)
def test_all_pairs(name, seed):
    x, y = draw(seed, rows=3, dim=4).requires_grad_(), draw(seed + 10, rows=2, dim=4).requires_grad_()
    geometry = fixed(name, 4, curvature=1.7)
    assert gradcheck(geometry.similarity, (x, y))
    assert gradcheck(geometry.distance, (x, y))
    assert gradcheck(lambda x: geometry.similarity(x, x), (x,))


@pytest.mark.parametrize("size", [1.0, 3.0])
@pytest.mark.parametrize("name", NAMES)
def test_near_pairs(name, size):
    """Row i of y is near row i of x, the other pairs are not: the two ways of computing meet in one table."""
    x = draw(0, rows=3, dim=4, size=size)
    y = x + 1e-3 * draw(1, rows=3, dim=4)
    assert gradcheck(fixed(name, 4).similarity, (x.requires_grad_(), y.requires_grad_()), rtol=1e-3, eps=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_maps_and_paths(name):
    x, y = draw(0, rows=3, dim=4).requires_grad_(), draw(1, rows=3, dim=4).requires_grad_()
    geometry = fixed(name, 4, curvature=1.7)
    share = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert gradcheck(geometry.geodesic, (x, y, share))
    for method in ("expmap0", "logmap0", "mean"):
        assert gradcheck(getattr(geometry, method), (x,))


@pytest.mark.parametrize("name", ROOTED)
def test_cones(name):
    x, y = draw(0, rows=4, dim=4).requires_grad_(), draw(1, rows=4, dim=4).requires_grad_()
    geometry = fixed(name, 4, curvature=1.7)
    assert gradcheck(geometry.exterior_angle, (x, y))
    assert gradcheck(geometry.half_aperture, (x,))
    assert gradcheck(lambda x, y: geometry.entailment(x, y, 0.05), (x, y))


@pytest.mark.parametrize("name", LORENTZ)
def test_projections(name):
    x = draw(0, rows=3, dim=4).requires_grad_()
    assert gradcheck(fixed(name, 4).poincare, (x,))
    assert gradcheck(fixed(name, 4).klein, (x,))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned(name):
    """The whole way, features to similarity and cones, against a central difference in each logarithm."""
    if name not in ROOTED:
        assert not list(build(name).parameters())
        return
    geometry = build(name, 4, learn_alpha=True)
    names = ["log_alpha_image", "log_alpha_text"] + ["log_curvature"] * (name in LORENTZ)
    assert sorted(dict(geometry.named_parameters())) == names
    features, others = draw(0, rows=4, dim=4, size=2.0), draw(1, rows=4, dim=4, size=2.0)

    def total():
        image, text = geometry.tangent(features, "image"), geometry.tangent(others, "text")
        return (geometry.similarity(image, text).square() + geometry.entailment(text, image, 0.01)).sum()

    gradients = torch.autograd.grad(total(), list(geometry.parameters()))
    for parameter, gradient in zip(geometry.parameters(), gradients, strict=True):
        sides = []
        for way in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(way)
                sides.append(total().item())
                parameter.sub_(way)
        close(gradient, (sides[0] - sides[1]) / 2e-6, rel=1e-6)


def test_far_pairs_pull_with_unit_force():
    """|gradient of d| is 1 in the metric at the point; along the radius that is the gradient itself."""
    for radius in (0.5, 5.0, 30.0):
        x = torch.tensor([[radius, 0.0]], dtype=torch.float64, requires_grad=True)
        y = torch.tensor([[radius / 3, 0.0], [-radius / 2, 0.0], [2 * radius, 0.0]], dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda x, y=y: fixed("lorentz", 2).distance(x, y)[0], x)[:, 0]
        close(jacobian, [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], rel=1e-9, tolerance=1e-9)
        across = torch.tensor([[0.0, radius]], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(fixed("lorentz", 2).distance(x, across).sum(), x)
        metric = torch.tensor([1.0, math.sinh(radius) / radius], dtype=torch.float64)
        close((gradient / metric).norm(), 1.0, rel=1e-9)
