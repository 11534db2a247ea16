"""Scion and ScionC do what their update rules say: a table, rules typed out in float64, laws, and a resumed run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim.lmo import lmo
from clipedu.optim.scion import Scion, ScionC, corrected_shrink, effective_step

START = (1.0, -2.0, 0.5, 3.0)
GRADIENTS = ((0.1, -0.2, 0.3, 0.05), (0.2, 0.1, -0.1, 0.05), (-0.3, 0.05, 0.2, -0.1))
LRS = (0.1, 0.05, 0.0125)


def weight(values=START, dtype=torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(values, dtype=dtype).clone())


def run(optimizer: torch.optim.Optimizer, p: nn.Parameter, gradients=GRADIENTS, lrs=LRS) -> Tensor:
    for gradient, lr in zip(gradients, lrs, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = lr
        p.grad = torch.as_tensor(gradient, dtype=p.dtype)
        optimizer.step()
    return p.detach()


def matrices(count: int, *shape: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(count)]


def cosine(total: int, peak: float) -> list[float]:
    return [peak * (1 + math.cos(math.pi * i / total)) / 2 for i in range(total)]


# --- tables ---


def test_three_steps_of_scion():
    p = weight()
    got = run(Scion([p], lr=0.1, weight_decay=0.5, norm="bias-rms"), p)
    expected = [0.791447381218, -1.71452552754, 0.234306777954, 2.71039011228]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=got.dtype), rtol=1e-11, atol=0)


@pytest.mark.parametrize("said", [{"target": 1.9}, {"weight_decay": 0.5}])  # lambda .5 at lr .1 means target 1.9
def test_three_steps_of_scionc(said):
    p = weight()
    got = run(ScionC([p], lr=0.1, norm="bias-rms", **said), p)
    expected = [0.806991737946, -1.74637725637, 0.2396801888, 2.76056647304]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=got.dtype), rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    ("alpha", "ratio"), [(1, 1), (0.5, 1.732051), (0.2, 3), (0.1, 4.358899), (0.05, 6.244998), (0.02, 9.949874)]
)
def test_effective_step(alpha, ratio):
    assert effective_step(0.3, alpha) == pytest.approx(0.3 * ratio, rel=1e-6)


@pytest.mark.parametrize(
    ("alpha", "ratio"), [(1, 1), (0.5, 1.309307), (0.2, 2.389699), (0.1, 3.762708), (0.05, 5.736240), (0.02, 9.584856)]
)
def test_effective_step_with_nesterov(alpha, ratio):
    """A table, and what it means: of steps u_t = sum_k c_k g_(t-k), (sum of c)^2 over the sum of c^2."""
    assert effective_step(0.3, alpha, nesterov=True) == pytest.approx(0.3 * ratio, rel=1e-6)
    assert corrected_shrink(0.3, alpha, 2.0, nesterov=True) == pytest.approx((0.3 * ratio) ** 2 / 4, rel=1e-6)
    buffer, steps = 0.0, []
    for g in [1.0] + [0.0] * 3000:
        buffer = (1 - alpha) * buffer + alpha * g
        steps.append((1 - alpha) * buffer + alpha * g)
    assert sum(steps) ** 2 / sum(c * c for c in steps) == pytest.approx(ratio**2, rel=1e-6)


def test_shrink_of_the_published_vit_run():
    assert corrected_shrink(0.01, 0.1, 1.1875) == pytest.approx(8e-4, rel=1e-12)
    p = weight()
    assert ScionC([p], lr=0.01, weight_decay=0.08).param_groups[0]["target"] == pytest.approx(1.1875, rel=1e-12)


def test_without_gradient_only_the_shrink_remains():
    zeros = [(0.0,) * 4] * 3
    p, q = weight(), weight()
    plain = run(Scion([p], lr=0.1, weight_decay=0.5), p, zeros)
    corrected = run(ScionC([q], lr=0.1, weight_decay=0.5), q, zeros)
    start = torch.tensor(START, dtype=torch.float64)
    torch.testing.assert_close(plain, start * 0.95 * 0.975 * 0.99375, rtol=1e-14, atol=0)
    torch.testing.assert_close(corrected, start * 0.95 * 0.9875 * 0.99921875, rtol=1e-14, atol=0)


# --- rules typed out ---


def naive(w: Tensor, gradients, lrs, *, decay=0.0, alpha=0.1, radius=1.0, target=None, nesterov=False) -> Tensor:
    """Scion on a matrix in the spectral norm, its polar factor by SVD."""
    average = torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        average = (1 - alpha) * average + alpha * g
        ahead = (1 - alpha) * average + alpha * g if nesterov else average
        u, _, vh = torch.linalg.svd(ahead, full_matrices=False)
        gamma = lr * radius
        spread = 1 + 4 * alpha - 6 * alpha**2 + 2 * alpha**3 if nesterov else 1
        shrink = lr * decay if target is None else gamma**2 * (2 - alpha) / (2 * alpha * target * spread)
        w = (1 - shrink) * w - gamma * (w.shape[0] / w.shape[1]) ** 0.5 * (u @ vh)
    return w


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decay": 1.0},
        {"decay": 0.3, "radius": 2.5},
        {"decay": 0.3, "alpha": 1.0},
        {"alpha": 0.5, "target": 1.2},
        {"radius": 3.0, "target": 0.7},
        {"decay": 0.3, "alpha": 0.2, "nesterov": True},
        {"alpha": 0.2, "target": 0.7, "radius": 2.0, "nesterov": True},
        {"alpha": 1.0, "nesterov": True},
    ],
)
def test_update_rule_of_a_matrix(options):
    start, *gradients = matrices(7, 4, 6)
    lrs = cosine(6, 0.05)
    p = weight(start)
    names = {"decay": "weight_decay"}
    given = {names.get(key, key): value for key, value in options.items()}
    optimizer = (ScionC if "target" in options else Scion)([p], lr=0.05, polar="svd", **given)
    torch.testing.assert_close(
        run(optimizer, p, gradients, lrs), naive(start, gradients, lrs, **options), rtol=1e-11, atol=1e-12
    )
    assert ("buffer" in optimizer.state[p]) == (options.get("alpha") != 1.0)


def test_constrained_scion_stays_in_its_ball():
    start, *gradients = matrices(60, 4, 6)
    scale = math.sqrt(6 / 4)
    p = weight(start * 2 / (scale * torch.linalg.matrix_norm(start, 2)))  # on the sphere of radius 2
    optimizer = Scion([p], lr=0.3, weight_decay=1, radius=2, polar="svd")
    free = weight(p.detach())
    unconstrained = Scion([free], lr=0.3, radius=2, polar="svd")
    for g in gradients:
        run(optimizer, p, [g], [0.3])
        assert scale * torch.linalg.matrix_norm(p.detach(), 2) <= 2 + 1e-12
        run(unconstrained, free, [g], [0.3])
    assert scale * torch.linalg.matrix_norm(free.detach(), 2) > 4


def test_constrained_scion_finds_the_minimum_over_the_ball():
    """Of a linear loss <G, W> over the ball of radius 2 it is -2 U(G); the distance falls by 1 - lr a step."""
    (g,) = matrices(1, 4, 6)
    p = weight(torch.zeros(4, 6))
    run(Scion([p], lr=0.5, weight_decay=1, radius=2, polar="svd"), p, [g] * 20, [0.5] * 20)
    torch.testing.assert_close(p.detach(), -2 * (1 - 0.5**20) * lmo(g, "spectral", "svd"), rtol=1e-11, atol=0)


def test_chous_form_is_scions_with_a_radius():
    """gamma = lr * radius and lambda = 1 / radius: constrained Scion in two ways of writing."""
    start, *gradients = matrices(6, 3, 3)
    p, q = weight(start), weight(start)
    run(Scion([p], lr=0.01, weight_decay=1, radius=5), p, gradients, [0.01] * 5)
    run(Scion([q], lr=0.05, weight_decay=1 / 5), q, gradients, [0.05] * 5)
    torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-14)


# --- laws ---


def test_scionc_is_scion_with_lambda_proportional_to_lr():
    start, *gradients = matrices(21, 4, 6)
    lrs = cosine(20, 0.1)
    p, q = weight(start), weight(start)
    run(ScionC([p], lr=0.1, weight_decay=0.5, radius=0.7), p, gradients, lrs)
    optimizer = Scion([q], lr=0.1, weight_decay=0.5, radius=0.7)
    for g, lr in zip(gradients, lrs, strict=True):
        optimizer.param_groups[0]["weight_decay"] = 0.5 * lr / 0.1
        run(optimizer, q, [g], [lr])
    torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    constant = weight(start)
    run(Scion([constant], lr=0.1, weight_decay=0.5, radius=0.7), constant, gradients, lrs)
    assert not torch.allclose(p, constant, rtol=1e-3)


def test_at_a_constant_lr_they_agree():
    start, *gradients = matrices(6, 4, 6)
    p, q = weight(start), weight(start)
    run(ScionC([p], lr=0.1, weight_decay=0.5), p, gradients, [0.1] * 5)
    run(Scion([q], lr=0.1, weight_decay=0.5), q, gradients, [0.1] * 5)
    torch.testing.assert_close(p, q, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", [Scion, ScionC])
def test_the_scale_of_the_loss_does_not_matter(kind):
    start, *gradients = matrices(6, 4, 6)
    p, q = weight(start), weight(start)
    run(kind([p], lr=0.1, weight_decay=0.5), p, gradients, [0.1] * 5)
    run(kind([q], lr=0.1, weight_decay=0.5), q, [1e-9 * g for g in gradients], [0.1] * 5)
    torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", [Scion, ScionC])
def test_lr_zero_moves_nothing(kind):
    p = weight()
    before = p.detach().clone()
    assert torch.equal(run(kind([p], lr=0.1, weight_decay=0.5), p, GRADIENTS, [0.0] * 3), before)


def test_the_head_keeps_a_constant_lambda_and_scalars_are_left_alone():
    body, head, scalar, free = weight(), weight(), weight(3.0), weight()
    groups = [
        {"params": [body, scalar]},
        {"params": [head], "corrected": False, "weight_decay": 0.25},
        {"params": [free], "weight_decay": 0.0, "target": None},  # what a group says itself counts
    ]
    optimizer = ScionC(groups, lr=0.1, target=1.9)
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    shrinks = [optimizer.shrink(g, p) for g in optimizer.param_groups for p in g["params"]]
    assert shrinks == pytest.approx([0.5 * 0.05**2 / 0.1, 0, 0.05 * 0.25, 0], rel=1e-12)


def test_lambda_of_the_peak_says_the_target_with_nesterov_too():
    p = weight()
    optimizer = ScionC([p], lr=0.1, weight_decay=0.5, alpha=0.2, nesterov=True, radius=3.0)
    group = optimizer.param_groups[0]
    assert optimizer.shrink(group, p) == pytest.approx(0.1 * 0.5, rel=1e-12)
    assert group["target"] == pytest.approx(0.1 * 9 * 2.389699**2 / (2 * 0.5), rel=1e-6)


def test_a_schedule_of_alpha_is_followed():
    """The effective step is the same, so the shrink is."""
    p = weight()
    optimizer = ScionC([p], lr=0.05, alpha=0.5, target=1.0)
    group = optimizer.param_groups[0]
    before = optimizer.shrink(group, p)
    group["alpha"], group["lr"] = 0.1, 0.05 * math.sqrt(3) / math.sqrt(19)
    assert optimizer.shrink(group, p) == pytest.approx(before, rel=1e-12) == pytest.approx(0.05**2 * 3 / 2)


def test_the_norm_settles_at_the_target_through_a_cosine_and_without_correction_does_not():
    """Random gradients on 48 vectors of 64 entries, as one stack [48, 64] whose rows are stepped one by one.

    Theory (an exact sum for vectors, to first order target): ||theta||^2 / ||U||^2 within a few percent of 1 to the end.
    """
    total, peak, g = 1600, 0.1 * math.sqrt(0.1 / 1.9), torch.Generator().manual_seed(0)  # effective step 0.1
    start = torch.randn(48, 64, generator=g)
    p, q = weight(start, torch.float32), weight(start, torch.float32)
    decay = corrected_shrink(peak, 0.1, 1.0) / peak
    corrected = ScionC([p], lr=peak, norm="embedding", target=1.0)
    plain = Scion([q], lr=peak, weight_decay=decay, norm="embedding")
    lrs = [peak] * 400 + cosine(total - 400, peak)
    for lr in lrs:
        gradient = torch.randn(48, 64, generator=g)
        run(corrected, p, [gradient], [lr])
        run(plain, q, [gradient], [lr])
    settled = [float(w.detach().pow(2).mean()) for w in (p, q)]
    assert settled[0] == pytest.approx(1, abs=0.06)
    assert settled[1] < 0.5
