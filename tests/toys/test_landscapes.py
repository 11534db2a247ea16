"""Descent over two weights: the paths are those of the update rules, and show what they are there to show."""

import math

import pytest
import torch

from clipedu.optim import OPTIMIZERS
from clipedu.toys.landscapes import (
    LANDSCAPES,
    MINIMUM,
    START,
    Descent,
    DescentSettings,
    coupled_minimum,
    descend,
    momentum_options,
)
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite

CURVATURES, ANGLE = (1.0, 8.0), math.pi / 6


def naive_gradient(w):
    """Of the valley, typed out: R^T K R (w - minimum)."""
    c, s = math.cos(ANGLE), math.sin(ANGLE)
    x, y = w[0] - 2, w[1] - 1
    p, q = CURVATURES[0] * (c * x + s * y), CURVATURES[1] * (c * y - s * x)
    return torch.stack([c * p - s * q, s * p + c * q])


@pytest.mark.parametrize("name", LANDSCAPES)
def test_the_minimum_is_where_it_is_said_and_is_0(name):
    loss = LANDSCAPES[name].build
    w = torch.tensor(MINIMUM, dtype=torch.float64, requires_grad=True)
    value = loss(w)
    (slope,) = torch.autograd.grad(value, w)
    assert value.item() == 0 and slope.abs().max() == 0
    around = torch.tensor(MINIMUM, dtype=torch.float64) + 2 * torch.randn(500, 2, dtype=torch.float64)
    assert (loss(around) > 0).all() and loss(around).shape == (500,)
    curvature = torch.autograd.functional.hessian(loss, torch.tensor(MINIMUM, dtype=torch.float64))
    assert (torch.linalg.eigvalsh(curvature) > 0.1).all()


def test_the_valley_is_as_narrow_and_askew_as_it_says():
    curvature = torch.autograd.functional.hessian(LANDSCAPES["valley"].build, torch.zeros(2, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(curvature)
    assert values.tolist() == pytest.approx(CURVATURES)
    assert abs(vectors[1, 0] / vectors[0, 0]) == pytest.approx(math.tan(ANGLE))


def test_a_path_is_the_update_rule_step_by_step():
    path = descend("sgd", lr=0.1, weight_decay=0.2, momentum=0.5, scale=0.3, steps=7)
    w, v = torch.tensor(START, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for point in path.points[1:]:
        d = 0.3 * naive_gradient(w) + 0.2 * w
        v = d if not v.any() else 0.5 * v + d
        w = w - 0.1 * (d + 0.5 * v)  # Nesterov
        torch.testing.assert_close(point, w, rtol=1e-12, atol=1e-12)
    assert path.points.shape == (8, 2) and tuple(path.points[0].tolist()) == START
    torch.testing.assert_close(path.losses, LANDSCAPES["valley"].build(path.points))


def test_decay_reaches_the_weights():
    """A flat gradient at the minimum: only the shrink is left, under each law."""
    at = {"start": MINIMUM, "lr": 0.1, "weight_decay": 0.5, "steps": 1}
    assert descend("sgdw", **at).points[1].tolist() == pytest.approx([2 * 0.95, 0.95])
    assert descend("sgdw", weight_decay=0.0, start=MINIMUM, lr=0.1, steps=1).distance == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "muon", "scion"])
@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_without_decay_they_arrive(name, landscape):
    steps = 600 if name.startswith("adam") else 200
    path = descend(name, lr=0.1, schedule="cosine", landscape=landscape, steps=steps)
    assert path.distance < 0.05 and path.losses[-1] < 0.01 * path.losses[0]


def test_the_scale_of_the_loss_slows_sgd_and_nobody_else():
    def end(name, scale):
        return descend(name, lr=0.1, schedule="cosine", scale=scale, momentum=0.9).points[-1]

    assert descend("sgd", lr=0.1, schedule="cosine", scale=1 / 50).distance > 0.3
    for name in ("adam", "adamw", "lion", "muon", "scion"):
        assert (end(name, 1.0) - end(name, 1 / 50)).abs().max() < 0.01, name


def test_coupled_decay_takes_a_small_loss_to_the_origin_and_decoupled_does_not():
    small = {"lr": 0.1, "weight_decay": 0.1, "scale": 1 / 50, "schedule": "cosine"}
    pulled = coupled_minimum(0.1, 1 / 50)
    assert math.hypot(*pulled) < 0.4
    for name in ("adam", "sgd"):
        assert math.dist(descend(name, **small).points[-1].tolist(), pulled) < 0.02
    adamw = [descend("adamw", **{**small, "scale": scale}) for scale in (1.0, 1 / 50)]
    assert adamw[0].distance == pytest.approx(adamw[1].distance, abs=1e-4) and adamw[1].distance < 0.5
    without = [descend(name, **{**small, "weight_decay": 0.0}).points for name in ("adam", "adamw")]
    assert torch.equal(*without)


def test_the_laws_order_the_ends():
    ends = {
        law: descend("adamw", lr=0.1, weight_decay=0.3, decay_law=law, schedule="cosine").distance
        for law in ("corrected", "constant", "independent")
    }
    assert ends["corrected"] < 0.6 * ends["constant"] < 0.6 * 0.6 * ends["independent"]
    flat = [descend("adamw", lr=0.1, weight_decay=0.3, decay_law=law).points for law in ("corrected", "constant")]
    torch.testing.assert_close(*flat, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.02])
