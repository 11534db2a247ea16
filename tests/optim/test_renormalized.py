"""A renormalised step: against a table of weights after three steps, and by its laws. With it SGDW, from the same table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim import build_optimizer
from clipedu.optim.renormalized import renormalize


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))


def take_one(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A step with the same made-up gradients for every optimizer."""
    generator = torch.Generator().manual_seed(6)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    optimizer.step()


TABLE = {
    ("sgdw", "nesterov"): [0.89685, -1.81729375, 0.41830390625, 2.75199921875],
    ("adamw-renormalized", None): [0.776018643715, -1.72911973171, 0.335727084063, 2.61436154964],
}


@pytest.mark.parametrize(("name", "off"), TABLE)
def test_three_steps_against_the_table(name, off):
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([[1, -2], [0.5, 3]], dtype=torch.float64))
    optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5, **({off: False} if off else {}))
    grads = [[0.1, -0.2, 0.3, 0.05], [0.2, 0.1, -0.1, 0.05], [-0.3, 0.05, 0.2, -0.1]]
    for lr, grad in zip((0.1, 0.05, 0.0125), grads, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        model.w.grad = torch.tensor(grad, dtype=torch.float64).view(2, 2)
        optimizer.step()
    expected = torch.tensor(TABLE[name, off], dtype=torch.float64).view(2, 2)
    torch.testing.assert_close(model.w.detach(), expected, rtol=1e-10, atol=0)


def renormalized_and_plain(decay: float) -> tuple[Tensor, Tensor, Tensor, Small]:
    """Weights before, after plain SGDW without momentum, and after the renormalised one."""
    options = {"lr": 0.1, "weight_decay": decay, "momentum": 0.0, "nesterov": False}
    plain, model = Small(), Small()
    optimizer = build_optimizer(model, "sgdw", **options)
    renormalize(optimizer)
    take_one(plain, build_optimizer(plain, "sgdw", **options))
    take_one(model, optimizer)
    torch.testing.assert_close(model.b, plain.b, rtol=0, atol=0)  # a bias is left alone
    return Small().w.detach(), plain.w.detach(), model.w.detach(), model


def test_renormalised_length_is_that_of_the_step_along_the_weight():
    old, plain, new, model = renormalized_and_plain(0.5)
    u_along = (model.w.grad * old).sum() / old.norm()
    torch.testing.assert_close(new.norm(), (1 - 0.1 * 0.5) * old.norm() - 0.1 * u_along, rtol=1e-13, atol=0)
    torch.testing.assert_close(new / new.norm(), plain / plain.norm(), rtol=1e-13, atol=0)
    assert new.norm() < plain.norm()


def test_a_step_that_turns_the_weight_round_is_left_alone():
    old, plain, new, _ = renormalized_and_plain(30.0)  # 1 - lr * weight_decay = -2
    assert (old * plain).sum() < 0
    assert torch.equal(new, plain)


def test_a_weight_that_is_zero_starts_to_move():
    model = Small()
    model.w.data.zero_()
    take_one(model, build_optimizer(model, "adamw-renormalized", lr=0.1))
    assert bool(torch.isfinite(model.w).all()) and model.w.abs().max() > 0
