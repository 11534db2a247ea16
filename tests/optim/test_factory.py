"""The optimizers do what their update rules say, typed out here in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim import OPTIMIZERS, build_optimizer
from clipedu.optim.decay_laws import DECAY_LAWS
from clipedu.optim.param_groups import HEADS
from clipedu.utils.errors import ClipeduError
from tests.helpers.processes import assert_light

LR, DECAY, STEPS = 0.05, 0.3, 6


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))


def gradients() -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(4)
    return [(torch.randn(3, 2, generator=g, dtype=torch.float64), torch.randn(3, generator=g, dtype=torch.float64))
            for _ in range(STEPS)]  # fmt: skip


def stepped(name: str, *, lr: float = LR, weight_decay: float = DECAY, **options) -> list[Tensor]:
    model = Small()
    optimizer = build_optimizer(model, name, lr=lr, weight_decay=weight_decay, **options)
    for grad_w, grad_b in gradients():
        model.w.grad, model.b.grad = grad_w.clone(), grad_b.clone()
        optimizer.step()
    return [model.w.detach(), model.b.detach()]


def sgd(w, grads, decay, momentum=0.9, nesterov=True):
    velocity = None
    for g in grads:
        g = g + decay * w
        velocity = g if velocity is None else momentum * velocity + g
        w = w - LR * (g + momentum * velocity if nesterov else velocity)
    return w


def adam(w, grads, coupled=0.0, decoupled=0.0, b1=0.9, b2=0.999, eps=1e-8):
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        g = g + coupled * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - LR * decoupled * w  # shrink first, then step
        w = w - LR * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
    return w


RULES = {
    "sgd": lambda w, grads, decay: sgd(w, grads, decay),
    "adam": lambda w, grads, decay: adam(w, grads, coupled=decay),
    "adamw": lambda w, grads, decay: adam(w, grads, decoupled=decay),
}


@pytest.mark.parametrize("name", RULES)
def test_update_rule(name):
    start, grads = Small(), gradients()
    w, b = stepped(name)
    torch.testing.assert_close(w, RULES[name](start.w.detach(), [g for g, _ in grads], DECAY), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(b, RULES[name](start.b.detach(), [g for _, g in grads], 0.0), rtol=1e-10, atol=1e-12)


def test_options_go_over_the_defaults():
    start, grads = Small(), [g for g, _ in gradients()]
    w, _ = stepped("sgd", momentum=0.5, nesterov=False)
    torch.testing.assert_close(w, sgd(start.w.detach(), grads, DECAY, 0.5, False), rtol=1e-10, atol=1e-12)
    w, _ = stepped("adamw", betas=[0.8, 0.9], eps=1e-3)  # a list, as it comes back from JSON
    expected = adam(start.w.detach(), grads, decoupled=DECAY, b1=0.8, b2=0.9, eps=1e-3)
    torch.testing.assert_close(w, expected, rtol=1e-10, atol=1e-12)


def test_adam_is_adamw_without_decay_and_not_with_it():
    for a, b in zip(stepped("adam", weight_decay=0.0), stepped("adamw", weight_decay=0.0), strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(stepped("adam")[0], stepped("adamw")[0])


def test_coupled_decay_moves_by_lr_whatever_its_size():
    """What the course's "Adam" column ran into: without a gradient, Adam's L2 takes a step of lr per weight."""

    def first_step(name: str, decay: float) -> Tensor:
        model = Small()
        before = model.w.detach().clone()
        optimizer = build_optimizer(model, name, lr=1e-3, weight_decay=decay)
        model.w.grad, model.b.grad = torch.zeros_like(model.w), torch.zeros_like(model.b)
        optimizer.step()
        return (model.w.detach() - before) / before

    start = Small().w.detach()
    for decay in (0.02, 2.0):
        torch.testing.assert_close(first_step("adam", decay), -1e-3 / start.abs(), rtol=1e-4, atol=0)
        torch.testing.assert_close(first_step("adamw", decay), torch.full_like(start, -1e-3 * decay), rtol=1e-9, atol=0)


def test_a_name_that_is_not_there():
    with pytest.raises(ClipeduError, match="unknown optimizer 'adamv'. Did you mean 'adam'.*Allowed: .*sgd"):
        build_optimizer(Small(), "adamv", lr=0.1)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": "fast"},
        {"weight_decay": -0.1},
        {"weight_decay": float("inf")},
        {"beta": 3},
    ],
)
def test_what_an_optimizer_does_not_take(name, wrong):
    with pytest.raises(ClipeduError, match=f"optimizer '{name}' does not take .*{next(iter(wrong))}=") as caught:
        build_optimizer(Small(), name, **{"lr": 0.1, **wrong})
    assert "\n" not in str(caught.value)


def test_wrong_values_of_options():
    with pytest.raises(ClipeduError, match="betas="):
        build_optimizer(Small(), "adamw", lr=0.1, betas=(1.5, 0.9))
    with pytest.raises(ClipeduError, match="momentum=0"):
        build_optimizer(Small(), "sgd", lr=0.1, momentum=0)  # Nesterov's needs momentum


def test_nothing_to_train():
    with pytest.raises(ClipeduError, match="nothing to train: no parameter of this Small requires a gradient"):
        build_optimizer(Small().requires_grad_(False), "sgd", lr=0.1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_entry_builds_steps_and_keeps_plain_state(name, tmp_path):
    model = Small().float()
    optimizer = build_optimizer(model, name, lr=0.01, weight_decay=0.1)
    model.w.grad, model.b.grad = torch.ones_like(model.w), torch.ones_like(model.b)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    again = build_optimizer(model, name, lr=0.5)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.param_groups[0]["lr"] == 0.01 and len(OPTIMIZERS[name].description) > 15


# -- decoupled decay, its laws, and the heads

DECOUPLED = [name for name, entry in OPTIMIZERS.items() if "decay_law" in entry.defaults]


class Dual(nn.Module):
    """Named as a dual encoder is."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name in ("image_encoder", *HEADS):
            setattr(self, name, nn.Linear(4, 3, dtype=torch.float64))
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64)