@pytest.mark.parametrize("decay", [0.0, 0.1, 3.0])
def test_the_coupled_minimum_has_no_slope(decay, scale):
    w = torch.tensor(coupled_minimum(decay, scale), dtype=torch.float64)
    assert (scale * naive_gradient(w) + decay * w).abs().max() < 1e-12


def test_noise_is_seeded_and_scaled_with_the_loss():
    def walk(**changes):
        return descend("sgd", **{"lr": 0.1, "noise": 1.0, "momentum": 0.0, "steps": 20} | changes).points

    assert torch.equal(walk(), walk()) and not torch.equal(walk(), walk(seed=1))
    assert not torch.equal(walk(), walk(noise=0.0))
    torch.testing.assert_close(walk(), walk(lr=0.2, scale=0.5), rtol=1e-10, atol=1e-12)


def test_settings_can_be_given_as_one_object_and_changed():
    settings = DescentSettings(lr=0.1, noise=1.0, steps=5, options={"nesterov": False})
    points = descend("sgd", settings).points
    assert torch.equal(points, descend("sgd", lr=0.1, noise=1.0, steps=5, nesterov=False).points)
    assert not torch.equal(points, descend("sgd", lr=0.1, noise=1.0, steps=5).points)
    assert torch.equal(descend("sgd", settings, steps=3).points, points[:4])  # the options are kept
    assert torch.equal(
        descend("sgd", settings, nesterov=True, seed=0).points, descend("sgd", lr=0.1, noise=1.0, steps=5).points
    )
    assert settings.options == {"nesterov": False}
    with pytest.raises(TypeError, match="lr"):
        descend("sgd")
    with pytest.raises(ClipeduError, match="'sgd' does not take .*nestrov=True"):
        descend("sgd", settings, nestrov=True)


def test_steps_to_counts_until_it_stays():
    points = torch.tensor([[2.0, 1.05], [3.0, 1.0], [2.0, 1.0], [2.05, 1.0]], dtype=torch.float64)
    path = Descent("x", "valley", points, points.sum(1))
    assert path.steps_to(0.1) == 2 and path.steps_to(5) == 0 and path.steps_to(0.01) is None
    assert path.distance == pytest.approx(0.05) and path.from_origin == pytest.approx(math.hypot(2.05, 1))
    lost = Descent("x", "valley", torch.cat([points, torch.full((1, 2), math.nan)]), points.sum(1))
    assert lost.steps_to(0.1) is None
    wild = descend("sgd", lr=50.0, steps=400)
    assert not math.isfinite(wild.distance) and wild.steps_to(0.1) is None


def test_momentum_in_each_optimizers_words():
    assert momentum_options("sgd", 0.5) == {"momentum": 0.5, "nesterov": True}
    assert momentum_options("sgdw", 0.0) == {"momentum": 0.0, "nesterov": False}
    assert momentum_options("adamw", 0.5) == {"betas": (0.5, 0.999)}
    assert momentum_options("lionc", 0.5) == {"betas": (0.5, 0.99)}
    assert momentum_options("scionc", 0.75) == {"alpha": 0.25}
    for name in ("sgd", "adam", "lion", "muon", "scion"):
        assert not torch.equal(*(descend(name, lr=0.1, momentum=m, steps=40).points for m in (0.0, 0.8)))
    with pytest.raises(ClipeduError, match="momentum=1.0 must be at least 0 and below 1"):
        descend("sgd", lr=0.1, momentum=1.0)
    with pytest.raises(ClipeduError, match="'adagrad' has none to set"):
        descend("adagrad", lr=0.1, momentum=0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_can_walk(name):
    path = descend(name, lr=0.05, weight_decay=0.01, steps=5)
    assert torch.isfinite(path.points).all() and not torch.equal(path.points[0], path.points[-1])


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": math.inf}, {"noise": -1.0}, {"steps": 0}])
def test_what_is_out_of_range(wrong):
    with pytest.raises(ClipeduError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))!r}"):
        descend("sgd", lr=0.1, **wrong)
    with pytest.raises(ClipeduError, match="unknown landscape 'hill'"):
        descend("sgd", lr=0.1, landscape="hill")


def test_what_is_not_finite_is_refused():
    for start in ((float("nan"), 0.0), (0.0, float("inf"))):
        with pytest.raises(NotFinite, match=r"start=\(.*\) is not finite"):
            descend("sgd", lr=0.1, start=start)
    for wrong in ({"weight_decay": float("nan")}, {"weight_decay": 0.1, "scale": float("inf")}):
        with pytest.raises(ClipeduError, match="must be a number"):
            coupled_minimum(**wrong)
