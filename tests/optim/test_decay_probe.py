"""What a probe finds of optimizers written out here, one for each thing that can happen to decay."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from clipedu.optim.decay_probe import StepProbe, measure
from clipedu.optim.twins import step_alone

LR, DECAY = 0.1, 0.5
RATES = {"lr": LR, "weight_decay": DECAY}


class Written(torch.optim.Optimizer):
    """Adam-like, with momentum; a subclass says where the decay goes."""

    def __init__(self, params, **options):
        super().__init__(params, RATES | options)
        self.called = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.called += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state |= {"step": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
                    state["step"] += 1
                    self.move(p, p.grad.clone(), state, group["lr"], group["weight_decay"], group)

    def update(self, g, state):
        state["m"].lerp_(g, 0.1)
        state["v"].lerp_(g * g, 0.01)
        return state["m"] / (state["v"].sqrt() + 1e-8)


class ByLr(Written):
    def move(self, p, g, state, lr, decay, group):
        p.mul_(1 - lr * decay).sub_(self.update(g, state), alpha=lr)


class WithoutLr(Written):
    def move(self, p, g, state, lr, decay, group):
        p.mul_(1 - decay).sub_(self.update(g, state), alpha=lr)


class Last(Written):
    def move(self, p, g, state, lr, decay, group):
        p.sub_(self.update(g, state), alpha=lr).mul_(1 - lr * decay)


class WarmUp(Written):
    """The rate in use is nowhere in the groups."""

    def move(self, p, g, state, lr, decay, group):
        lr = lr * min(1, state["step"] / 4)
        p.mul_(1 - lr * decay).sub_(self.update(g, state), alpha=lr)


class Ratio(Written):
    """A tenth for what is orthogonal to its gradient, as AdamP."""

    def move(self, p, g, state, lr, decay, group):
        free = abs(torch.cosine_similarity(p.flatten(), g.flatten(), 0)) < 1e-6
        p.mul_(1 - lr * decay * (0.1 if free else 1)).sub_(self.update(g, state), alpha=lr)


class L2(Written):
    def move(self, p, g, state, lr, decay, group):
        p.sub_(self.update(g + decay * p, state), alpha=lr)


class Ascent(Written):
    """L2 where the gradient is climbed."""

    def move(self, p, g, state, lr, decay, group):
        p.sub_(self.update(decay * p - g, state), alpha=lr)


class Signs(Written):
    """L2 that changes few signs, or none."""

    def move(self, p, g, state, lr, decay, group):
        state["m"].lerp_(g + decay * p, 0.1)
        p.sub_(state["m"].sign(), alpha=lr)


class Momentum(Written):
    """SGD with L2: along the weight, but it goes on in the buffer."""

    def move(self, p, g, state, lr, decay, group):
        p.sub_(state["m"].mul_(0.9).add_(g + decay * p), alpha=lr)


class InMomentum(Written):
    """As NovoGrad: neither."""

    def move(self, p, g, state, lr, decay, group):
        p.sub_(state["m"].mul_(0.9).add_(g / g.norm() + decay * p), alpha=lr)


class Averaged(Written):
    """The weight follows an iterate that decays."""

    def move(self, p, g, state, lr, decay, group):
        z = state.setdefault("z", p.clone())
        z.sub_(self.update(g, state) + decay * p, alpha=lr)
        p.lerp_(z, 0.1)


class Cautious(Written):
    """Only where it agrees with the step."""

    def move(self, p, g, state, lr, decay, group):
        u = self.update(g, state)
        p.sub_(decay * p * (u * p > 0), alpha=lr).sub_(u, alpha=lr)


class NeedsMore(Written):
    def move(self, p, g, state, lr, decay, group):
        if torch.is_grad_enabled() or not hasattr(p, "scale"):  # an attribute of the real weights alone
            raise RuntimeError("not on copies")
        p.mul_(1 - lr * decay)


class Noise(Written):
    def move(self, p, g, state, lr, decay, group):
        factor = 1 + 0.5 * torch.rand(()) + random.random() + np.random.rand()
        p.mul_(1 - lr * decay * factor).sub_(self.update(g, state) + torch.randn_like(p), alpha=lr)


def weights(dtype=torch.float64) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((6, 5), (7,), (2, 3, 4))]


def give(parameters, seed: int) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)


def watch(optimizer, parameters, steps: int = 3) -> list[list]:
    """What is found of each weight, step by step."""
    probe, found = StepProbe(optimizer, parameters), []
    for seed in range(steps):
        give(parameters, seed)
        probe.before()
        optimizer.step()
        decays = probe.after()
        found.append([decays[p] for p in parameters])
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("kind", "shares"),
    [(ByLr, [0.05] * 3), (WithoutLr, [0.5] * 3), (Last, [0.05] * 3), (WarmUp, [0.0125, 0.025, 0.0375]), (Ratio, [0.05] * 3)],
)  # fmt: skip
def test_the_share_that_is_taken(kind, shares, dtype):
    parameters = weights(dtype)
    for found, share in zip(watch(kind(parameters), parameters), shares, strict=True):
        assert {decay.law for decay in found} == {"decoupled"}
        assert [decay.shrink for decay in found] == pytest.approx([share] * 3, rel=1e-5)


@pytest.mark.parametrize("kind", [L2, Signs, Momentum])
def test_coupled_decay_takes_nothing_apart(kind):
    parameters = weights()
    for found in watch(kind(parameters), parameters):
        assert {tuple(decay) for decay in found} == {("coupled", 0.0)}


def test_coupled_decay_where_gradients_are_climbed():
    parameters = weights()
    found = watch(Ascent(parameters, maximize=True), parameters)
    assert {decay.law for step in found for decay in step} == {"coupled"}


@pytest.mark.parametrize("kind", [InMomentum, Averaged, Cautious, NeedsMore])
def test_what_cannot_be_told_is_not_known(kind):
    parameters = weights()
    for p in parameters:
        p.scale = 1.0
    for first, *_ in watch(kind(parameters), parameters):  # of few numbers a cautious decay may spare all
        assert first.law == "not known" and math.isnan(first.shrink)


def test_a_weight_that_is_free_of_its_scale_has_a_share_of_its_own():
    parameters = weights()
    optimizer = Ratio(parameters)
    give(parameters, 0)
    first = parameters[0]
    first.grad -= (first.grad * first).sum() / (first * first).sum() * first.detach()
    probe = StepProbe(optimizer, parameters)
    probe.before()
    optimizer.step()
    found = probe.after()
    assert [found[p].shrink for p in parameters] == pytest.approx([0.005, 0.05, 0.05])


@pytest.mark.parametrize(("by_name", "share"), [(True, 0.0005), (False, 0.005)])
def test_timms_adamp_by_name_and_by_class(by_name, share):
    """By name wd_ratio is 0.01, in the class and the paper 0.1."""
    optim = pytest.importorskip("timm.optim")
    w = nn.Parameter(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))
    g = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    w.grad = g - (g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True) * w.detach()  # as under a normalisation
    optimizer = (optim.get_optimizer_class("adamp") if by_name else optim.AdamP)([w], **RATES)
    probe = StepProbe(optimizer, [w])
    for expected in (share, 0.05):
        probe.before()
        optimizer.step()
        decay = probe.after()[w]
        assert decay.law == "decoupled" and decay.shrink == pytest.approx(expected, rel=1e-3)
        give([w], 0)  # not orthogonal


def test_optimizers_that_are_known_measure_as_known():
    for make, law, share in (
        (lambda p: torch.optim.AdamW(p, **RATES), "decoupled", 0.05),
        (lambda p: torch.optim.Adam(p, **RATES), "coupled", 0.0),
        (lambda p: torch.optim.SGD(p, momentum=0.9, **RATES), "coupled", 0.0),
        (lambda p: torch.optim.RMSprop(p, **RATES), "coupled", 0.0),
        (lambda p: torch.optim.RAdam(p, decoupled_weight_decay=True, **RATES), "decoupled", 0.05),
    ):
        parameters = weights()
        for found in watch(make(parameters), parameters):
            assert {decay.law for decay in found} == {law}
            assert [decay.shrink for decay in found] == pytest.approx([share] * 3)


@pytest.mark.parametrize("kind", [ByLr, L2, Averaged, Noise])
def test_a_run_that_is_watched_is_the_run_that_is_not(kind):
    """Weights, state, generators, options: bit for bit; and the real optimizer steps once a step."""

    def run(watched: bool):
        parameters = weights(torch.float32)
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        optimizer = kind(parameters)
        seen = []
        optimizer.register_step_pre_hook(lambda *_: seen.append("pre"))
        optimizer.register_step_post_hook(lambda *_: seen.append("post"))
        probe = StepProbe(optimizer, parameters)
        for seed in range(3):
            give(parameters, seed)
            if watched:
                probe.before()
            optimizer.step()
            if watched:
                probe.after()
        rest = [torch.rand(()).item(), random.random(), np.random.rand()]
        return [p.tolist() for p in parameters], str(optimizer.state_dict()), rest, seen, optimizer.called

    assert run(True) == run(False)


def test_hooks_of_all_optimizers_do_not_run_for_copies():
    seen = []
    hook = register_optimizer_step_pre_hook(lambda *_: seen.append(1))
    try:
        parameters = weights()
        watch(ByLr(parameters), parameters)
    finally:
        hook.remove()
    assert len(seen) == 3


def test_the_same_random_numbers_as_the_real_step():
    parameters = weights()
    found = watch(Noise(parameters), parameters)
    assert {decay.law for step in found for decay in step} == {"decoupled"}


def test_no_decay_no_gradient_and_no_key():
    class Plain(torch.optim.Optimizer):
        shrinks = 0.0

        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                p.mul_(1 - self.shrinks).sub_(p.grad, alpha=0.1)

    parameters = weights()
    assert {decay for step in watch(Plain(parameters, {"lr": 0.1}), parameters) for decay in step} == {("none", 0.0)}
    hidden = Plain(parameters, {"lr": 0.1})
    hidden.shrinks = 0.1
    assert {decay.law for step in watch(hidden, parameters) for decay in step} == {"not known"}
    optimizer = ByLr(parameters, weight_decay=0.0)
    probe = StepProbe(optimizer, parameters)
    probe.before()
    optimizer.step()
    assert probe.after() == {}
    optimizer = ByLr(parameters)
    parameters[0].grad = None
    probe = StepProbe(optimizer, parameters)
    probe.before()
    optimizer.step()
    assert set(probe.after()) == set(parameters[1:])


def test_a_closure_that_makes_other_gradients_is_noticed():
    class Closed(ByLr):
        def step(self, closure=None):
            if closure is not None:
                closure()
            super().step()

    parameters = weights()
    optimizer = Closed(parameters)
    probe = StepProbe(optimizer, parameters)
    give(parameters, 0)
    probe.before()
    optimizer.step(lambda: give(parameters, 1))
    assert {decay.law for decay in probe.after().values()} == {"not known"}


def test_what_is_settled_costs_nothing_and_one_step_once_decoupled(monkeypatch):
    from clipedu.optim import decay_probe

    taken = []
    monkeypatch.setattr(decay_probe, "step_alone", lambda twin: (taken.append(1), step_alone(twin)))
    for kind, costs in ((ByLr, [2, 1, 1]), (L2, [2, 0, 0]), (Averaged, [2, 0, 0])):
        parameters = weights()
        optimizer = kind(parameters)
        probe, seen = StepProbe(optimizer, parameters), []
        for seed in range(3):
            give(parameters, seed)
            taken.clear()
            probe.before()
            optimizer.step()
            probe.after()
            seen.append(len(taken))
        assert seen == costs, kind


def test_a_gradient_that_is_not_finite_settles_nothing():
    parameters = weights()
    optimizer = ByLr(parameters)
    probe = StepProbe(optimizer, parameters)
    give(parameters, 0)
    saved = [p.detach().clone() for p in parameters]
    parameters[0].grad[0, 0] = math.nan
    probe.before()
    optimizer.step()
    found = probe.after()
    assert [found[p].law for p in parameters] == ["not known", "decoupled", "decoupled"]
    with torch.no_grad():
        for p, w in zip(parameters, saved, strict=True):
            p.copy_(w)
    optimizer.state.clear()
    give(parameters, 1)
    probe.before()
    optimizer.step()
    found = probe.after()
    assert [found[p].law for p in parameters] == ["decoupled"] * 3


def test_measure_groups_step_by_step():
    parameters = weights()
    optimizer = WarmUp([{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}])
    first, second = measure(optimizer, steps=2)
    assert [decay.law for decay in first] == ["decoupled"] * 2 and second == []
    assert [decay.shrink for decay in first] == pytest.approx([0.0125, 0.025])
    assert optimizer.state == {} and all(p.grad is None for p in parameters) and optimizer.called == 0
    broken = NeedsMore(parameters)
    assert [[decay.law for decay in group] for group in measure(broken)] == [["not known"]]


OTHERS = {  # package: optimizer, its options, and the share in each step (a law where there is none)
    "optimi": [
        ("AdamW", {"decouple_lr": True}, [0.5] * 3),
        ("AdamW", {}, [0.05] * 3),
        ("Adam", {}, "coupled"),
    ],
    "schedulefree": [("AdamWScheduleFree", {}, "not known"), ("SGDScheduleFree", {}, "coupled")],
    "heavyball": [("AdamW", {"warmup_steps": 10}, [0.05 * step / 11 for step in (1, 2, 3)])],
    "pytorch_optimizer": [
        ("AdEMAMix", {}, "coupled"),
        ("AdEMAMix", {"weight_decouple": True}, [0.05] * 3),
        ("ADOPT", {}, "coupled"),
        ("Lion", {"weight_decouple": False}, "coupled"),
        ("Lion", {}, [0.05] * 3),
    ],
}


@pytest.mark.parametrize("package", OTHERS)
def test_other_peoples_optimizers(package):
    """Where they are installed."""
    module = pytest.importorskip(package)
    for name, options, expected in OTHERS[package]:
        parameters = weights(torch.float32)
        optimizer = getattr(module, name)(parameters, **RATES, **options)
        getattr(optimizer, "train", lambda: None)()
        for step, found in enumerate(watch(optimizer, parameters)):
            if isinstance(expected, str):
                assert {decay.law for decay in found} == {expected}, (name, options)
            else:
                assert [decay.shrink for decay in found] == pytest.approx([expected[step]] * 3, rel=1e-4), (
                    name,
                    options,
                )
