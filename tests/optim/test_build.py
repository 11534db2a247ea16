"""The optimizers do what their update rules say, typed out here in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim import OPTIMIZERS, build_optimizer
from clipedu.registry import ClipeduError

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