def take(model: nn.Module, optimizer, steps: int, lrs=None, seed: int = 6) -> None:
    """Steps with the same made-up gradients for every optimizer; the learning rate is that of `lrs`."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lrs[i] if lrs else group["lr"]
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        optimizer.step()


def groups_of(optimizer) -> dict[str, list[str]]:
    return {group["name"]: group["param_names"] for group in optimizer.param_groups}


def test_which_names_are_decoupled():
    assert set(OPTIMIZERS) - set(DECOUPLED) == {
        *("sgd", "adam", "novograd", "radam", "adagrad", "rmsprop", "adamax", "lamb"),
        "scionc",  # has a law of its own
    }
    corrected = {name for name in DECOUPLED if OPTIMIZERS[name].defaults["decay_law"] == "corrected"}
    assert corrected == {"sgdc", "adamc", "lionc", "muonc"}
    for name in corrected:  # the same but for the law
        plain = OPTIMIZERS[name[:-1] if name == "muonc" or name == "lionc" else name[:-1] + "w"]
        assert plain.build is OPTIMIZERS[name].build
        assert plain.defaults | {"decay_law": "corrected"} == OPTIMIZERS[name].defaults


@pytest.mark.parametrize("name", [n for n in DECOUPLED if n not in ("adamp", "adopt")])
def test_decoupled_decay_shrinks_by_lr_times_lambda_whatever_else(name):
    """Without a gradient. ADOPT's first step only looks; AdamP decays scale-free weights less."""
    model = Small()
    before = model.w.detach().clone()
    optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5)
    model.w.grad, model.b.grad = torch.zeros_like(model.w), torch.zeros_like(model.b)
    optimizer.step()
    torch.testing.assert_close(model.w.detach(), 0.95 * before, rtol=1e-12, atol=1e-12)
    assert torch.equal(model.b.detach(), Small().b.detach())


