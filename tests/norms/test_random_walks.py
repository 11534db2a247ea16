"""Random walks against their theory, against the sheet's Monte-Carlo values, and against a walk typed out here."""

import inspect
import math

import numpy as np
import pytest
import torch

from clipedu.norms import Walk, WalkSettings, sandbox
from clipedu.norms.equilibrium import balance, balance_with_momentum, mean_cosine
from clipedu.utils.errors import ClipeduError


def scores(walk):
    """How many standard errors lie between Monte-Carlo and theory, at each record."""
    return (walk.measured - walk.predicted) / np.maximum(walk.error, 1e-7 * walk.predicted + 1e-12)


@pytest.mark.parametrize(
    "lr, weight_decay, start, shape, expected",
    [
        (0.1, 0.1, 0.0, 64, (0.01, 0.09150405146, 0.435186093)),
        (0.1, 1.0, 4 / 16, 16, (3.4 / 16, 1.226031541 / 16, 0.8421052654 / 16)),
        (0.02, 0.5, 1.0, 64, (62.752 / 64, 52.58029438 / 64, 9.688775589 / 64)),
    ],
)
def test_memoryless_walks_of_the_table(lr, weight_decay, start, shape, expected):
    walk = sandbox("none", lr=lr, weight_decay=weight_decay, start=start, shape=shape, steps=100, chains=1500)
    at = [list(walk.step).index(t) for t in (1, 10, 100)]
    assert walk.predicted[at] == pytest.approx(expected, rel=1e-8)
    assert np.abs(scores(walk)[at]).max() < 3.3
    assert np.abs(walk.measured[at] / expected - 1).max() < 0.03  # the errors themselves are small
    if start == 0:
        assert walk.spread[-1] == pytest.approx(walk.measured[-1] * math.sqrt(2 / shape), rel=0.1)
    assert walk.error == pytest.approx(walk.spread / math.sqrt(1500))


# normaliser, shape, alpha, lr, lambda, then ||w||^2 / C and the mean cosine as measured elsewhere, and how far they may be
MEASURED = [
    ("vector", 256, 0.5, 0.01, 0.5, 0.03003, -0.0581, 0.02),
    ("vector", 256, 0.1, 0.01, 0.5, 0.18159, -0.2010, 0.02),
    ("vector", 256, 0.2, 0.016667, 0.075, 1.001, None, 0.025),
    ("sign", 256, 0.5, 0.028868, 0.0433, 0.765, None, 0.025),
    ("sign", 256, 0.1, 0.011471, 0.10897, 0.688, None, 0.025),
    ("polar", (32, 32), 0.1, 0.1 / math.sqrt(19), 0.005 / (0.1 / math.sqrt(19)), 0.738, None, 0.02),
    ("polar", (16, 64), 0.1, 0.1 / math.sqrt(19), 0.005 / (0.1 / math.sqrt(19)), 0.909, None, 0.02),
]


@pytest.mark.parametrize("normaliser, shape, alpha, lr, weight_decay, norm, cosine, within", MEASURED)
def test_momentum_walks_of_the_tables(normaliser, shape, alpha, lr, weight_decay, norm, cosine, within):
    chains = 24 if normaliser == "polar" else 96
    steps = 250 if normaliser == "polar" else 800
    settings = {"alpha": alpha, "lr": lr, "weight_decay": weight_decay, "shape": shape, "chains": chains}
    walk = sandbox(normaliser, steps=steps, start=None, **settings)
    assert walk.predicted[-1] == pytest.approx(norm, rel=within)
    assert (walk.measured / walk.predicted)[20:].mean() == pytest.approx(1, abs=0.02)
    assert np.abs(scores(walk)).mean() < 2
    if cosine is not None:
        assert walk.cosine.mean() == pytest.approx(cosine, abs=0.004)
        assert walk.predicted_cosine[20:] == pytest.approx(cosine, abs=0.0035)


def test_adam_and_none_walk_like_a_vector():
    for name in ("adam", "none", "vector"):
        walk = sandbox(name, alpha=0.1, steps=500, start=0.5, chains=256)
        assert np.abs(scores(walk)[5:]).max() < 3.5, name
        assert walk.balance[0] == pytest.approx(balance_with_momentum(0.01, 0.5, 0.1))
        assert walk.cosine[-20:].mean() == pytest.approx(mean_cosine(0.01, 0.5, 0.1), abs=0.01)


