"""`steady_state`: the tables' formulas read off real optimizers, and real optimizers walking on noise to where it says."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from clipedu.norms import predicted_norms, steady_state
from clipedu.norms.equilibrium import (
    adamw_norm,
    balance_with_momentum,
    lion_norm,
    mean_cosine,
    sgdm_norm,
    time_constant,
)
from clipedu.optim import build_optimizer, follow
from clipedu.optim.scion import Scion, ScionC, effective_step
from clipedu.utils.errors import ClipeduError

TABLE = {"weight": [2.0, 4.0], "gradient": [8.0, 4.0]}  # G = ||g|| ||w|| = 16


def matrix(*shape, std=0.1):
    return nn.Parameter(std * torch.randn(shape, generator=torch.Generator().manual_seed(1)))


def one_layer(name, *, lr, weight_decay, shape=(64, 64), **options):
    model = nn.Linear(shape[1], shape[0], bias=False)
    optimizer = build_optimizer(model, name, lr=lr, weight_decay=weight_decay, **options)
    return optimizer, model.weight


def test_adamw():
    for lr, weight_decay in ((1e-3, 1.0), (1e-3, 0.1)):
        optimizer, w = one_layer("adamw", lr=lr, weight_decay=weight_decay)
        state = steady_state(optimizer, w)
        assert state.norm == pytest.approx(adamw_norm(lr, weight_decay, 4096), rel=0.006)
        squared_update = 4096 * 0.1 / 1.9
        exact = squared_update * balance_with_momentum(lr, weight_decay, 0.1)
        assert state.norm == pytest.approx(math.sqrt(exact))
        assert state.rotation == pytest.approx(math.sqrt(2 * lr * weight_decay * 0.1 / 1.9), rel=0.005)
        assert state.tuc == pytest.approx(4096) and state.shrink == pytest.approx(lr * weight_decay)
        assert state.effective_step == pytest.approx(effective_step(lr, 0.1))
        assert state.time_constant == time_constant(lr * weight_decay)
        assert state.cosine == pytest.approx(mean_cosine(lr, weight_decay, 0.1)) and state.fade == pytest.approx(0.9)


def test_without_momentum_adamw_turns_as_far_as_it_is_long():
    state = steady_state(*one_layer("adamw", lr=1e-2, weight_decay=0.5, betas=(0.0, 0.999)))
    assert state.norm == pytest.approx(64 * 0.1, rel=0.002) and state.rotation == pytest.approx(0.1, rel=0.002)
    assert state.cosine == 0 and state.fade == 0


def test_lion():
    for lr, weight_decay, beta1 in ((1e-3, 1.0, 0.9), (1e-3, 0.2, 0.9), (1e-3, 1.0, 0.0)):
        state = steady_state(*one_layer("lion", lr=lr, weight_decay=weight_decay, betas=(beta1, 0.99)))
        assert state.norm == pytest.approx(lion_norm(lr, weight_decay, 4096, beta1))
        k = (1 - beta1) ** 2 + beta1**2 * 0.01 / 1.99
        line = math.sqrt(math.pi * lr * weight_decay * k)
        assert state.rotation == pytest.approx(line, rel=0.05 if beta1 else 0.26)


def test_sgd_with_coupled_decay():
    for momentum in (0.0, 0.9):
        w = matrix(8, 8)
        optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=5e-3, momentum=momentum)
        state = steady_state(optimizer, w, measured=TABLE)
        assert state.norm == pytest.approx(sgdm_norm(0.1, 5e-3, momentum, 16.0), rel=2e-3)
        assert state.rotation == pytest.approx(math.sqrt(2 * 0.1 * 5e-3 / (1 + momentum)), rel=2e-3)
        assert state.shrink == pytest.approx(0.1 * 5e-3 / (1 - momentum))
        assert state.time_constant == pytest.approx(time_constant(state.shrink) / 2)
        assert state.tuc == pytest.approx((16 / (1 - momentum)) ** 2) and state.cosine > 0
    nesterov = torch.optim.SGD([w], lr=0.1, weight_decay=5e-3, momentum=0.9, nesterov=True)
    assert steady_state(nesterov, w, measured=TABLE).norm == pytest.approx(state.norm)
    dampened = torch.optim.SGD([w], lr=0.1, weight_decay=5e-3, momentum=0.9, dampening=0.9)
    assert steady_state(dampened, w, measured=TABLE).norm == pytest.approx(sgdm_norm(0.1, 5e-3, 0.0, 16.0), rel=2e-3)


def test_decoupled_sgd_settles_higher_than_coupled():
    """Coupled decay passes through the momentum, which multiplies it by 1 / (1 - momentum)."""
    optimizer, w = one_layer("sgdw", lr=0.1, weight_decay=5e-3, nesterov=False)
    state = steady_state(optimizer, w, measured=TABLE)
    assert state.shrink == pytest.approx(5e-4)
    assert state.norm == pytest.approx(sgdm_norm(0.1, 5e-3, 0.9, 16.0) * 10**0.25, rel=3e-3)
    curve = predicted_norms(1.0, [0.1] * 20_000, state.shrink, state.tuc, fade=state.fade, scale_invariant=True)
    assert curve[-1] == pytest.approx(state.norm, rel=1e-4)


@pytest.mark.parametrize(
    "norm, shape, squared, factor",
    [
        ("bias-rms", (100,), 100, 19),
        ("row-norm", (20, 50), 20 / 50, 19),
        ("embedding", (20, 50), 1000, 19),
        ("sign", (20, 50), 20 / 50, 13.279),
        ("spectral", (64, 64), 64, 14.73),
        ("spectral", (64, 128), 32, 17.21),
        ("spectral", (3, 64, 64), 3 * 64, 14.73),
        ("patchifier", (64, 4, 4, 4), 64, 14.73),
        ("spectral-conv", (64, 16, 2, 2), 64 * 64 / (16 * 16), 14.73),
        ("spectral-conv-per-position", (64, 64, 2, 2), 64 / 4, 14.73),
        ("auto", (64, 64), 64, 14.73),
        ("auto", (100,), 100, 19),
        ("auto", (64, 4, 4, 4), 64 * 64 / (4 * 256), 14.73),
    ],
)
def test_scion(norm, shape, squared, factor):
    w = matrix(*shape)
    optimizer = Scion([w], lr=1e-3, weight_decay=0.2, alpha=0.1, norm=norm, radius=3.0, polar="svd")
    state = steady_state(optimizer, w)
    assert state.tuc == pytest.approx(9 * squared * factor, rel=0.005)
    assert state.norm == pytest.approx(math.sqrt(1e-3 * state.tuc / 0.4), rel=0.003)
    assert state.effective_step == pytest.approx(1e-3 * math.sqrt(19)) and state.shrink == pytest.approx(2e-4)


def test_scion_with_nesterov():
    w = matrix(100)
    state = steady_state(Scion([w], lr=1e-3, weight_decay=0.2, alpha=0.1, nesterov=True), w)
    assert state.effective_step == pytest.approx(effective_step(1e-3, 0.1, nesterov=True))
    assert state.tuc == pytest.approx(100 * effective_step(1.0, 0.1, nesterov=True) ** 2)


def test_scionc_settles_at_its_target_at_any_lr():
    w = matrix(100)
    optimizer = ScionC([w], lr=1e-3, target=1.5, alpha=0.1)
    for lr in (1e-3, 1e-4):
        optimizer.param_groups[0]["lr"] = lr
        assert steady_state(optimizer, w).norm == pytest.approx(math.sqrt(1.5 * 100), rel=1e-3)


def test_muon_and_what_it_leaves_to_adam():
    optimizer, w = one_layer("muon", lr=1e-3, weight_decay=0.5)
    state = steady_state(optimizer, w)
    assert state.effective_step == pytest.approx(effective_step(1e-3, 0.05, nesterov=True))
    alone = nn.Parameter(torch.zeros(50))
    optimizer.add_param_group({"params": [alone], "param_names": ["alone"], "weight_decay": 0.5})
    assert steady_state(optimizer, alone).tuc == pytest.approx(50)
    optimizer.param_groups[0]["algo"] = "adamuon"
    with pytest.raises(ClipeduError, match="algo"):
        steady_state(optimizer, w)


# optimizer, options, norm within, rotation within: the walk takes them there in some 1500 steps
WALKERS = [
    ("adamw", {}, 0.02, 0.02),
    ("radamw", {"betas": (0.9, 0.95)}, 0.03, 0.03),
    ("nadamw", {}, 0.02, 0.07),  # its momentum is still on its way up
    ("adamc", {}, 0.02, 0.02),
    ("lion", {}, 0.025, 0.02),
    ("sgdw", {}, 0.02, 0.02),
    ("sgd", {"momentum": 0.5}, 0.01, 0.02),
    ("muon", {}, 0.03, 0.03),
    ("scion", {}, 0.03, 0.03),
    ("scionc", {"nesterov": True}, 0.03, 0.03),
]


@pytest.mark.parametrize("name, options, norm_within, rotation_within", WALKERS)
def test_real_optimizers_walk_there(name, options, norm_within, rotation_within):
    optimizer, w = one_layer(name, lr=0.02, weight_decay=0.5, shape=(32, 32), **options)
    noise, squares, angles, measured = torch.Generator().manual_seed(0), [], [], []
    for t in range(500 if name == "muon" else 1100):
        before = w.detach().clone()
        w.grad = torch.randn(w.shape, generator=noise)
        if name.startswith("sgd"):  # what a normalised layer sees
            w.grad -= (w.grad * before).sum() / before.square().sum() * before
            w.grad /= before.norm()
            measured.append((w.grad.norm().item(), before.norm().item()))
        optimizer.step()
        if t > 250:
            after = w.detach()
            squares.append(after.square().sum().item())
            across = after - (after * before).sum() / before.square().sum() * before
            angles.append(math.atan2(across.norm().item(), (after * before).sum().item() / before.norm().item()))
    rows = {"gradient": [g for g, _ in measured], "weight": [n for _, n in measured]} if measured else None
    state = steady_state(optimizer, w, measured=rows)
    assert math.sqrt(sum(squares) / len(squares)) == pytest.approx(state.norm, rel=norm_within)
    assert math.sqrt(sum(a * a for a in angles) / len(angles)) == pytest.approx(state.rotation, rel=rotation_within)


@pytest.mark.parametrize(
    "law, power", [("constant", 0.5), ("corrected", 0.0), ("corrected-exact", 0.0), ("independent", 1.0)]
)
def test_a_decay_law_moves_the_balance(law, power):
    """||w|| follows lr^(1/2) under a constant lambda, not at all under a corrected one, lr under an independent one."""
    w = matrix(10, 10)
    optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.5)
    follow(optimizer, law)
    peak = steady_state(optimizer, w)
    optimizer.param_groups[0]["lr"] = 1e-5  # as a schedule does; weight_decay is still that of the step before
    state = steady_state(optimizer, w)
    assert state.norm == pytest.approx(peak.norm * 0.01**power, rel=5e-3)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert steady_state(optimizer, w) == state
    assert state.shrink == pytest.approx(1e-5 * optimizer.param_groups[0]["weight_decay"])
    optimizer.param_groups[0]["lr"] = 0.0
    end = steady_state(optimizer, w)
    assert end.norm == pytest.approx(peak.norm * (power == 0), rel=5e-3, abs=1e-3)
    assert math.isinf(end.time_constant) and end.rotation == 0 == end.shrink == end.effective_step


def test_a_head_keeps_its_constant_lambda():
    model = nn.ModuleDict({"body": nn.Linear(8, 8, bias=False), "image_projection": nn.Linear(8, 8, bias=False)})
    optimizer = build_optimizer(model, "adamc", lr=1e-3, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    body, head = (steady_state(optimizer, model[name].weight).norm for name in ("body", "image_projection"))
    assert body / head == pytest.approx(math.sqrt(10), rel=5e-3)


def test_without_decay_there_is_no_balance():
    for name in ("adamw", "lion", "scion", "scionc", "muon", "sgd", "sgdw"):
        optimizer, w = one_layer(name, lr=1e-3, weight_decay=0.0, shape=(8, 8))
        state = steady_state(optimizer, w, measured=TABLE if name.startswith("sgd") else None)
        assert math.isinf(state.norm) and math.isinf(state.time_constant) and state.rotation == state.shrink == 0


def rows(**columns):
    return pd.DataFrame({"layer": "a", "weight": 3.0, **columns})


def test_measured_updates_replace_those_of_noise():
    """An embedding of which a quarter gets gradients: the update is half as long, and so is the weight in the end."""
    optimizer, w = one_layer("adamw", lr=1e-3, weight_decay=0.1, shape=(100, 20))
    whole = steady_state(optimizer, w)
    c = 2000 * 0.1 / 1.9 / 4
    measured = rows(lr=[1e-3, 5e-4], injection=[1e-6 * c * 1.2, 2.5e-7 * c * 0.2])
    quarter = steady_state(optimizer, w, measured=measured)
    assert quarter.norm == pytest.approx(whole.norm / 2) and quarter.tuc == pytest.approx(500)
    assert quarter.rotation == pytest.approx(whole.rotation) and quarter.time_constant == whole.time_constant
    with_gap = rows(lr=[1e-3, 1e-3], injection=[1e-6 * c, math.nan])
    assert steady_state(optimizer, w, measured=with_gap).tuc == pytest.approx(500)


def test_updates_that_are_lost_in_rounding_say_nothing():
    """Their squared size is a difference of nearly equal numbers, and may come out below 0."""
    optimizer, w = one_layer("sgd", lr=1e-3, weight_decay=0.1, shape=(100, 20))
    for injection in (-1e-12, 0.0):
        with pytest.raises(ClipeduError, match="no updates above rounding"):
            steady_state(optimizer, w, measured=rows(weight=[1.0], lr=[1e-3], injection=[injection]))


def test_measured_updates_of_sgd_count_after_clipping():
    w = matrix(4, 4)
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=5e-3)
    clipped = rows(gradient=[100.0, 100.0], lr=0.1, injection=[0.01 * 4.0, 0.01 * 4.0])
    assert steady_state(optimizer, w, measured=clipped).norm == pytest.approx(
        sgdm_norm(0.1, 5e-3, 0.0, 2 * 3.0), rel=1e-3
    )


def test_a_parameter_by_name():
    optimizer, w = one_layer("adamw", lr=1e-3, weight_decay=0.1)
    assert steady_state(optimizer, "weight") == steady_state(optimizer, w)
    for other in ("wieght", matrix(2, 3)):
        with pytest.raises(ClipeduError, match=r"wieght|\[2, 3\]"):
            steady_state(optimizer, other)


@pytest.mark.parametrize(
    "name, word",
    [("adam", "depends on them"), ("radam", "L2 in the gradient"), ("lamb", "no theory"), ("adamp", "AdamW")],
)
def test_what_has_no_balance_is_refused(name, word):
    optimizer, w = one_layer(name, lr=1e-3, weight_decay=0.1)
    with pytest.raises(ClipeduError, match=word):
        steady_state(optimizer, w)


def test_more_that_is_refused():
    optimizer, w = one_layer("sgd", lr=1e-3, weight_decay=0.1)
    with pytest.raises(ClipeduError, match="measured"):
        steady_state(optimizer, w)
    with pytest.raises(ClipeduError, match="gradient"):
        steady_state(optimizer, w, measured={"weight": [1.0]})
    with pytest.raises(ClipeduError, match="2 layers"):
        steady_state(optimizer, w, measured={"layer": ["a", "b"], "weight": [1, 1], "gradient": [1, 1]})
    adamw, w = one_layer("adamw", lr=1e-3, weight_decay=0.1)
    with pytest.raises(ClipeduError, match="injection"):
        steady_state(adamw, w, measured={"weight": [1.0], "gradient": [1.0]})
    with pytest.raises(ClipeduError, match="finite"):
        steady_state(adamw, w, measured=rows(lr=[1e-3], injection=[math.nan]))
    cautious, w = one_layer("lion", lr=1e-3, weight_decay=0.1, caution=True)
    with pytest.raises(ClipeduError, match="cautious"):
        steady_state(cautious, w)
    amsgrad, w = one_layer("adamw", lr=1e-3, weight_decay=0.1, amsgrad=True)
    with pytest.raises(ClipeduError, match="measured"):
        steady_state(amsgrad, w)
