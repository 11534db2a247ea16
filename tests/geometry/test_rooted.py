"""Spaces with a root: dimension scaling, numbers kept as logarithms, and cones."""

import math

import pytest
import torch

from clipedu.geometry import build_geometry
from clipedu.utils.errors import ClipeduError

from .oracle import ROOTED, close, draw, fixed


@pytest.mark.parametrize("min_radius", [-0.1, float("inf"), "wide", True])
@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_wrong_min_radius(name, min_radius):
    with pytest.raises(ClipeduError, match="min_radius must be a number >= 0"):
        build_geometry(name, 3).entailment(torch.ones(2, 3), torch.ones(2, 3), min_radius)


def test_wrong_side():
    with pytest.raises(ClipeduError, match="unknown side 'images'. Did you mean 'image'"):
        build_geometry("lorentz", 3).tangent(torch.ones(2, 3), "images")


def test_each_side_has_its_own_alpha():
    geometry = build_geometry("lorentz", 4)
    with torch.no_grad():
        geometry.log_alpha_text.fill_(math.log(0.25))
    ones = torch.ones(1, 4)
    assert geometry.tangent(ones, "image")[0].tolist() == pytest.approx([0.5] * 4)
    assert geometry.tangent(ones, "text")[0].tolist() == pytest.approx([0.25] * 4)
    assert torch.equal(build_geometry("cosine", 4).tangent(ones, "text"), ones)


def test_alpha_is_at_most_1_and_as_small_as_it_likes():
    geometry = build_geometry("lorentz", 4)
    with torch.no_grad():
        geometry.log_alpha_image.fill_(3.0)
        geometry.log_alpha_text.fill_(-20.0)
    ones = torch.ones(1, 4)
    assert geometry.tangent(ones, "image").tolist() == [[1.0] * 4]
    assert geometry.log_alpha_image.item() == 0
    assert geometry.tangent(ones, "text")[0, 0].item() == pytest.approx(math.exp(-20), rel=1e-6)
    geometry.tangent(ones, "image").sum().backward()
    assert geometry.log_alpha_image.grad.item() == pytest.approx(4.0)


@pytest.mark.parametrize("name", ROOTED)
def test_a_checkpoint_holds_the_geometry(name):
    geometry = build_geometry(name, 4, learn_alpha=True)
    with torch.no_grad():
        for value in geometry.parameters():
            value.sub_(0.3)
    fresh = build_geometry(name, 4)  # whether learned or not, the names are the same
    fresh.load_state_dict(geometry.state_dict())
    features = draw(0, dim=4).float()
    assert torch.equal(fresh.tangent(features, "text"), geometry.tangent(features, "text"))
    x = fresh.tangent(features, "image")
    assert torch.equal(fresh.similarity(x, x), geometry.similarity(x, x))


def test_reading_twice_in_one_graph_is_allowed():
    """Clamping in place must not spoil a backward that is still to come."""
    geometry = build_geometry("lorentz", 3)
    x = draw(0, dim=3).float().requires_grad_()
    first = geometry.distance(geometry.tangent(x, "image"), geometry.tangent(x, "text")).sum()
    second = geometry.distance(geometry.tangent(x, "text"), geometry.tangent(x, "image")).sum()
    (first + second).backward()
    assert geometry.log_curvature.grad.isfinite() and geometry.log_alpha_text.grad.isfinite()


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


def test_undefined_exterior_angles_are_right_angles():
    x, zero = draw(0), torch.zeros(6, 5, dtype=torch.float64)
    for name in ROOTED:
        for dtype in (torch.float32, torch.float64):
            geometry = build_geometry(name, 5)
            for apex, other in ((x, x), (zero, x), (zero, zero)):
                close(geometry.exterior_angle(apex.to(dtype), other.to(dtype)), [math.pi / 2] * 6, rel=1e-7)


def test_aperture_just_outside_its_saturation_radius():
    """arcsin(K / r) of a share that was rounded is off by 3e-4 there in float32."""
    for step in (1e-6, 1e-5, 1e-3):
        radius = torch.tensor([[0.1 * (1 + step)]])
        truth = math.asin(torch.tensor(0.1).item() / radius.item())  # of 0.1 as float32 has it
        close(build_geometry("euclidean", 1).half_aperture(radius)[0], truth, rel=1e-6)


def test_aperture_has_no_gradient_where_it_is_saturated():
    for name, saturation in (("euclidean", 0.1), ("lorentz", math.asinh(0.2))):
        x = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64) * saturation
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(fixed(name, 1).half_aperture(x).sum(), x)
        assert gradient[0] == 0 and gradient.isfinite().all() and gradient[2] < 0


def test_a_number_is_kept_as_a_logarithm_in_its_range():
    geometry = build_geometry("euclidean", 4)
    geometry.keep_log("width", 2.0, learn=True, least=0.5, most=8.0)
    geometry.keep_log("fixed", 3.0, learn=False)
    assert geometry.log_width.item() == pytest.approx(math.log(2)) and geometry.log_width.requires_grad
    assert "log_fixed" in dict(geometry.named_buffers()) and geometry.read("fixed").item() == pytest.approx(3)
    for log, value in ((-5.0, 0.5), (1.0, math.e), (5.0, 8.0)):
        with torch.no_grad():
            geometry.log_width.fill_(log)
        assert geometry.read("width").item() == pytest.approx(value)
        assert geometry.log_width.item() == pytest.approx(math.log(value)), "the logarithm itself is clamped"
