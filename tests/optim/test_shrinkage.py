"""The shrink is what decay takes away: the step of an optimizer with decay, less that of a twin without it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from clipedu.optim import OPTIMIZERS, build_optimizer, follow
from clipedu.optim.shrinkage import LAWS, decay_kind, known_class, newest_weight, shrink, way_of_decay

LR, DECAY = 0.03, 0.7
COUPLED = {"sgd", "adam", "novograd", "radam", "adagrad", "rmsprop", "adamax", "lamb"}
DECOUPLED = [name for name in OPTIMIZERS if name not in COUPLED]
# its step is scaled after the decay: the difference of two steps is not the shrink (`clipedu.optim.renormalized`)
# and adamp's depends on the weight's gradient, so it is measured (`clipedu.optim.decay_probe`)
EXACT = [name for name in DECOUPLED if name not in ("adamw-renormalized", "adamp")]
SHRINKS_LAST = ("laprop",)


def model_at(weights: dict[str, torch.Tensor] | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 20)).double()  # large enough for Muon
    if weights is not None:
        model.load_state_dict(weights)
    return model


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def twins(make, steps: int = 3):
    """Two models and optimizers at the same weights in the same state, gradients ready for a step; only the first decays."""
    one = model_at()
    optimizer = make(one)
    for seed in range(steps):
        give_gradients(one, seed)
        optimizer.step()
    other = model_at(weights_of(one))
    twin = make(other)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        twin.state[q] = copy.deepcopy(optimizer.state[p])
    for group, same in zip(twin.param_groups, optimizer.param_groups, strict=True):
        group.update({key: copy.deepcopy(same[key]) for key in same if key == "step"})  # Adan counts in its groups
        group["weight_decay"] = 0.0
        group.pop("weight_decay_max", None)  # a law would bring it back
        if "target" in group:
            group["target"] = None
    for model in (one, other):
        give_gradients(model, 99)
    return one, optimizer, other, twin


def taken(make, steps: int = 3, last: bool = False) -> dict[str, tuple[float, float]]:
    """For each tensor, what `shrink` says of the coming step, and how far that is from what the step takes of w.

    last: where an optimizer shrinks at the end of its step, it takes the share of what has moved already.
    """
    one, optimizer, other, twin = twins(make, steps)
    before, seen = weights_of(one), {}

    def ask(*_) -> None:
        names = {p: name for name, p in one.named_parameters()}
        for group in optimizer.param_groups:
            seen.update({names[p]: shrink(optimizer, group, p) for p in group["params"]})

    optimizer.register_step_pre_hook(ask)  # after the law's hook, which says the decay of this step
    optimizer.step()
    twin.step()
    result = {}
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        share_of = q if last else before[name]
        result[name] = seen[name], (p - q + seen[name] * share_of).abs().max().item()
    return result


@pytest.mark.parametrize("name", EXACT)
def test_a_step_with_decay_is_that_of_a_twin_without_it_less_the_shrink(name):
    def make(model):
        return build_optimizer(model, name, lr=LR, weight_decay=DECAY)

    result = taken(make, last=name in SHRINKS_LAST)
    assert len(result) == 4
    for tensor, (share, error) in result.items():
        assert error < 1e-12, tensor
        assert (share > 1e-3) == tensor.endswith("weight"), tensor  # biases are not decayed


@pytest.mark.parametrize("name", [name for name in EXACT if "decay_law" in OPTIMIZERS[name].defaults])
@pytest.mark.parametrize("law", ["corrected", "corrected-exact", "independent"])
def test_under_a_law_and_past_the_peak(name, law):
    def make(model):
        optimizer = build_optimizer(model, name, lr=LR, weight_decay=DECAY, decay_law=law, heads=())
        for group in optimizer.param_groups:
            group["lr"] = LR / 3
        return optimizer

    expected = {"corrected": LR / 9 * DECAY, "corrected-exact": None, "independent": LR * DECAY}[law]
    for tensor, (share, error) in taken(make, last=name in SHRINKS_LAST).items():
        assert error < 1e-12, tensor
        if tensor.endswith("weight"):
            assert share == pytest.approx(expected or LR / 9 * DECAY, rel=1e-12 if expected else 0.02)


def timm_optimizer(name: str, **options):
    from timm.optim import get_optimizer_class

    build = get_optimizer_class(name)  # with the entry's own options
    return lambda model: build([{"params": list(model.parameters())}], lr=LR, weight_decay=DECAY, **options)


OF_TIMM = [  # not among them: lambw, whose step depends on the weight it has shrunk; kron and madgrad, which blur it
    ("adamwlegacy", {}), ("nadamw", {}), ("lion", {}), ("laprop", {}), ("rmsproptfw", {}), ("novogradw", {}),
    ("adoptw", {}), ("adanw", {}), ("adamc", {}), ("nadamc", {}), ("sgdc", {"momentum": 0.9}), ("adoptc", {}), ("lionc", {}),
    ("clionc", {}), ("lapropc", {}), ("rmsproptfc", {}), ("novogradc", {}), ("adafactorbvc", {}), ("adabelief", {}),
    ("adabelief", {"fixed_decay": True}), ("adafactorbv", {"unscaled_wd": True}), ("adafactorbvc", {"unscaled_wd": True}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), OF_TIMM, ids=lambda value: str(value))
def test_timms_own_optimizers(name, options):
    pytest.importorskip("timm")
    from timm.optim import list_optimizers

    if name not in list_optimizers():
        pytest.skip(f"this timm has no {name}")

    def make(model):
        optimizer = timm_optimizer(name, **options)(model)
        for group in optimizer.param_groups:
            group["lr"] = LR / 2
        return optimizer

    for tensor, (share, error) in taken(make, last=name.startswith(SHRINKS_LAST)).items():
        assert error < 1e-12 and share > 0, tensor


@pytest.mark.parametrize("name", sorted(COUPLED))
def test_coupled_decay_takes_nothing_apart_from_the_update(name):
    model = model_at()
    optimizer = build_optimizer(model, name, lr=LR, weight_decay=DECAY)
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == DECAY and shrink(optimizer, group, group["params"][0]) == 0


@pytest.mark.parametrize("name", ["adopt", "rmsproptf", "novograd", "lamb", "lars", "nadamlegacy", "radamlegacy"])
def test_coupled_decay_of_timm(name):
    optimizer = timm_optimizer(name)(model_at())
    group = optimizer.param_groups[0]
    optimizer.state[group["params"][0]]["step"] = 1  # Adopt's first step is another matter
    assert group["weight_decay"] == DECAY and shrink(optimizer, group, group["params"][0]) == 0


@pytest.mark.parametrize("kind", [torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adam])
def test_torchs_flag_says_which(kind):
    for flag, expected in ((False, 0.0), (True, LR * DECAY)):
        optimizer = kind(model_at().parameters(), lr=LR, weight_decay=DECAY, decoupled_weight_decay=flag)
        group = optimizer.param_groups[0]
        assert shrink(optimizer, group, group["params"][0]) == pytest.approx(expected, rel=1e-15)


def test_adans_proximal_step_divides():
    """w' = (w - lr u) / (1 + lr lambda): with u = 0 the share taken is lr lambda / (1 + lr lambda)."""
    model = model_at()
    optimizer = timm_optimizer("adan")(model)
    assert optimizer.param_groups[0]["no_prox"] is False
    before = weights_of(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    share = shrink(optimizer, optimizer.param_groups[0], next(model.parameters()))
    optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), (1 - share) * before[name], rtol=1e-12, atol=0)