@pytest.mark.parametrize("arguments", [{}, {"normaliser": "none", "scale_invariant": True}, {"renormalised": True}])
def test_it_begins_settled_and_stays(arguments):
    walk = sandbox(**{"alpha": 0.1, "steps": 60, "start": None, "shape": 256, "lr": 0.02, "records": 60} | arguments)
    assert walk.predicted == pytest.approx(walk.start, rel=3e-3) and walk.balance == pytest.approx(walk.start)
    assert walk.measured / walk.predicted == pytest.approx(1, abs=0.02)
    assert walk.cosine == pytest.approx(walk.predicted_cosine, abs=0.02) and walk.predicted_cosine.max() < -0.1


def test_scionc_under_a_cosine_keeps_its_norm_and_a_constant_lambda_does_not():
    lr = 0.05 / math.sqrt(19)
    settings = {"alpha": 0.1, "lr": lr, "schedule": "cosine", "steps": 2000, "start": None, "shape": 128, "chains": 64}
    flat = sandbox(weight_decay=0.005 / lr, law="corrected", **settings)
    assert flat.measured == pytest.approx(0.24, abs=0.025)  # c^2 = 0.05^2 / (2 * 0.005) = 0.25, to first order
    assert np.abs(scores(flat)).max() < 3
    falling = sandbox(weight_decay=0.005 / lr, **settings)
    assert falling.measured[-1] < 0.1 and np.abs(scores(falling)).max() < 3
    assert np.all(np.diff(falling.predicted) <= 0)
    assert falling.balance[-1] < 0.01 < falling.predicted[-1]  # it ends above its own vanishing target
    assert falling.Lambda == pytest.approx(2 * 0.005 * 2000 / 2, rel=0.01)
    assert flat.Lambda == pytest.approx(2 * 0.005 * 2000 * 3 / 8, rel=0.01)


def test_a_walk_typed_out():
    """The first steps of a walk from its own noise, step by step, in float64."""
    settings = {"alpha": 0.4, "lr": 0.2, "weight_decay": 0.5, "steps": 5, "shape": 7, "chains": 3, "start": 2.0}
    walk = sandbox("vector", law="corrected", schedule="cosine", warmup=2, seed=5, dtype=torch.float64, **settings)
    noise = np.random.default_rng(5)
    x = noise.standard_normal((3, 7)) * math.sqrt(0.4 / 1.6)
    w = np.full((3, 7), math.sqrt(2 / 7))
    half = [(1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3)]
    for t, share in enumerate([0.5, 1.0, *half]):
        rate = 0.2 * share
        x = 0.6 * x + 0.4 * noise.standard_normal((3, 7))
        u = x / np.linalg.norm(x, axis=1, keepdims=True)
        cosine = (w * u).sum(1) / np.linalg.norm(w, axis=1)
        w = (1 - rate * 0.5 * share) * w - rate * u
        assert walk.lr[t] == pytest.approx(rate) and walk.shrink[t] == pytest.approx(rate * 0.5 * share)
        assert walk.measured[t] == pytest.approx((w**2).sum(1).mean())
        assert walk.cosine[t] == pytest.approx(cosine.mean())


@pytest.mark.parametrize("alpha, plain, renormalised", [(0.5, 0.02988, 0.01990), (0.1, 0.18184, 0.17225)])
def test_renormalised_steps(alpha, plain, renormalised):
    settings = {"alpha": alpha, "shape": 256, "steps": 600, "start": None, "chains": 128}
    walk = sandbox(renormalised=True, **settings)
    assert walk.balance[-1] == pytest.approx(renormalised, rel=0.005)
    assert walk.measured[20:].mean() == pytest.approx(renormalised, rel=0.015)
    assert np.abs(scores(walk)).mean() < 2
    assert sandbox(**settings).measured[20:].mean() == pytest.approx(plain, rel=0.015)


def test_renormalised_without_momentum_has_nothing_to_grow_by():
    walk = sandbox(renormalised=True, alpha=1.0, start=0.01, steps=800, shape=256, chains=64)
    assert walk.measured[-1] < 0.02 * 0.01 and walk.balance[-1] == 0
    assert walk.predicted[-1] == pytest.approx(0.01 * 0.995**1600)


def test_renormalised_from_zero_takes_the_plain_step_first():
    walk = sandbox(renormalised=True, alpha=0.1, start=0.0, steps=800, shape=256, chains=32)
    assert walk.measured[0] == pytest.approx(0.01**2)
    assert walk.measured[-1] == pytest.approx(0.17225, rel=0.05)