def test_only_weights_that_are_not_heads_are_corrected():
    model = Dual()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, "adamc", lr=0.1, weight_decay=0.5)
    assert groups_of(optimizer) == {
        "decayed": ["image_encoder.weight"],
        "head": ["image_projection.weight", "text_projection.weight"],
        "not decayed": ["image_encoder.bias", "image_projection.bias", "text_projection.bias"],
    }
    undecayed = build_optimizer(model, "adamc", lr=0.1, weight_decay=0.0)
    assert groups_of(undecayed) == groups_of(optimizer)  # so that either's state can be loaded into the other
    for group in optimizer.param_groups:
        group["lr"] = 0.025
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    shrink = {"image_encoder.weight": 0.025 * 0.125, **{f"{head}.weight": 0.025 * 0.5 for head in HEADS}}
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (1 - shrink.get(name, 0)), rtol=1e-13, atol=0)


def test_which_modules_are_heads_can_be_said():
    def decayed(**options):
        return groups_of(build_optimizer(Dual(), "adamc", lr=0.1, weight_decay=0.5, **options))

    assert decayed(heads=[])["decayed"] == [f"{name}.weight" for name in ("image_encoder", *HEADS)]
    assert "head" not in decayed(heads=())
    assert decayed(heads=["image_encoder"])["head"] == ["image_encoder.weight"]
    assert "decayed" not in decayed(heads=["image_encoder", *HEADS])
    with pytest.raises(ClipeduError, match=r"heads=\['classifier'\]: this Dual has no module 'classifier'"):
        decayed(heads=["classifier"])


def test_a_constant_law_leaves_all_as_it_was():
    optimizer = build_optimizer(Dual(), "adamw", lr=0.1, weight_decay=0.5)
    assert list(groups_of(optimizer)) == ["decayed", "not decayed"]
    assert not optimizer._optimizer_step_pre_hooks
    assert not any({"decay_law", "lr_max"} & set(group) for group in optimizer.param_groups)
    assert isinstance(optimizer, torch.optim.AdamW)


@pytest.mark.parametrize("name", DECOUPLED)
def test_any_decoupled_optimizer_follows_any_law(name):
    for law in DECAY_LAWS:
        model = Dual()
        peak = {} if law == "constant" else {"lr_max": 0.1}
        optimizer = build_optimizer(model, name, lr=0.01, weight_decay=0.5, decay_law=law, **peak)
        take(model, optimizer, 2, lrs=[0.1, 0.05])
        expected = {"constant": 0.5, "corrected": 0.25, "independent": 1.0}.get(law, pytest.approx(0.25, rel=0.03))
        assert optimizer.param_groups[0]["weight_decay"] == expected, law