def test_adopt_moves_nothing_at_first():
    model = model_at()
    optimizer = build_optimizer(model, "adopt", lr=LR, weight_decay=DECAY)
    group = next(g for g in optimizer.param_groups if g["weight_decay"] > 0)
    before = weights_of(model)
    assert shrink(optimizer, group, group["params"][0]) == 0
    give_gradients(model, 0)
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert shrink(optimizer, group, group["params"][0]) == LR * DECAY


def test_the_peak_of_timms_correction_is_the_groups():
    model = model_at()
    optimizer = timm_optimizer("adamc")(model)
    group = optimizer.param_groups[0]
    group["lr"] = 0.01
    assert shrink(optimizer, group, group["params"][0]) == pytest.approx(0.01**2 / LR * DECAY, rel=1e-14)
    group["max_lr_snapshot"] = 0.02
    assert shrink(optimizer, group, group["params"][0]) == pytest.approx(0.01**2 / 0.02 * DECAY, rel=1e-14)
    group["corrected_weight_decay"] = False
    assert shrink(optimizer, group, group["params"][0]) == pytest.approx(0.01 * DECAY, rel=1e-14)


def test_an_lr_that_is_a_tensor_and_a_group_without_decay():
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=torch.tensor(0.25), weight_decay=0.5, capturable=True)
    result = shrink(optimizer, optimizer.param_groups[0], parameter)
    assert result == 0.125 and type(result) is float
    assert shrink(torch.optim.Rprop([parameter]), {"lr": 0.1}, parameter) == 0


class Own(torch.optim.Optimizer):
    def step(self, closure=None):
        pass


