"""Functions at the points where the textbook formula loses digits or gradients."""

import math

import pytest
import torch

from clipedu.geometry import numerics

from .oracle import close, draw


def test_many_near_pairs_take_the_other_way(monkeypatch):
    """Two tight clusters: half of all pairs are near. Value and gradient are those of a few near pairs."""
    centres = draw(0, 2, 5).repeat(20, 1)
    x, y = centres + draw(1, 40, 5, 1e-6), centres + draw(2, 40, 5, 1e-6)
    truth = (x[:, None] - y).square().sum(-1)
    results = []
    for few in (0, 10**6):
        monkeypatch.setattr(numerics, "FEW", few)
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        squared = numerics.squared_distances(a, b)
        close(squared, truth, rel=1e-12)
        results.append(torch.autograd.grad(numerics.sqrt(squared).sum(), (a, b)))
    for one, other in zip(*results, strict=True):
        close(one, other, rel=1e-9)


def test_length_and_unit_of_the_zero_vector():
    x = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert numerics.length(x).tolist() == [[0.0]] and numerics.unit(x).tolist() == [[0.0] * 3]
    (gradient,) = torch.autograd.grad(numerics.length(x).sum(), x)
    assert gradient.tolist() == [[0.0] * 3]
    jacobian = torch.autograd.functional.jacobian(numerics.unit, torch.zeros(3, dtype=torch.float64))
    close(jacobian, torch.eye(3))


def test_sqrt_has_gradient_0_at_0():
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(numerics.sqrt(x).sum(), x)
    assert numerics.sqrt(x).tolist() == [0.0, 2.0] and gradient.tolist() == [0.0, 0.25]


@pytest.mark.parametrize("function, slope", [(torch.sinh, 1.0), (torch.tanh, 1.0), (lambda k: torch.tanh(k / 2), 0.5)])
def test_a_function_over_its_argument_has_its_limit_at_0(function, slope):
    k = torch.tensor([0.0, 1e-9, 0.7], dtype=torch.float64, requires_grad=True)
    value = numerics.over_self(function, k, slope)
    close(value, [slope, slope, (function(k) / k)[2].item()], rel=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), k)
    assert gradient.isfinite().all()


def test_few_pairs_are_listed_and_many_are_not():
    mask = torch.zeros(30, 20, dtype=torch.bool)
    mask[2, 5] = mask[7, 0] = True
    rows, columns = numerics.few_pairs(mask)
    assert (rows.tolist(), columns.tolist()) == ([2, 7], [5, 0])
    limit = numerics.FEW * (30 + 20)
    mask.view(-1)[:limit] = True
    mask.view(-1)[limit:] = False
    assert len(numerics.few_pairs(mask)[0]) == limit
    mask.view(-1)[limit] = True
    assert numerics.few_pairs(mask) is None


@pytest.mark.parametrize("theta", [0.0, 1e-12, 0.3, math.pi / 2, 3.0, math.pi])
def test_angles_of_vectors_of_any_length(theta):
    x = torch.tensor([2.0, 0.0], dtype=torch.float64)
    y = 0.1 * torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    assert numerics.angle(x, y).item() == pytest.approx(theta, rel=1e-9, abs=1e-15)
    assert numerics.angle(x, 0 * y).item() == numerics.angle(0 * x, 0 * y).item() == pytest.approx(math.pi / 2)


def test_arcsin_of_a_share_is_clamped():
    whole = torch.tensor([0.0, 0.5, 1.0, 2.0, 1e6], dtype=torch.float64, requires_grad=True)
    value = numerics.arcsin_share(1.0, whole)
    close(value, [math.pi / 2] * 3 + [math.pi / 6, 1e-6], rel=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), whole)
    assert (gradient[:3] == 0).all() and gradient[3].item() == pytest.approx(-1 / (2 * math.sqrt(3)))