def test_gradients_of_a_scale_invariant_layer_surge():
    settings = {"lr": 0.1, "weight_decay": 0.05, "scale_invariant": True, "schedule": "cosine", "steps": 1000}
    settings |= {"start": None, "chains": 64}
    walk = sandbox("none", **settings)
    assert walk.start == pytest.approx(math.sqrt(balance(0.1, 0.005)))
    assert walk.gradient == pytest.approx(1 / np.sqrt(walk.predicted), rel=0.01)
    assert walk.gradient[-1] > 1.25 and walk.gradient[0] == pytest.approx(1, abs=0.01)
    flat = sandbox("none", law="corrected", **settings)
    assert flat.gradient == pytest.approx(1, abs=0.01)
    momentum = sandbox("none", **settings | {"alpha": 0.3, "shape": 128})
    assert momentum.measured == pytest.approx(momentum.predicted, rel=0.02)
    assert momentum.balance[0] == pytest.approx(math.sqrt(balance_with_momentum(0.1, 0.05, 0.3)), rel=1e-3)


def test_without_decay_it_grows_for_ever():
    walk = sandbox(weight_decay=0.0, alpha=0.2, steps=300, chains=64, shape=128)
    assert np.isinf(walk.balance).all() and walk.Lambda == 0
    assert walk.measured[-1] == pytest.approx(300 * 1e-4 * 9, rel=0.15)


def test_the_same_seed_walks_the_same_way():
    one, two, other = (sandbox(steps=20, chains=10, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.measured, two.measured) and not np.array_equal(one.measured, other.measured)
    assert isinstance(one, Walk) and np.array_equal(sandbox(**one.settings).measured, one.measured)


def test_settings_and_keywords_are_two_ways_to_say_the_same():
    settings = WalkSettings(normaliser="sign", steps=20, chains=10, seed=1)
    one = sandbox("sign", steps=20, chains=10, seed=1)
    assert np.array_equal(sandbox(settings=settings).measured, one.measured)
    assert np.array_equal(sandbox("sign", WalkSettings(steps=9), steps=20, chains=10, seed=1).measured, one.measured)
    assert list(one.settings) == [name for name in vars(settings) if name != "dtype"]
    with pytest.raises(ClipeduError, match="Did you mean 'vector'"):
        WalkSettings(normaliser="vectr")


def test_the_rates_follow_schedule_and_law():
    lr, shrink = WalkSettings(law="corrected", schedule="cosine", warmup=2, steps=5, lr=0.2, weight_decay=0.5).rates()
    shares = [0.5, 1.0, *((1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3))]
    assert lr == pytest.approx([0.2 * share for share in shares])
    assert shrink == pytest.approx([0.1 * share**2 for share in shares])


def test_records_hold_the_first_and_the_last_step():
    walk = sandbox(steps=1000, chains=2, records=11)
    assert walk.step[0] == 1 and walk.step[-1] == 1000 and len(walk.step) == 11
    frame = walk.frame()
    assert list(frame.columns)[:5] == ["step", "lr", "shrink", "measured", "error"] and len(frame) == 11
    assert list(sandbox(steps=3, chains=2).step) == [1, 2, 3]


def test_how_many_chains():
    assert sandbox(steps=2).settings["chains"] == 1024
    assert sandbox("polar", steps=2, shape=(8, 16)).settings["chains"] == 256


@pytest.mark.parametrize(
    "arguments, word",
    [
        ({"normaliser": "vectr"}, "vector"),
        ({"law": "corected"}, "corrected"),
        ({"schedule": "cosin"}, "cosine"),
        ({"alpha": 0.0}, "alpha"),
        ({"lr": 0.0}, "lr"),
        ({"steps": 0}, "steps"),
        ({"start": -1.0}, "start"),
        ({"weight_decay": 0.0, "start": None}, "start"),
        ({"weight_decay": 200.0}, "shrink"),
        ({"normaliser": "polar"}, "shape"),
        ({"scale_invariant": True, "start": 1.0}, "none"),
        ({"normaliser": "none", "scale_invariant": True}, "start"),
        ({"chains": 1}, "chains"),
        ({"shape": 1}, "shape"),
        ({"weight_decy": 1}, "unknown setting of a walk 'weight_decy'. Did you mean 'weight_decay'?"),
    ],
)
def test_what_cannot_walk_is_refused(arguments, word):
    with pytest.raises(ClipeduError, match=word):
        sandbox(**{"steps": 2} | arguments)


def test_every_setting_is_in_the_signature_with_its_default():
    named = inspect.signature(sandbox).parameters
    assert list(named)[:2] == ["normaliser", "settings"] and named["lr"].default == WalkSettings().lr
    assert {*named} == {*WalkSettings.__dataclass_fields__, "settings"}
