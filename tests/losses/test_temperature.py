"""A learned temperature: its gradient is that of the loss's true objective, and it stays in its range."""

import math

import pytest
import torch

from clipedu.geometry import Cosine
from clipedu.losses import LOSSES, build_loss
from clipedu.losses.margins import margins, off_diagonal
from clipedu.utils.errors import ClipeduError

from .oracle import assert_close, random_pairs

LEARN = ["clip", "cyclip", "dcl", "infoloob", "onlineclr", "siglip", "sogclr"]
SIZE = 6
ROWS = torch.arange(SIZE)


def learned(name: str, temperature: float = 0.08, **options):
    loss = build_loss(name, temperature=temperature, num_samples=SIZE, learn_temperature=True, **options).double()
    with torch.no_grad():
        loss.logit_scale.fill_(-math.log(temperature))  # in float64 digits
    return loss


def similarity(seed: int) -> torch.Tensor:
    return Cosine().similarity(*random_pairs(seed, size=SIZE, dim=4))


def f_of_sogclr(loss, s: torch.Tensor, tau: float) -> float:
    """F with u = g, which is what one batch knows of it."""
    log_g = (margins(s) / tau).logsumexp(-1) - math.log(SIZE - 1)
    return (tau * (log_g + loss.rho)).mean(-1).sum().item()


def f_of_onlineclr(loss, s: torch.Tensor, tau: float) -> float:
    tau_p = loss.ratio * tau
    negatives = tau * (off_diagonal(s) / tau).flatten().logsumexp(0)
    return (negatives + tau_p * (-s.diagonal() / tau_p).logsumexp(0)).item()


def f_of_others(loss, s: torch.Tensor, tau: float) -> float:
    with torch.no_grad():
        loss.logit_scale.fill_(-math.log(tau))
        return sum(loss.objective(s).values()).item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LEARN)
def test_gradient_in_tau_is_a_central_difference_of_the_objective(name, seed):
    loss, tau, step = learned(name), 0.08, 1e-6
    loss(*random_pairs(seed, size=SIZE, dim=4), ROWS).total.backward()
    gradient = -loss.logit_scale.grad.item() / tau  # d/dtau = -1/tau d/dlogit_scale
    objective = {"sogclr": f_of_sogclr, "onlineclr": f_of_onlineclr}.get(name, f_of_others)
    s = similarity(seed)
    difference = (objective(loss, s, tau + step) - objective(loss, s, tau - step)) / (2 * step)
    assert gradient == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in LEARN if name != "siglip"])
def test_value_terms_and_gradients_of_the_embeddings_are_those_of_the_fixed_temperature(name):
    fixed = build_loss(name, temperature=0.08, num_samples=SIZE).double()
    free = learned(name)
    for seed in range(2):
        x, y = (z.requires_grad_() for z in random_pairs(seed, size=SIZE, dim=4))
        outputs = [loss(x, y, ROWS) for loss in (fixed, free)]
        assert outputs[0].terms.keys() == outputs[1].terms.keys()
        assert_close(outputs[1].total.detach(), outputs[0].total.detach(), rtol=1e-12)
        grads = [torch.autograd.grad(output.total, (x, y)) for output in outputs]
        for one, other in zip(*grads, strict=True):
            assert_close(one, other, rtol=1e-9)
        weights = [loss.pair_weights(x.detach(), y.detach(), ROWS) for loss in (fixed, free)]
        assert_close(weights[1], weights[0], rtol=1e-9)
    assert outputs[0].watch == {}
    assert outputs[1].watch["temperature"].item() == pytest.approx(0.08)
    assert not outputs[1].watch["temperature"].requires_grad


def test_with_memory_the_slope_is_log_u_plus_rho_minus_the_weighted_margin():
    loss, tau = learned("sogclr", gamma=0.5, rho=1.5), 0.08
    loss(*random_pairs(0, size=SIZE, dim=4), ROWS)
    loss(*random_pairs(1, size=SIZE, dim=4), ROWS).total.backward()
    expected = 0.0
    before, now = similarity(0).tolist(), similarity(1).tolist()
    for i in range(SIZE):
        for at in (lambda s, i, j: s[i][j] - s[i][i], lambda s, i, j: s[j][i] - s[i][i]):
            others = [j for j in range(SIZE) if j != i]
            u = sum(math.exp(at(s, i, j) / tau) for s in (before, now) for j in others) / (2 * len(others))
            z = [at(now, i, j) / tau for j in others]
            expected += (math.log(u) + 1.5 - sum(math.exp(v) / u * v for v in z) / len(others)) / SIZE
    assert -loss.logit_scale.grad.item() / tau == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", LEARN)
