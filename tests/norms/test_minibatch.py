"""The contribution of a minibatch, against what the optimizers then do with it."""

import pytest
import torch
from torch import nn

from clipedu.norms.minibatch import active_numbers, contributed, minibatches
from clipedu.optim import build_optimizer


def stepped(name: str, gradients, **options):
    model = nn.Linear(3, 2, bias=False).double()
    optimizer = build_optimizer(model, name, lr=0.01, **options)
    before = model.weight.detach().clone()
    for g in gradients:
        model.weight.grad = g.clone()
        optimizer.step()
    return model.weight, optimizer, before


@pytest.mark.parametrize("name", ["sgd", "sgdw"])
def test_sgd_all_of_a_gradient_arrives_in_the_end(name):
    """One gradient, then zeros: what the weight has moved by when the momentum is spent is -lr q of the first step."""
    first = torch.randn(2, 3, dtype=torch.float64)
    weight, optimizer, _ = stepped(name, [first])
    q = contributed(optimizer, optimizer.param_groups[0], weight)
    weight, _, before = stepped(name, [first] + [torch.zeros_like(first)] * 400)
    torch.testing.assert_close(weight.detach() - before, -0.01 * q, rtol=1e-9, atol=1e-12)


def test_adam_of_one_gradient_is_its_sign_and_later_g_over_the_root_of_v():
    first, second = torch.randn(2, 2, 3, dtype=torch.float64).unbind()
    weight, optimizer, _ = stepped("adamw", [first], weight_decay=0.1)
    group = optimizer.param_groups[0]
    torch.testing.assert_close(contributed(optimizer, group, weight), first.sign(), rtol=1e-6, atol=1e-6)
    weight, optimizer, _ = stepped("adamw", [first, second], weight_decay=0.1)
    v = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    torch.testing.assert_close(contributed(optimizer, optimizer.param_groups[0], weight), second / (v.sqrt() + 1e-8))


@pytest.mark.parametrize("name, decay", [("adam", 0.1), ("sgd", 0.1), ("lion", 0.1), ("scion", 0.1), ("muon", 0.0)])
def test_none_where_there_is_no_such_form(name, decay):
    weight, optimizer, _ = stepped(name, [torch.randn(2, 3, dtype=torch.float64)], weight_decay=decay)
    assert contributed(optimizer, optimizer.param_groups[0], weight) is None


def test_none_without_a_gradient_or_a_state():
    model = nn.Linear(3, 2, bias=False)
    optimizer = build_optimizer(model, "adamw", lr=0.1)
    assert contributed(optimizer, optimizer.param_groups[0], model.weight) is None
    model.weight.grad = torch.ones_like(model.weight)
    assert contributed(optimizer, optimizer.param_groups[0], model.weight) is None


def test_numbers_without_a_gradient_are_not_active():
    g = torch.ones(2, 3, dtype=torch.float64)
    g[0, 0] = 0
    weight, optimizer, _ = stepped("adamw", [g, g])
    assert active_numbers(optimizer, weight) == 5
    weight, optimizer, _ = stepped("sgd", [g])
    assert active_numbers(optimizer, weight) == 6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_products_of_many_layers(layout):
    """Also where a kernel lies in memory in another order than its axes."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)).to(memory_format=layout)
    optimizer = build_optimizer(model, "adamw", lr=0.1, weight_decay=0.1)
    model(torch.randn(2, 3, 5, 5)).square().mean().backward()
    parameters = list(model.parameters())
    parameters[3].grad = None
    before = [p.detach().clone() for p in parameters]
    flat = [
        b.permute(0, 2, 3, 1).reshape(-1) if b.ndim == 4 and layout is torch.channels_last else b.flatten()
        for b in before
    ]
    optimizer.step()
    got = minibatches(optimizer, parameters, flat, torch.float64)
    assert got.shape == (5, 4) and got.dtype == torch.float64
    assert got[:4, 3].isnan().all() and got[4].tolist() == [108.0, 4.0, 8.0, 2.0]
    for n in range(3):
        g, w = parameters[n].grad, before[n]
        q = g / (g.abs() + 1e-8)  # the first step: v is g squared
        expected = torch.stack([q.square().sum(), (w * q).sum(), (w * g).sum(), g.square().sum()])
        torch.testing.assert_close(got[:4, n], expected.double(), rtol=1e-4, atol=1e-5)


def test_a_layer_under_a_normalisation_has_no_radial_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.LayerNorm(5, elementwise_affine=False, eps=0.0)).double()
    optimizer = build_optimizer(model, "sgd", lr=0.1)
    (model(torch.randn(7, 6, dtype=torch.float64)) ** 3).mean().backward()
    parameters = list(model.parameters())
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    _, drift, radial, gradient, _ = minibatches(optimizer, parameters, before, torch.float64)[:, 0]
    assert gradient > 1e-4 and abs(radial) < 1e-12 and abs(drift) < 1e-11


def test_the_monitor_tells_contributions_at_recorded_steps():
    from clipedu.norms import COLUMNS, NormMonitor

    torch.manual_seed(0)
    model = nn.Linear(5, 4).double()
    optimizer = build_optimizer(model, "adamw", lr=0.01, weight_decay=0.1)
    expected = []
    with NormMonitor(model, optimizer, every=2, minibatch=True) as monitor:
        for step in range(5):
            optimizer.zero_grad()
            (model(torch.randn(3, 5, dtype=torch.float64)) - 1).square().sum().backward()
            w, g = model.weight.detach().clone(), model.weight.grad.clone()
            optimizer.step()
            if step % 2 == 0:
                state = optimizer.state[model.weight]
                q = g / ((state["exp_avg_sq"] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
                cosines = [(w * x).sum() / (w.norm() * x.norm()) for x in (q, g)]
                expected.append([q.norm().item(), *map(float, cosines), 20.0])
    rows = monitor.frame().query("layer == 'weight'")
    assert list(rows.columns) == [*COLUMNS, "contribution", "drift", "radial", "active"] and list(rows["step"]) == [
        0,
        2,
        4,
    ]
    assert rows[["contribution", "drift", "radial", "active"]].to_numpy() == pytest.approx(
        torch.tensor(expected).numpy()
    )


def test_the_monitor_after_a_step_without_a_gradient_and_with_no_steps():
    from clipedu.norms import NormMonitor

    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, "lion", lr=0.01)
    with NormMonitor(model, optimizer, minibatch=True) as monitor:
        assert len(monitor.frame()) == 0 and "drift" in monitor.frame()
        optimizer.step()
    assert monitor.frame()["drift"].isna().all() and monitor.frame()["active"].tolist() == [6, 2]