class Renamed(torch.optim.AdamW):
    """Has the step of its parent, so its decay is known."""


class Replaced(torch.optim.AdamW):
    def step(self, closure=None):
        return super().step(closure)


def test_which_optimizers_are_known():
    parameter = nn.Parameter(torch.ones(3))

    def told(kind, **options):
        optimizer = kind([parameter], **options)
        group = optimizer.param_groups[0]
        return known_class(optimizer), decay_kind(optimizer, group), shrink(optimizer, group, parameter)

    decay = {"lr": 0.5, "weight_decay": 0.25}
    assert told(torch.optim.AdamW, **decay) == told(Renamed, **decay) == ("decoupled", "decoupled", 0.125)
    assert told(torch.optim.AdamW, lr=0.5, weight_decay=0.0) == ("decoupled", "none", 0.0)
    assert told(torch.optim.SGD, **decay) == ("coupled", "coupled", 0.0)
    assert told(torch.optim.Rprop, lr=0.5) == ("none", "none", 0.0)
    for kind, options in ((Own, {"defaults": decay}), (Replaced, decay), (Own, {"defaults": {"lr": 0.5}})):
        known, law, share = told(kind, **options)
        assert known is None and law == "not known" and math.isnan(share)
    assert told(Own, defaults=decay | {"weight_decay": 0.0}) == (None, "none", 0.0)
    assert {told(torch.optim.AdamW, **decay)[1], "coupled", "none", "not known"} == set(LAWS)


def test_groups_of_torch_before_2_7_have_no_flag():
    """The class says it: AdamW decouples, Adam couples."""
    parameter = nn.Parameter(torch.ones(3))
    for kind, law in ((torch.optim.AdamW, "decoupled"), (torch.optim.Adam, "coupled"), (torch.optim.NAdam, "coupled")):
        optimizer = kind([parameter], lr=0.5, weight_decay=0.25)
        optimizer.param_groups[0].pop("decoupled_weight_decay", None)
        group = optimizer.param_groups[0]
        assert decay_kind(optimizer, group) == way_of_decay(optimizer, group) == law
        assert shrink(optimizer, group, parameter) == (0.125 if law == "decoupled" else 0)
        assert way_of_decay(optimizer, group | {"weight_decay": 0.0}) == law


def test_muon_decays_what_it_steps_like_adamw_at_that_rate():
    Muon = pytest.importorskip("timm.optim").Muon

    def make(model):
        groups = [{"params": [model[0].weight]}, {"params": [model[2].weight], "use_fallback": True}]
        rest = {"params": [model[0].bias, model[2].bias]}
        return Muon([*groups, rest], lr=LR, weight_decay=DECAY, fallback_lr_scale=0.25)

    shares = taken(make)
    assert all(error < 1e-12 for _, error in shares.values())
    assert [round(share / LR / DECAY, 12) for share, _ in shares.values()] == [1.0, 0.25, 0.25, 0.25]


def test_the_law_of_an_optimizer_that_follows_it_by_hand():
    parameter = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.AdamW([parameter], lr=0.2, weight_decay=0.5)
    follow(optimizer, "corrected")
    optimizer.param_groups[0]["lr"] = 0.1
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    share = shrink(optimizer, optimizer.param_groups[0], parameter)
    assert share == pytest.approx(0.1**2 / 0.2 * 0.5) and parameter[0].item() == pytest.approx(1 - share, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "options", "alpha"),
    [("adamw", {"betas": (0.8, 0.999)}, 0.2), ("sgdw", {"momentum": 0.7}, 0.3), ("lion", {}, 0.1), ("scion", {"alpha": 0.4}, 0.4),
     ("sgd", {"momentum": 0.0, "nesterov": False}, 1.0), ("rmsprop", {"alpha": 0.9}, 1.0), ("adagrad", {}, 1.0)],
)  # fmt: skip
def test_the_weight_of_the_newest_gradient(name, options, alpha):
    optimizer = build_optimizer(model_at(), name, lr=LR, **options)
    group = optimizer.param_groups[0]
    assert newest_weight(optimizer, group, group["params"][0]) == pytest.approx(alpha, rel=1e-12)


def test_timms_muon_has_momentum_for_matrices_and_betas_for_the_rest():
    model = model_at()
    optimizer = build_optimizer(model, "muon", lr=LR, momentum=0.6, betas=(0.8, 0.9))
    give_gradients(model, 0)
    optimizer.step()
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert newest_weight(optimizer, group, p) == pytest.approx(0.4 if p.ndim == 2 else 0.2, rel=1e-12)