def test_a_law_needs_decoupled_decay():
    with pytest.raises(ClipeduError, match="decay_law='corrected': 'adam' has no decoupled weight decay.*adamw, sgdw"):
        build_optimizer(Small(), "adam", lr=0.1, decay_law="corrected")
    with pytest.raises(ClipeduError, match="unknown decay law 'exact'"):
        build_optimizer(Small(), "adamw", lr=0.1, decay_law="exact")
    with pytest.raises(ClipeduError, match="lr_max=-1"):
        build_optimizer(Small(), "adamc", lr=0.1, lr_max=-1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_peak_and_heads_are_refused_where_lambda_is_constant(name):
    """They would be ignored."""
    constant = name not in ("sgdc", "adamc", "lionc", "muonc")
    if constant:
        with pytest.raises(ClipeduError, match=rf"lr_max=0.1 has no effect on '{name}' here.*decay_law='corrected'"):
            build_optimizer(Dual(), name, lr=0.1, lr_max=0.1)
    if constant and name not in ("scionc", "muon"):
        with pytest.raises(ClipeduError, match=rf"heads=\[\] has no effect on '{name}' here"):
            build_optimizer(Dual(), name, lr=0.1, heads=())
    if "decay_law" in OPTIMIZERS[name].defaults:
        with pytest.raises(ClipeduError, match="lr_max=0.1 has no effect"):
            build_optimizer(Dual(), name, lr=0.1, lr_max=0.1, decay_law="constant")


def test_scions_heads_are_those_of_the_laws():
    def heads(name, **options):
        groups = build_optimizer(Dual(), name, lr=0.1, weight_decay=0.5, **options).param_groups
        return [g["param_names"] for g in groups if g["weight_decay"] > 0 and not g["corrected"]], [
            g["param_names"] for g in groups if g.get("decay_law") == "constant"
        ]

    both, first = [[f"{head}.weight" for head in HEADS]], [["image_encoder.weight"]]
    assert heads("scionc") == (both, [])
    assert heads("scionc", heads=["image_encoder"]) == (first, [])
    assert heads("scionc", heads=()) == ([], [])
    assert heads("scion", decay_law="corrected") == (both, both)
    assert heads("scion", decay_law="corrected", heads=["image_encoder"]) == (first, first)
    with pytest.raises(ClipeduError, match="has no module 'classifier'"):
        heads("scionc", heads=["classifier"])


@pytest.mark.parametrize("name", ["adam", "adamw", "adamc", "lion", "lionc", "muon", "muonc", "adopt", "adabelief"])
@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_the_scale_of_the_loss_does_not_matter(name, scale):
    """Without coupled decay, and but for an epsilon or two: Muon's is in bfloat16."""
    options = {"eps": 1e-30} if "adam" in name else {}
    weights = []
    for factor in (1.0, scale):
        model, generator = Dual().float(), torch.Generator().manual_seed(2)
        decay = 0.0 if name == "adam" else 0.5
        optimizer = build_optimizer(model, name, lr=0.05, weight_decay=decay, **options)
        for _ in range(5):
            for p in model.parameters():
                p.grad = factor * torch.randn(p.shape, generator=generator)
            optimizer.step()
        weights.append([p.detach() for p in model.parameters() if p.ndim == 2])
    for a, b, start in zip(*weights, [p for p in Dual().float().parameters() if p.ndim == 2], strict=True):
        digits = 5e-3 if "muon" in name else 1e-4
        torch.testing.assert_close(a, b, rtol=digits, atol=digits)
        assert (a - start).abs().max() > 0.05


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_is_resumed_goes_on_the_same(name, tmp_path):
    """In float32, as models are: torch's NAdam keeps a number in float32 that it loads as float64 into a float64 model."""
    lrs = [0.01, 0.02, 0.015, 0.01, 0.005]
    whole = Dual().float()
    optimizer = build_optimizer(whole, name, lr=0.02, weight_decay=0.3)
    take(whole, optimizer, 3, lrs)
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    take(whole, optimizer, 2, lrs[3:], seed=8)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = Dual().float()
    again.load_state_dict(state["model"])
    optimizer = build_optimizer(again, name, lr=0.001, weight_decay=0.1)
    optimizer.load_state_dict(state["optimizer"])
    take(again, optimizer, 2, lrs[3:], seed=8)
    for a, b, start in zip(again.parameters(), whole.parameters(), Dual().float().parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, start) and bool(torch.isfinite(a).all())


def test_timm_is_imported_when_one_of_its_names_is_built():
    assert_light("clipedu.optim", ("timm",))


@pytest.mark.parametrize("option", [{"norm": "sign"}, {"corrected": False}])
def test_what_scions_groups_say_themselves_is_not_ignored_silently(option):
    with pytest.raises(ClipeduError, match=f"{next(iter(option))}=.* cannot be given to 'scion' here"):
        build_optimizer(Small(), "scion", lr=0.1, **option)