def test_on_clips_scale_its_gradient_grows_by_the_same_factor(name):
    batch = (*random_pairs(0, size=SIZE, dim=4), ROWS)
    paper, clip = learned(name), learned(name, scale="clip")
    for loss in (paper, clip):
        loss(*batch).total.backward()
    assert clip.logit_scale.grad.item() == pytest.approx(float(clip.clip_scale) * paper.logit_scale.grad.item())


@pytest.mark.parametrize("name", LEARN)
@pytest.mark.parametrize("overshoot, bound", [(9.0, math.log(100)), (-3.0, 0.0)])
def test_a_step_too_far_is_clamped_and_the_way_back_is_open(name, overshoot, bound):
    loss = learned(name)
    optimizer = torch.optim.SGD([loss.logit_scale], lr=0.1)
    with torch.no_grad():
        loss.logit_scale.fill_(overshoot)
    total = loss(*random_pairs(0, size=SIZE, dim=4), ROWS).total
    assert loss.logit_scale.item() == pytest.approx(bound, abs=1e-12)  # the parameter itself, not a copy
    total.backward()
    assert loss.logit_scale.grad is not None and loss.logit_scale.grad.isfinite()
    loss.logit_scale.grad.fill_(math.copysign(1.0, overshoot))
    optimizer.step()
    assert -math.log(float(loss.temperature_value)) == pytest.approx(bound - math.copysign(0.1, overshoot))


def test_the_range_is_the_geometry_s():
    class Wide(Cosine):
        logit_scale_range = (-2.0, 6.0)

    loss = learned("clip", geometry=Wide())
    with torch.no_grad():
        loss.logit_scale.fill_(7.0)
    assert float(loss.temperature_value) == pytest.approx(math.exp(-6))
    build_loss("clip", temperature=0.005, geometry=Wide(), learn_temperature=True)
    with pytest.raises(ClipeduError, match="learned temperature cannot start at 0.005: this geometry allows 0.01 to 1"):
        build_loss("clip", temperature=0.005, learn_temperature=True)
    build_loss("clip", temperature=0.005)  # a fixed one may


@pytest.mark.parametrize("name", list(LOSSES))
def test_it_is_a_parameter_only_where_asked_for(name):
    assert ("logit_scale" in dict(build_loss(name, num_samples=4).named_parameters())) == (name == "siglip")


def test_the_default_temperature_can_be_learned():
    for name in LEARN:
        assert build_loss(name, num_samples=4, learn_temperature=True).logit_scale.requires_grad


def test_who_has_none_is_left_alone_and_who_has_its_own_says_so():
    assert list(build_loss("vicreg", learn_temperature=True).parameters()) == []
    with pytest.raises(ClipeduError, match="isogclr already learns a temperature for every anchor"):
        build_loss("isogclr", num_samples=4, learn_temperature=True)


def test_a_stand_in_moves_tau_to_where_kl_is_rho():
    loss = learned("sogclr", temperature=0.2, rho=0.8, gamma=1.0)
    optimizer = torch.optim.SGD([loss.logit_scale], lr=2.0)
    batch = (*random_pairs(0, size=SIZE, dim=4), ROWS)
    for _ in range(300):
        optimizer.zero_grad()
        loss(*batch).total.backward()
        optimizer.step()
    p = (margins(similarity(0)) / loss.temperature_value).softmax(-1)
    kl = (p * (p * (SIZE - 1)).log()).sum(-1).mean(-1).sum()
    assert kl.item() == pytest.approx(2 * 0.8, rel=1e-4)  # two sides


def test_siglip_watches_its_scale_and_bias():
    watch = build_loss("siglip")(*random_pairs(0), torch.arange(5)).watch
    assert watch["temperature"].item() == pytest.approx(0.1) and watch["bias"].item() == -10


def test_what_is_watched_is_of_this_step_also_after_the_next():
    loss = learned("siglip")
    watch = loss(*random_pairs(0), torch.arange(5)).watch
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += 1
    assert watch["bias"].item() == -10 and watch["temperature"].item() == pytest.approx(0.08)
